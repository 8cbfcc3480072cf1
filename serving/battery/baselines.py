"""The simple baselines that a manifest carries as plain numbers, so that `remem evaluate` prints them beside the model.

`baselines` of a manifest maps a name to one of

- `{"kind": "constant", "value": v}`
- `{"kind": "linear", "features": [...], "weights": [...], "intercept": b}`
- `{"kind": "log10_linear", ...}`, the same as a power of ten
- `{"kind": "fade_line", "window": n, "otherwise": life}` (online): a straight line through a cell's last n capacities
  to its end of life; a life of `otherwise` cycles where they do not fall.

Features are columns of `data.battery.early` (early) or of the cycles table, `cycle` included (online). All but the fade
line forecast what the bundle's output names: cycle life (early) or remaining life (online), in cycles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from ...data.battery.early import EarlyFeatures
from ..bundle import Bundle
from .capacity import end_ah

KINDS = ("constant", "linear", "log10_linear", "fade_line")


def early_baselines(bundle: Bundle, cells: EarlyFeatures) -> dict[str, np.ndarray]:
    """Cycle life of each cell, (N,), by the name of the baseline."""
    columns = dict(zip(cells.names, cells.x.T, strict=True))
    specs = bundle.manifest["baselines"]
    return {name: _formula(bundle, name, spec, columns, len(cells.cell_id)) for name, spec in specs.items()}


def online_baselines(bundle: Bundle, cycles: pl.DataFrame) -> dict[str, np.ndarray]:
    """Remaining life at each row, (rows,), by the name of the baseline; `cycles` sorted by cell and cycle."""
    columns = {
        name: cycles[name].cast(pl.Float64).to_numpy()
        for name in cycles.columns
        if cycles[name].dtype.is_numeric()
    }
    return {
        name: _fade_line(bundle, name, spec, cycles)
        if spec["kind"] == "fade_line"
        else _formula(bundle, name, spec, columns, cycles.height)
        for name, spec in bundle.manifest["baselines"].items()
    }


def _formula(
    bundle: Bundle, name: str, spec: Mapping[str, Any], columns: Mapping[str, np.ndarray], rows: int
) -> np.ndarray:
    if spec["kind"] == "constant":
        return np.full(rows, float(spec["value"]))
    if spec["kind"] not in ("linear", "log10_linear"):
        raise ValueError(
            f"{bundle.path}: baseline {name} is of kind '{spec['kind']}'; task '{bundle.task}' knows {', '.join(KINDS)}"
        )
    absent = [feature for feature in spec["features"] if feature not in columns]
    if absent:
        raise ValueError(
            f"{bundle.path}: baseline {name} needs {absent}, which the table lacks; it has {[*columns]}"
        )
    terms = [
        weight * columns[feature] for weight, feature in zip(spec["weights"], spec["features"], strict=True)
    ]
    total = sum(terms, np.full(rows, float(spec["intercept"])))
    return np.maximum(10.0**total if spec["kind"] == "log10_linear" else total, 0.0)


def _fade_line(bundle: Bundle, name: str, spec: Mapping[str, Any], cycles: pl.DataFrame) -> np.ndarray:
    parts = []
    for cell in cycles.partition_by("cell_id", maintain_order=True):
        group = cell["group"][0] if "group" in cell.columns else None
        end = end_ah(bundle, group)
        if end is None:
            raise ValueError(
                f"{bundle.path}: baseline {name} needs nominal_capacity_ah and eol_fraction in the manifest, for cell "
                f"{cell['cell_id'][0]} of group {group!r} too; add a column group, or export the bundle again"
            )
        cycle, capacity = (
            cell[c].cast(pl.Float64).fill_null(np.nan).to_numpy() for c in ("cycle", "capacity_ah")
        )
        at, slope, middle = _line(cycle, capacity, int(spec["window"]))
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.where(slope < 0, at + (end - middle) / slope, spec["otherwise"])
        parts.append(np.maximum(ends - cycle, 0.0))
    return np.concatenate(parts)


def _line(x: np.ndarray, y: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least-squares line through the last `window` known points at every row: mean x, slope, mean y.

    A slope of 0 where fewer than two points are known.
    """
    known = np.isfinite(y)
    x0, y0 = x.mean(), y[known].mean() if known.any() else 0.0  # sums of centred numbers keep their digits
    u, v = np.where(known, x - x0, 0.0), np.where(known, y - y0, 0.0)

    def last(values: np.ndarray) -> np.ndarray:
        total = np.concatenate([[0.0], np.cumsum(values)])
        row = np.arange(1, len(values) + 1)
        return total[row] - total[np.maximum(row - window, 0)]

    n = np.maximum(last(known.astype(float)), 1.0)
    mean_u, mean_v = last(u) / n, last(v) / n
    spread = last(u * u) - n * mean_u**2
    shared = last(u * v) - n * mean_u * mean_v
    slope = np.divide(shared, spread, out=np.zeros_like(spread), where=spread > 1e-9)
    return x0 + mean_u, slope, y0 + mean_v

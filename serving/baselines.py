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

from ..data.battery.early import EarlyFeatures
from .bundle import Bundle

KINDS = ("constant", "linear", "log10_linear", "fade_line")


def early_baselines(bundle: Bundle, cells: EarlyFeatures) -> dict[str, np.ndarray]:
    """Cycle life of each cell, (N,), by the name of the baseline."""
    columns = dict(zip(cells.names, cells.x.T, strict=True))
    specs = bundle.manifest["baselines"]
    return {name: _formula(bundle, name, spec, columns, len(cells.cell_id)) for name, spec in specs.items()}


def online_baselines(bundle: Bundle, cycles: pl.DataFrame) -> dict[str, np.ndarray]:
    """Remaining life at each row, (rows,), by the name of the baseline; `cycles` sorted by cell and cycle."""
    columns = {
        name: cycles[name].cast(pl.Float64).to_numpy() for name in cycles.columns if cycles[name].dtype.is_numeric()
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
        raise ValueError(f"{bundle.path}: baseline {name} needs {absent}, which the table lacks; it has {[*columns]}")
    terms = [weight * columns[feature] for weight, feature in zip(spec["weights"], spec["features"], strict=True)]
    total = sum(terms, np.full(rows, float(spec["intercept"])))
    return np.maximum(10.0**total if spec["kind"] == "log10_linear" else total, 0.0)


def _fade_line(bundle: Bundle, name: str, spec: Mapping[str, Any], cycles: pl.DataFrame) -> np.ndarray:
    given = bundle.manifest["input"]
    if given["nominal_capacity_ah"] is None or given["eol_fraction"] is None:
        raise ValueError(f"{bundle.path}: baseline {name} needs nominal_capacity_ah and eol_fraction in the manifest")
    end = given["nominal_capacity_ah"] * given["eol_fraction"]
    parts = []
    for cell in cycles.partition_by("cell_id", maintain_order=True):
        cycle, capacity = (cell[c].cast(pl.Float64).to_numpy() for c in ("cycle", "capacity_ah"))
        for i in range(len(cycle)):
            x, y = cycle[max(0, i + 1 - spec["window"]) : i + 1], capacity[max(0, i + 1 - spec["window"]) : i + 1]
            x, y = x[np.isfinite(y)], y[np.isfinite(y)]
            slope = np.polyfit(x, y, 1)[0] if len(x) > 1 else 0.0
            ends = (end - y.mean()) / slope + x.mean() if slope < 0 else spec["otherwise"]
            parts.append(max(ends - cycle[i], 0.0))
    return np.array(parts)

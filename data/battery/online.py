"""Remaining useful life after every cycle: labels, the raw sequences a model steps through, and simple floors.

Labels look ahead, features never do: `online_sequences` hands over each cycle's own measurements, and whatever a model
remembers of earlier ones is in its state. The end of life of a cell is the first cycle from which the running median of
its capacity stays at or below `eol_fraction` of the nominal capacity; its remaining life is that cycle minus this one.

Shape legend: R rows of the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.ndimage import median_filter

from ..windows import Sequences, pad_sequences
from .schema import CHARGE_FEATURES

NOMINAL_CAPACITY_AH: dict[str, float | dict[str, float]] = {
    "hust": 1.1,
    "xjtu": 2.0,
    "tongji": {"Dataset_1_NCA_battery": 3.5, "Dataset_2_NCM_battery": 3.5, "Dataset_3_NCM_NCA_battery": 2.5},
}
"""Nominal capacity (Ah) of each set, by `group` where its cells differ."""

MEDIAN = 5
"""Cycles of the centred running median through which an end of life is looked for."""

TAIL = 30
"""Last cycles whose fade carries a record that stops just short of its end of life."""

ENDS = ("reached", "extrapolated", "not_reached", "begins_below")


@dataclass(frozen=True)
class Labels:
    """Remaining lives, and what became of each cell.

    frame: the table with a column `rul` (Float64, cycles; below 0 past the end of life, null without one).
    cells: one row per cell: `cell_id, rows, eol_cycle, end`, where `end` is one of `ENDS`.
    """

    frame: pl.DataFrame
    cells: pl.DataFrame

    @property
    def counts(self) -> dict[str, int]:
        """Number of cells of each kind of end."""
        ends = self.cells["end"].to_list()
        return {end: ends.count(end) for end in ENDS}


def label_rul(
    cycles: pl.DataFrame,
    *,
    nominal_capacity_ah: float | Mapping[str, float],
    eol_fraction: float = 0.8,
    tolerance: float = 0.005,
) -> Labels:
    """Remaining life at every row of a cycles table, in cycles.

    Args:
        cycles: `cell_id, cycle, capacity_ah`, sorted by cycle inside each cell.
        nominal_capacity_ah: capacity of a new cell, one number or one for each value of the column `group`.
        eol_fraction: share of it at which a life ends.
        tolerance: a record that stops above the end of life by at most this share of the nominal capacity is continued
            along its last fade (some sets are cut at the very cycle of interest). Other cells that never get there
            have no label.

    Raises:
        ValueError: where a column or a group's capacity is missing, or a number is out of range.
    """
    if not 0 < eol_fraction < 1 or tolerance < 0:
        raise ValueError(
            f"label_rul: eol_fraction is {eol_fraction} and tolerance {tolerance}; wanted 0 < eol_fraction < 1 and "
            "tolerance >= 0"
        )
    rows, rul = [], []
    for cell in cycles.partition_by("cell_id", maintain_order=True):
        cycle = cell["cycle"].to_numpy().astype(np.float64)
        capacity = cell["capacity_ah"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        nominal = _nominal(cell, nominal_capacity_ah)
        eol, end = _end_of_life(cycle, capacity, eol_fraction * nominal, tolerance * nominal)
        rows.append((cell["cell_id"][0], cell.height, eol, end))
        rul.append(np.full(cell.height, np.nan) if eol is None else eol - cycle)
    table = pl.DataFrame(
        rows,
        schema={"cell_id": pl.String, "rows": pl.Int64, "eol_cycle": pl.Float64, "end": pl.String},
        orient="row",
    )
    order = pl.concat(cycles.with_row_index("_row").partition_by("cell_id", maintain_order=True))["_row"]
    back = np.argsort(order.to_numpy())
    labels = pl.Series("rul", np.concatenate(rul)[back]).fill_nan(None)
    return Labels(cycles.with_columns(labels), table)


def online_sequences(cycles: pl.DataFrame) -> Sequences:
    """One step per row of a cycles table: `cycle`, `capacity_ah` and those of `CHARGE_FEATURES` it holds.

    Nothing is scaled, filled or smoothed: the model's graph does that. Values that are missing stay NaN, infinite ones
    become NaN. A column `rul` (see `label_rul`) becomes the target `y`, NaN where unknown.

    Raises:
        ValueError: where a column is missing, the table is empty, or the cycles of a cell do not increase.
    """
    names = ["cycle", "capacity_ah", *(name for name in CHARGE_FEATURES if name in cycles.columns)]
    target = "rul" if "rul" in cycles.columns else None
    steps = pad_sequences(cycles, by="cell_id", position="cycle", features=names, target=target)
    steps.x[np.isinf(steps.x)] = np.nan
    return steps


def floors(labels: Labels, *, window: int = 50) -> dict[str, dict[str, object]]:
    """Two forecasts that any model must beat, as the plain numbers of a manifest's `baselines`.

    "mean life": the mean life of the labelled cells minus the cycle. "fade line": the straight line through the last
    `window` capacities of a cell, and the mean life where they do not fall.

    Raises:
        ValueError: where no cell has a label.
    """
    life = labels.cells["eol_cycle"].mean()
    if not isinstance(life, float):
        raise ValueError(f"floors: no cell reaches its end of life ({labels.counts}); give cells that do")
    return {
        "mean life": {"kind": "linear", "features": ["cycle"], "weights": [-1.0], "intercept": life},
        "fade line": {"kind": "fade_line", "window": window, "otherwise": life},
    }


def _nominal(cell: pl.DataFrame, nominal_capacity_ah: float | Mapping[str, float]) -> float:
    if not isinstance(nominal_capacity_ah, Mapping):
        nominal = float(nominal_capacity_ah)
    elif "group" in cell.columns and cell["group"][0] in nominal_capacity_ah:
        nominal = float(nominal_capacity_ah[cell["group"][0]])
    else:
        group = cell["group"][0] if "group" in cell.columns else None
        raise ValueError(
            f"cell {cell['cell_id'][0]}: nominal_capacity_ah is by group, but its group is {group!r}; known: "
            f"{sorted(nominal_capacity_ah)}; add a column group, or give one number for all cells"
        )
    if not nominal > 0:
        raise ValueError(
            f"cell {cell['cell_id'][0]}: nominal_capacity_ah is {nominal}; wanted a capacity > 0 in Ah"
        )
    return nominal


def _end_of_life(
    cycle: np.ndarray, capacity: np.ndarray, level: float, slack: float
) -> tuple[float | None, str]:
    """The cycle at which the smoothed capacity comes to stay at or below `level`, and how that is known."""
    known = np.isfinite(capacity)
    cycle, capacity = cycle[known], capacity[known]
    if not len(capacity):
        return None, "not_reached"
    smooth = median_filter(capacity, size=MEDIAN, mode="nearest")
    later = np.flatnonzero(smooth > level)
    if not len(later):
        return (
            None,
            "begins_below",
        )  # dead from the first row: another nominal capacity, or no life to learn from
    first = later[-1] + 1
    if first < len(smooth):
        return float(cycle[first]), "reached"
    tail = slice(-TAIL, None)
    if smooth[-1] - level <= slack and len(smooth) > MEDIAN:
        slope = np.polyfit(cycle[tail] - cycle[-1], smooth[tail], 1)[0]
        ahead = (smooth[-1] - level) / -slope if slope < 0 else np.inf
        if ahead <= TAIL:
            return float(cycle[-1] + np.ceil(ahead)), "extrapolated"
    return None, "not_reached"

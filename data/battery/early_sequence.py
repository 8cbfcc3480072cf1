"""A cell's first cycles as a sequence: after each cycle, what its discharge curves have told so far.

Row t of a cell holds features of the cycles up to t and of no later one, so a model that reads the sequence can
be asked after any cycle. Two estimates of how the curve Q(V) moves are summarised, both scaled to a span of 90
cycles, so that a feature keeps its meaning while the history grows (at cycle 100 the first is about
Q_100(V) - Q_10(V) of Severson et al., Nature Energy 4, 2019):

* `dq_`: the mean of the last five curves minus the mean of the curves of cycles 8 to 12;
* `trend_`: at each voltage the slope of a straight line through all curves from cycle 6 on, which is quieter.

Both use the true cycle numbers, so missing cycles cost precision and bring no bias. Spikes are replaced by looking
back only.

Shape legend: N cells, C cycles, V voltages, B cycles looked back at, F features.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from ..windows import Sequences
from .schema import conform, curve_matrix

UNITS = {
    "dq_log_var": "log10(Ah^2)",
    "dq_log_min": "log10(Ah)",
    "trend_log_var": "log10(Ah^2)",
    "trend_log_min": "log10(Ah)",
    "q_first": "Ah",
    "q_gain": "Ah",
    "q_slope": "Ah per 90 cycles",
    "log_cycle": "log10(cycle)",
}
"""Unit of each feature, in the order of the last axis."""

SPAN = 90.0  # cycles between the two curves of the papers
REFERENCE = (8, 12)  # cycles whose mean curve is the young cell
SETTLED = 6  # the first cycles move for reasons that say little about life
STAND_IN = 1e-6  # weight of cycles that count only while the wanted ones are not there
BACK = 7  # curves looked at when a point is judged, the curve itself among them
LATEST = 5  # curves averaged as "now"
SPIKE = 0.05  # of the capacity; sound curves move by less than 0.02 from one cycle to the next
FLOOR = 1e-5  # Ah, keeps the logarithms of a cell that did not move finite
SHORTEST_SPAN = 5.0  # cycles; below, noise divided by the span would be all there is
SMALLEST_SPREAD = 2.0  # cycles squared, the same for the line


def early_sequences(curves: pl.DataFrame, *, max_cycle: int = 100) -> Sequences:
    """One sequence per cell, one row per cycle up to `max_cycle` that has a curve.

    Args:
        curves: `cell_id, cycle, q_ah` (1000 values in Ah on linspace(3.6, 2.0) V), optionally `cycle_life`. Any
            order; cycles may be missing and curves may hold spikes or NaN.
        max_cycle: later cycles are not looked at.

    Returns:
        N cells in order of first appearance; `position` is the cycle number, `y` (N,) the cycle life where the
        table has one. A cycle without a plausible curve takes the curve before it; before the first plausible curve
        cycles are left out.

    Raises:
        ValueError: a column is missing or malformed, a cycle is given twice, or a cell has no plausible curve up to
            `max_cycle`.
    """
    curves, _ = conform(curves, "curves", source="early_sequences")
    cells = curves.partition_by("cell_id", maintain_order=True)
    ids = tuple(str(cell["cell_id"][0]) for cell in cells)
    parts = [
        _cell(cell.filter(pl.col("cycle") <= max_cycle), name, max_cycle)
        for cell, name in zip(cells, ids, strict=True)
    ]
    longest = max(len(cycle) for cycle, _ in parts)
    x = np.zeros((len(parts), longest, len(UNITS)), np.float32)
    mask = np.zeros((len(parts), longest), bool)
    position = np.zeros((len(parts), longest), np.int64)
    for i, (cycle, features) in enumerate(parts):
        x[i, : len(cycle)], mask[i, : len(cycle)], position[i, : len(cycle)] = features, True, cycle
    y = None
    if "cycle_life" in curves.columns:
        y = np.array([cell["cycle_life"][0] for cell in cells], np.float32)
    return Sequences(ids, x, mask, position, tuple(UNITS), y)


def _cell(cell: pl.DataFrame, name: str, max_cycle: int) -> tuple[np.ndarray, np.ndarray]:
    """Cycle numbers (C,) and features (C, F)."""
    cycle = cell["cycle"].to_numpy().astype(np.int64)
    q_CV = curve_matrix(cell).astype(np.float64) if cell.height else np.empty((0, 0))
    good = plausible(q_CV)
    if not good.any():
        raise ValueError(
            f"early_sequences: cell {name} has {len(cycle)} curves up to cycle {max_cycle}, none of them plausible "
            "(from about 0 Ah at 3.6 V to the capacity at 2.0 V); check units and sign, or drop the cell"
        )
    first = int(good.argmax())
    cycle, q_CV = cycle[first:], look_back(cycle[first:], q_CV[first:], good[first:])
    return cycle, _features(cycle.astype(np.float64), q_CV)


def plausible(q_CV: np.ndarray) -> np.ndarray:
    """(C,) whether a curve lies between zero and its own capacity, give or take a spike, and has few holes."""
    if not q_CV.size:
        return np.zeros(len(q_CV), bool)
    lost = ~np.isfinite(q_CV)
    whole_CV = np.where(lost, 0.0, q_CV)
    capacity_C = np.median(whole_CV[:, -10:], axis=1)
    inside_CV = (whole_CV > -SPIKE * capacity_C[:, None]) & (whole_CV < (1 + SPIKE) * capacity_C[:, None])
    return (capacity_C > 0) & inside_CV.all(axis=1) & (lost.mean(axis=1) < SPIKE)


def look_back(cycle_C: np.ndarray, q_CV: np.ndarray, good_C: np.ndarray) -> np.ndarray:
    """The curves with bad ones and holes replaced by the curve before, and spikes by the median over the last ones.

    A lasting change passes once it holds the majority of the last curves; where cycles are missing, more may have
    happened between two curves, so more is allowed.

    Args:
        cycle_C: increasing cycle numbers.
        q_CV: their curves.
        good_C: which curves are plausible; the first one is.
    """
    row_C, grid_V = np.arange(len(q_CV)), np.arange(q_CV.shape[1])
    known_CV = np.isfinite(q_CV) & good_C[:, None]
    whole_CV = np.where(known_CV, q_CV, 0.0)
    whole_CV[0] = np.interp(grid_V, grid_V[known_CV[0]], q_CV[0, known_CV[0]])
    latest_CV = np.maximum.accumulate(np.where(known_CV, row_C[:, None], 0), axis=0)
    whole_CV = np.take_along_axis(whole_CV, latest_CV, axis=0)
    back_CB = np.maximum(row_C[:, None] - np.arange(BACK), 0)
    middle_CV = np.median(whole_CV[back_CB], axis=1)
    span_C = cycle_C - cycle_C[back_CB[:, -1]] + 1
    allowed_C = SPIKE * middle_CV[:, -1] * np.maximum(span_C / BACK, 1.0)
    return np.where(np.abs(whole_CV - middle_CV) <= allowed_C[:, None], whole_CV, middle_CV)


def _features(cycle_C: np.ndarray, q_CV: np.ndarray) -> np.ndarray:
    """(C, F) features; row t uses rows 0..t."""
    before_C, young_C = cycle_C < REFERENCE[0], cycle_C <= REFERENCE[1]
    prefer_C = np.where(young_C, np.where(before_C, STAND_IN, 1.0), 0.0)
    prefer_C[:LATEST] = np.maximum(prefer_C[:LATEST], STAND_IN**2)  # for a history that begins later still
    then_CV, then_C = _running_means(prefer_C, q_CV, cycle_C)
    now_CV, now_C = _latest_means(q_CV, cycle_C)
    dq_CV = (now_CV - then_CV) * (SPAN / np.maximum(now_C - then_C, SHORTEST_SPAN))[:, None]
    trend_CV = SPAN * _running_slope(np.where(cycle_C < SETTLED, STAND_IN, 1.0), q_CV, cycle_C)
    first_C = np.array([np.median(q_CV[: min(t, 3), -1]) for t in range(1, len(q_CV) + 1)])
    columns = {
        "dq_log_var": _log_var(dq_CV),
        "dq_log_min": _log_min(dq_CV),
        "trend_log_var": _log_var(trend_CV),
        "trend_log_min": _log_min(trend_CV),
        "q_first": first_C,
        "q_gain": np.maximum.accumulate(now_CV[:, -1]) - first_C,
        "q_slope": trend_CV[:, -1],
        "log_cycle": np.log10(np.maximum(cycle_C, 1.0)),  # some cyclers count from 0
    }
    return np.stack([columns[name] for name in UNITS], axis=1)


def _running_means(weight_C: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
    """Weighted mean over rows 0..t of each of `values` (C,) or (C, V), for every t."""
    total_C = np.cumsum(weight_C)
    return [(np.cumsum(weight_C * value.T, axis=-1) / total_C).T for value in values]


def _running_slope(weight_C: np.ndarray, q_CV: np.ndarray, cycle_C: np.ndarray) -> np.ndarray:
    """(C, V) Ah per cycle of the least-squares line through rows 0..t, shrunk while they span few cycles."""
    q, c, qc, cc = _running_means(weight_C, q_CV, cycle_C, q_CV * cycle_C[:, None], cycle_C**2)
    return (qc - q * c[:, None]) / np.maximum(cc - c**2, SMALLEST_SPREAD)[:, None]


def _latest_means(*values: np.ndarray) -> list[np.ndarray]:
    """Mean over the last `LATEST` rows (fewer at the start) of each of `values` (C,) or (C, V), for every row."""
    means = []
    for value in values:
        total = np.cumsum(value, axis=0)
        total[LATEST:] = total[LATEST:] - total[:-LATEST]
        count_C = np.minimum(np.arange(1, len(value) + 1), LATEST)
        means.append((total.T / count_C).T)
    return means


def _log_var(d_CV: np.ndarray) -> np.ndarray:
    return np.log10(np.maximum(d_CV.var(axis=1), FLOOR**2))


def _log_min(d_CV: np.ndarray) -> np.ndarray:
    return np.log10(np.maximum(-d_CV.min(axis=1), FLOOR))

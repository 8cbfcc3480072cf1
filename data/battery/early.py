"""Features of a cell's first k cycles for early prediction of its cycle life.

The measured object is the discharge curve of each cycle: capacity Q (Ah) as a function of voltage on one
grid of 1000 voltages. How the curve moves between an early and a late cycle, dQ(V) = Q_late(V) - Q_early(V),
tells how long the cell will live (Severson et al., Nature Energy 4, 2019; Attia et al., J. Electrochem. Soc.,
2021). Two forms:

* `robust=True` (default): spikes are repaired and counted; each of the two curves is a weighted fit through
  the cycles around it, so that a missing cycle costs little; and a straight line through all cycles at every
  voltage gives a second, quieter dQ (the `trend_` features).
* `robust=False`: the papers' form, two single cycles taken as they are. It gives their published figures.

Shape legend: N cells, C cycles, V voltages, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from .spikes import neighbour_median, spikes

VOLTAGES = 1000
SHORTEST = 5  # cycles that a history must be long
SHORT = 0.9  # of max_cycle: a history that ends before is flagged
FEWEST = 3  # cycles that must be there: a slope and something left over
MATRIX_STEP = 10  # every tenth voltage, as in the re-analysis: 100 columns
REACH = 20.0  # cycles on either side that a smoothed curve is fitted through
LEVEL_REACH = 10.0  # the same for a capacity, which moves faster in the first cycles
LEAST = 5  # cycles a smoothed curve is fitted through at least, however far away they are
END = 0.15  # of max_cycle: the last cycles, whose rate of fade says how the cell is now
FADE_SPAN = 30  # last cycles over which the present rate of fade is measured
FAST_FADE = 5e-4  # of the present capacity per cycle: a fifth of it gone within 400 cycles
FLOOR = 1e-12  # keeps the logarithms of a cell that did not move at all finite

MATRIX = tuple(f"dq_{i:03d}" for i in range(0, VOLTAGES, MATRIX_STEP))
GROUPS: dict[str, tuple[str, ...]] = {
    "variance": ("dq_log_var",),
    "discharge": ("dq_log_min", "dq_log_var", "dq_log_skew", "dq_log_kurt", "q_first", "q_gain"),
    "full": ("dq_log_min", "dq_log_var", "q_slope", "q_intercept", "q_first", "q_slope_last"),
    "shape": ("dq_log_min", "dq_log_var", "dq_skew", "dq_log_kurt", "q_first", "q_gain"),
    "trend": ("trend_log_min", "trend_log_var", "q_slope", "q_intercept", "q_first", "q_slope_last"),
    "physical": ("last_cycle", "q_now", "fade_now"),
    "matrix": MATRIX,
}
UNITS: dict[str, str] = {
    "dq_log_var": "log10(Ah^2)",
    "dq_log_min": "log10(Ah)",
    "dq_log_skew": "log10(1)",
    "dq_skew": "1",
    "dq_log_kurt": "log10(1)",
    "trend_log_min": "log10(Ah)",
    "trend_log_var": "log10(Ah^2)",
    "q_first": "Ah",
    "q_gain": "Ah",
    "q_slope": "Ah/cycle",
    "q_intercept": "Ah",
    "q_slope_last": "Ah/cycle",
    "last_cycle": "cycle",
    "q_now": "Ah",
    "fade_now": "Ah/cycle",
} | dict.fromkeys(MATRIX, "Ah")


@dataclass(frozen=True)
class EarlyFeatures:
    """Features of N cells.

    cell_id: N names, in order of first appearance.
    x: (N, F) float64, finite.
    names: F feature names; `columns` finds them. units: unit of each name.
    last_cycle: (N,) int64, last cycle used.
    repaired: (N,) int64, values of Q replaced because they were spikes or missing.
    flags: per cell, any of "capacity_spike", "cycle_gap", "short_history", "already_failing".
    cycle_life: (N,) float64 where the table has that column, else None.
    """

    cell_id: tuple[str, ...]
    x: np.ndarray
    names: tuple[str, ...]
    units: dict[str, str]
    last_cycle: np.ndarray
    repaired: np.ndarray
    flags: tuple[tuple[str, ...], ...]
    cycle_life: np.ndarray | None = None

    @property
    def lives(self) -> np.ndarray:
        """(N,) `cycle_life` where every cell has one.

        Raises:
            ValueError: where the table had no such column, or a cell's life is missing.
        """
        if self.cycle_life is None or not np.isfinite(self.cycle_life).all():
            raise ValueError("every cell needs a cycle_life; add the column, or drop the cells without one")
        return self.cycle_life

    def columns(self, names: tuple[str, ...]) -> np.ndarray:
        """(N, len(names)) columns of `x`."""
        return self.x[:, [self.names.index(name) for name in names]]


def early_features(curves: pl.DataFrame, *, max_cycle: int = 100, robust: bool = True) -> EarlyFeatures:
    """Features from the cycles up to `max_cycle` of every cell.

    Args:
        curves: one row per cell and cycle: `cell_id`, `cycle` (integer), `q_ah` (1000 values in Ah on
            linspace(3.6, 2.0) V), optionally `cycle_life`. Any order; cycles may be missing.
        max_cycle: 5 or more, 100 in the papers; later cycles are not looked at.
        robust: False for the papers' form (nearest single cycles, nothing repaired or smoothed).

    Raises:
        ValueError: where columns are missing, a curve has another length, a cycle is given twice or a cell
            has fewer than three usable cycles.
    """
    if max_cycle < SHORTEST:
        raise ValueError(f"early_features: max_cycle is {max_cycle}; use at least {SHORTEST}")
    cells = [_one_cell(part, max_cycle, robust) for part in _cells(curves, max_cycle)]
    names = tuple(UNITS)
    return EarlyFeatures(
        cell_id=tuple(cell.cell_id for cell in cells),
        x=np.array([[cell.values[name] for name in names] for cell in cells]),
        names=names,
        units=dict(UNITS),
        last_cycle=np.array([int(cell.values["last_cycle"]) for cell in cells]),
        repaired=np.array([cell.repaired for cell in cells]),
        flags=tuple(cell.flags for cell in cells),
        cycle_life=np.array([cell.life for cell in cells]) if "cycle_life" in curves.columns else None,
    )


def thin_cycles(curves: pl.DataFrame, fraction: float, *, seed: int = 0) -> pl.DataFrame:
    """`curves` with a random `fraction` of each cell's cycles left out, as real loggers leave them out."""
    draw = np.random.default_rng(seed).random(curves.height)
    rank = pl.Series("rank", draw).to_frame()
    kept = pl.col("rank").rank("ordinal").over("cell_id") > fraction * pl.len().over("cell_id")
    return pl.concat([curves, rank], how="horizontal").filter(kept).drop("rank")


@dataclass(frozen=True)
class _Cell:
    cell_id: str
    values: dict[str, float]
    repaired: int
    flags: tuple[str, ...]
    life: float


def _cells(curves: pl.DataFrame, max_cycle: int) -> list[pl.DataFrame]:
    missing = [name for name in ("cell_id", "cycle", "q_ah") if name not in curves.columns]
    if missing:
        raise ValueError(
            f"curves: columns {missing} are missing; it has {curves.columns}; rename them with --columns"
        )
    if curves.height == 0:
        raise ValueError("curves: the table is empty; give one row per cell and cycle")
    early = curves.filter(pl.col("cycle") <= max_cycle)
    lost = set(curves["cell_id"].unique()) - set(early["cell_id"].unique())
    if lost:
        raise ValueError(f"curves: cells {sorted(lost)[:5]} have no cycle up to {max_cycle}; drop them")
    return early.partition_by("cell_id", maintain_order=True)


def _one_cell(part: pl.DataFrame, max_cycle: int, robust: bool) -> _Cell:
    part = part.sort("cycle")
    name = str(part["cell_id"][0])
    cycle = part["cycle"].to_numpy().astype(np.float64)
    if (np.diff(cycle) == 0).any():
        twice = int(cycle[:-1][np.diff(cycle) == 0][0])
        raise ValueError(f"curves: cell {name} has cycle {twice} twice; keep one row per cell and cycle")
    q_CV = _matrix(part["q_ah"], name)
    if len(cycle) < FEWEST:
        raise ValueError(
            f"curves: cell {name} has {len(cycle)} cycles up to {max_cycle}; at least {FEWEST} are needed"
        )
    repaired = 0
    if robust:
        q_CV, repaired = repair(q_CV, name)
    values = _features(cycle, q_CV, max_cycle, robust)
    flags = {
        "capacity_spike": repaired > 0,
        "cycle_gap": len(cycle) < 0.95 * (cycle[-1] - 1),  # cycle 1 is a formation cycle, not counted
        "short_history": cycle[-1] < SHORT * max_cycle,
        "already_failing": values["fade_now"] > FAST_FADE * values["q_now"],
    }
    known = part["cycle_life"][0] if "cycle_life" in part.columns else None
    life = np.nan if known is None else float(known)
    return _Cell(name, values, repaired, tuple(flag for flag, on in flags.items() if on), life)


def _matrix(q_ah: pl.Series, name: str) -> np.ndarray:
    """(C, V) float64 of a column of lists or arrays."""
    widths = q_ah.list.len() if isinstance(q_ah.dtype, pl.List) else q_ah.arr.len()
    if not (widths == VOLTAGES).all():
        shortest = min(widths.to_list())
        raise ValueError(
            f"curves: cell {name} has a curve of {shortest} values; every q_ah needs {VOLTAGES}, on "
            "linspace(3.6, 2.0) V: interpolate it to that grid"
        )
    return np.array(q_ah.explode().cast(pl.Float64).fill_null(np.nan).to_numpy()).reshape(-1, VOLTAGES)


def repair(q_CV: np.ndarray, name: str = "") -> tuple[np.ndarray, int]:
    """Replace spikes and missing values of one cell by the median over the neighbouring cycles.

    Returns the repaired (C, V) curves and how many values were replaced.
    """
    lost = ~np.isfinite(q_CV)
    if lost.all(axis=0).any():
        raise ValueError(f"curves: cell {name} has a voltage without any finite q_ah; drop the cell")
    bad, mended_CV = spikes(np.where(lost, np.nan, q_CV))
    if lost.any():
        near = neighbour_median(mended_CV, np.arange(len(q_CV)))
        near = np.where(np.isfinite(near), near, np.nanmedian(mended_CV, axis=0))
        mended_CV = np.where(lost, near, mended_CV)
    return mended_CV, int((bad | lost).sum())


def _features(cycle: np.ndarray, q_CV: np.ndarray, max_cycle: int, robust: bool) -> dict[str, float]:
    first = max(float(min(10, max(2, max_cycle // 5))), cycle[0])  # cycle 10 for the papers' 100
    last = min(float(max_cycle), cycle[-1])
    q_C = q_CV[:, -1]
    late, early = (_weights_at(cycle, at, REACH, robust) for at in (last, first))
    # A history that ends early moved for fewer cycles: bring it to the same span.
    span = (max_cycle - min(10, max(2, max_cycle // 5))) / max(last - first, 1.0) if robust else 1.0
    dq_V = (late - early) @ q_CV * span
    after = cycle >= min(first, cycle[-FEWEST])
    trend_V = _slope_weights(cycle[after]) @ q_CV[after] * (max_cycle - first)
    slope = _slope_weights(cycle) @ q_C
    end = _tail(cycle, END * max_cycle)
    recent = _tail(cycle, FADE_SPAN)
    level_C = np.stack([_weights_at(cycle, at, LEVEL_REACH, robust) for at in cycle]) @ q_C
    values = {
        "dq_log_var": _log10(dq_V.var()),
        "dq_log_min": _log10(dq_V.min()),
        "dq_log_skew": _log10(_moment(dq_V, 3)),
        "dq_skew": _moment(dq_V, 3),
        "dq_log_kurt": _log10(_moment(dq_V, 4)),
        "trend_log_min": _log10(trend_V.min()),
        "trend_log_var": _log10(trend_V.var()),
        "q_first": level_C[0],
        "q_gain": level_C.max() - level_C[0],
        "q_slope": slope,
        "q_intercept": q_C.mean() - slope * cycle.mean(),
        "q_slope_last": _median_slope(cycle[end], q_C[end]),
        "last_cycle": last,
        "q_now": float(np.median(q_C[-FEWEST:])),
        "fade_now": -(_slope_weights(cycle[recent]) @ q_C[recent]),
    }
    return values | dict(zip(MATRIX, dq_V[::MATRIX_STEP], strict=True))


def _weights_at(cycle: np.ndarray, at: float, reach: float, robust: bool) -> np.ndarray:
    """(C,) weights whose product with Q is its value at cycle `at`: the nearest cycle alone, or where robust
    a tricube-weighted straight line through the cycles within `reach`."""
    distance = np.abs(cycle - at)
    if not robust:
        return np.eye(len(cycle))[distance.argmin()]
    reach = max(reach, np.sort(distance)[min(LEAST, len(cycle)) - 1] + 1)
    weight = np.clip(1 - (distance / reach) ** 3, 0, None) ** 3
    basis = np.stack([np.ones_like(cycle), cycle - at], axis=1)
    normal = basis.T @ (weight[:, None] * basis) + np.diag([0.0, 1e-9])
    return np.linalg.solve(normal, basis.T * weight)[0]


def _slope_weights(cycle: np.ndarray) -> np.ndarray:
    """(C,) weights whose product with Q is its least-squares slope per cycle."""
    centred = cycle - cycle.mean()
    return centred / (centred @ centred)


def _tail(cycle: np.ndarray, span: float) -> np.ndarray:
    """Mask of the cycles less than `span` before the last one, at least three of them."""
    return cycle > min(cycle[-1] - span, cycle[-FEWEST] - 0.5)


def _log10(value: float) -> float:
    return float(np.log10(max(abs(value), FLOOR)))


def _moment(values: np.ndarray, order: int) -> float:
    """Standardised central moment: 3 the skewness, 4 the kurtosis. (scipy.stats would load torch where it is there.)"""
    centred = values - values.mean()
    return float((centred**order).mean() / max((centred**2).mean() ** (order / 2), FLOOR**order))


def _median_slope(x: np.ndarray, y: np.ndarray) -> float:
    """Median of the slopes between all pairs of points (Theil 1950, Sen 1968)."""
    i, j = np.triu_indices(len(x), 1)
    return float(np.median((y[j] - y[i]) / (x[j] - x[i])))

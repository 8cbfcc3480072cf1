"""Points that leave the neighbouring cycles by more than a cell can: interpolation errors of the source."""

from __future__ import annotations

import numpy as np

NEIGHBOURS = 3
"""Cycles looked at on either side."""

SPIKE_SHARE = 0.1
"""A point is a spike where it leaves the median of its neighbours by more than this share of the capacity."""
FOOT_SHARE = 0.02
"""In a row that holds a spike, points beyond this share belong to its foot: interpolation drags them along."""
BELOW_ZERO_SHARE = 0.03
"""A discharged capacity below zero by more than this share is a spike where its neighbours have none."""


def neighbour_median(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(R, K) median over the cycles around each of `rows` (R,) of one cell's (cycles, K) values, the row left out.

    NaN where no neighbour has a value.
    """
    padded = np.pad(values, ((NEIGHBOURS, NEIGHBOURS), (0, 0)), constant_values=np.nan)
    shifts = [s for s in range(2 * NEIGHBOURS + 1) if s != NEIGHBOURS]
    around = np.sort(np.stack([padded[rows + s] for s in shifts]), axis=0)  # NaN last
    n = np.isfinite(around).sum(axis=0, keepdims=True)
    low, high = np.maximum(n - 1, 0) // 2, n // 2
    middle = (np.take_along_axis(around, low, 0) + np.take_along_axis(around, high, 0)) / 2
    return np.where(n[0] > 0, middle[0], np.nan)


def spikes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spikes of one cell.

    Args:
        values: (cycles, K) in the order of cycles: curves, or K = 1 capacities. NaN is never a spike.

    Returns:
        (cycles, K) bool, and (cycles, K) the neighbours' median where a spike is, the value itself elsewhere.
    """
    values = np.asarray(values, np.float64)
    mask = np.zeros(values.shape, bool)
    mended = values.copy()
    finite = np.isfinite(values)
    if len(values) < 2 or not finite.any():
        return mask, mended
    size = _capacity(values)
    # a whole-life median is a poor neighbour but a cheap sieve: only rows that leave it can hold a spike
    typical = np.full(values.shape[1], np.nan)
    known = finite.any(axis=0)
    typical[known] = np.nanmedian(values[:, known], axis=0)
    with np.errstate(invalid="ignore"):
        far = np.abs(values - typical) > SPIKE_SHARE / 2 * size
        rows = np.flatnonzero((far | (values < -BELOW_ZERO_SHARE * size)).any(axis=1))
        median = neighbour_median(values, rows)
        away = np.abs(values[rows] - median)
        negative = (values[rows] < -BELOW_ZERO_SHARE * size) & (median >= -BELOW_ZERO_SHARE * size)
        bad = (away > SPIKE_SHARE * size) | negative
        bad |= bad.any(axis=1, keepdims=True) & (away > FOOT_SHARE * size)
        mask[rows] = bad
        mended[rows] = np.where(bad, median, values[rows])
    return mask, mended


def _capacity(values: np.ndarray) -> float:
    """Typical size of a cycle's largest value: for curves the capacity at the last volt."""
    return float(np.median([np.nanmax(np.abs(row)) for row in values if np.isfinite(row).any()]))

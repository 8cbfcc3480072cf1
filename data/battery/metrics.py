"""What a battery forecast is judged by. numpy only: training, `remem evaluate` and the benchmarks share it.

All errors are in cycles or fractions of the true value; n is the number of forecasts.
"""

from __future__ import annotations

import numpy as np


def life_metrics(
    truth: np.ndarray, point: np.ndarray, lo: np.ndarray | None = None, hi: np.ndarray | None = None
) -> dict[str, float]:
    """Errors of point forecasts and, where bounds are given, the honesty and cost of the interval.

    Args:
        truth, point, lo, hi: (n,) true and forecast life or remaining life, in cycles; truth > 0.

    Returns:
        n, rmse and mae (cycles), mape (fraction), within_15 (share of forecasts within 15 % of the truth;
        the "15 %-accuracy" of BatteryLife), and with bounds: coverage (share of truths inside) and width
        (median of (hi - lo) / truth).
    """
    truth, point = np.asarray(truth, float), np.asarray(point, float)
    if truth.size == 0:
        raise ValueError("no forecasts to judge: every row lacks a label; give cells with a known cycle_life")
    if (truth <= 0).any():
        raise ValueError(f"{int((truth <= 0).sum())} true lives are <= 0; relative errors need truth > 0")
    relative = np.abs(point - truth) / truth
    out = {
        "n": float(truth.size),
        "rmse": float(np.sqrt(np.mean((point - truth) ** 2))),
        "mae": float(np.mean(np.abs(point - truth))),
        "mape": float(relative.mean()),
        "within_15": float(np.mean(relative <= 0.15)),
    }
    if lo is not None and hi is not None:
        out["coverage"] = float(np.mean((lo <= truth) & (truth <= hi)))
        out["width"] = float(np.median((hi - lo) / truth))
    return out


def bootstrap_interval(
    truth: np.ndarray,
    point: np.ndarray,
    metric: str,
    *,
    groups: np.ndarray | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of one entry of `life_metrics`.

    groups: (n,) cell of each forecast; whole cells are redrawn, since rows of one cell are not independent.
    """
    rng = np.random.default_rng(seed)
    truth, point = np.asarray(truth, float), np.asarray(point, float)
    names = np.arange(truth.size) if groups is None else np.asarray(groups)
    _, inverse = np.unique(names, return_inverse=True)
    members = [np.flatnonzero(inverse == g) for g in range(inverse.max() + 1)]
    values = []
    for _ in range(draws):
        rows = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        values.append(life_metrics(truth[rows], point[rows])[metric])
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)

"""`remem bench battery-table`: early prediction by every regressor of the field and by the default ensemble.

Three judgements, always all of them: cross-validation on the training cells, and every test set with and without the
cell that the Severson re-analysis leaves out. The rows marked "as published" repeat figures of the papers from the raw
curves; they say that data and features are right.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ...data.battery.early import GROUPS, EarlyFeatures, early_features
from ...data.battery.metrics import bootstrap_interval, life_metrics
from ...data.split import group_folds
from .baselines import BASELINES, RANDOM, LogLife
from .gaussian import INPUTS, EarlyEnsemble
from .recurrent import RECURRENT, capacity_matrix, fit_recurrent
from .sets import load_cells, with_and_without

FOLDS = 5
DRAWS = 200
SHOWN = ("rmse", "mape", "within_15")
FEATURES = ("variance", "discharge", "full", "matrix")
PUBLISHED: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "variance": (GROUPS["variance"], LinearRegression, "104 train, 138 test1 without the outlier"),
    "pls(9)": (
        GROUPS["matrix"],
        lambda: PLSRegression(9, scale=False),
        "59 train, 100 test1 without the outlier",
    ),
    "ridge(1)": (GROUPS["matrix"], lambda: Ridge(1.0), "85 train, 125 test1 without the outlier"),
}
"""Severson et al. (2019) and Attia et al. (2021): features, regressor after standardisation, printed RMSE in cycles."""

Fit = Callable[[np.ndarray, np.ndarray, int], Callable[[np.ndarray], np.ndarray]]
"""From training rows, lives and a seed to a function from rows to forecasts, (n,) lives or (n, 3) with bounds."""


def battery_table(*, seeds: int = 5, root: str | None = None, quick: bool = False) -> list[dict[str, object]]:
    """The whole table.

    Args:
        seeds: of the folds and of every regressor that draws at random.
        root: folder of the real sets; see `load_cells`.
        quick: three baselines on one feature group and one recurrent net, to try the road.

    Returns:
        Rows with `model, features, cells, n, rmse, mape, within_15` (each metric with the `_lo` and `_hi` of its 95 %
        bootstrap interval over cells), `rmse_sd` over seeds, `coverage` and `width` where there is an interval, and
        `seconds` of fitting and forecasting. RMSE in cycles, MAPE as a fraction.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):  # models and nets are too small to share between threads
            return _rows(seeds, root, quick)
    finally:
        torch.set_num_threads(threads)


def _rows(seeds: int, root: str | None, quick: bool) -> list[dict[str, object]]:
    cells = load_cells("early", root=root)
    print(f"data: {cells.source}", file=sys.stderr)
    train, tests = early_features(cells.train), {name: early_features(f) for name, f in cells.tests.items()}
    life = train.lives
    known = {name: part.lives for name, part in tests.items()}
    rows = _published(cells.train, cells.tests)

    def judge(
        model: str, features: str, x: np.ndarray, others: Mapping[str, np.ndarray], fit: Fit, draws: int
    ) -> None:
        rows.extend(_judge(model, features, train, life, x, tests, known, others, fit, seeds, draws))
        print(f"{model} on {features}: {rows[-1]['rmse']:.0f} cycles", file=sys.stderr)

    def columns(names: Sequence[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return train.columns(tuple(names)), {name: part.columns(tuple(names)) for name, part in tests.items()}

    judge("ensemble (default)", "ensemble", *columns(INPUTS), _fit_ensemble, 1)
    for group in FEATURES[2:3] if quick else FEATURES:
        for name in ("dummy", "ridge", "decision_tree") if quick else BASELINES:
            judge(name, group, *columns(GROUPS[group]), _fit_baseline(name), seeds if name in RANDOM else 1)
    matrix = capacity_matrix(cells.train)
    others = {name: capacity_matrix(frame) for name, frame in cells.tests.items()}
    for name in RECURRENT[:1] if quick else RECURRENT:
        judge(name, "capacity matrix", matrix, others, _fit_recurrent(name), seeds)
    return rows


def _published(train: pl.DataFrame, tests: Mapping[str, pl.DataFrame]) -> list[dict[str, object]]:
    """Fitted on all training cells in the papers' raw features; judged on those cells and on the tests."""
    raw = early_features(train, robust=False)
    judged = {"train": raw} | {name: early_features(frame, robust=False) for name, frame in tests.items()}
    rows: list[dict[str, object]] = []
    for name, (columns, make, printed) in PUBLISHED.items():
        start = time.perf_counter()
        model = make_pipeline(StandardScaler(), make()).fit(raw.columns(columns), np.log10(raw.lives))
        for label, part in judged.items():
            point = 10 ** np.ravel(model.predict(part.columns(columns)))
            seconds = time.perf_counter() - start
            for where, keep in with_and_without(label, part.cell_id):
                rows.append(
                    {"model": f"{name}, as published", "features": "raw", "cells": where}
                    | _figures(part.lives[keep], [point[keep]], np.array(part.cell_id)[keep])
                    | {"seconds": round(seconds, 3), "printed": printed}
                )
    return rows


def _judge(
    model: str,
    features: str,
    train: EarlyFeatures,
    life: np.ndarray,
    x: np.ndarray,
    tests: Mapping[str, EarlyFeatures],
    known: Mapping[str, np.ndarray],
    others: Mapping[str, np.ndarray],
    fit: Fit,
    seeds: int,
    draws: int,
) -> list[dict[str, object]]:
    start = time.perf_counter()
    folded = [_left_out(fit, x, life, train.cell_id, seed) for seed in range(seeds)]
    cells = {"train, 5 folds": (train, life, folded, time.perf_counter() - start)}
    start = time.perf_counter()
    fitted = [fit(x, life, seed) for seed in range(draws)]
    taken = time.perf_counter() - start
    for label, part in tests.items():
        start = time.perf_counter()
        forecasts = [forecast(others[label]) for forecast in fitted]
        cells[label] = (part, known[label], forecasts, taken + time.perf_counter() - start)
    return [
        {"model": model, "features": features, "cells": where}
        | _figures(truth[keep], [out[keep] for out in outs], np.array(part.cell_id)[keep])
        | {"seconds": round(seconds, 3)}
        for label, (part, truth, outs, seconds) in cells.items()
        for where, keep in with_and_without(label, part.cell_id)
    ]


def _left_out(fit: Fit, x: np.ndarray, life: np.ndarray, cell: Sequence[str], seed: int) -> np.ndarray:
    """Forecasts of all training cells, each by the model of the folds that do not hold it."""
    folds = list(group_folds(cell, FOLDS, seed=seed))
    parts = [fit(x[kept], life[kept], seed)(x[held]) for kept, held in folds]
    order = np.argsort(np.concatenate([held for _, held in folds]))
    return np.concatenate(parts)[order]


def _figures(truth: np.ndarray, outs: Sequence[np.ndarray], cell: np.ndarray) -> dict[str, object]:
    """Metrics over all seeds' forecasts together, with bootstrap intervals that redraw cells."""
    out = np.concatenate(outs)
    repeated, cells = np.tile(truth, len(outs)), np.tile(cell, len(outs))
    point, *bounds = out.T if out.ndim > 1 else (out,)
    metrics = life_metrics(repeated, point, *bounds)
    row: dict[str, object] = {"n": len(truth)}
    for name in SHOWN:
        low, high = bootstrap_interval(repeated, point, name, groups=cells, draws=DRAWS)
        row |= {name: round(metrics[name], 4), f"{name}_lo": round(low, 4), f"{name}_hi": round(high, 4)}
    each = [life_metrics(truth, o[:, 0] if o.ndim > 1 else o)["rmse"] for o in outs]
    row["rmse_sd"] = round(float(np.std(each)), 2)
    return row | {name: round(metrics[name], 4) for name in ("coverage", "width") if name in metrics}


def _fit_ensemble(x: np.ndarray, y: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    model = EarlyEnsemble.fit(x, y, INPUTS)
    return lambda rows: model(torch.from_numpy(rows)).numpy()


def _fit_baseline(name: str) -> Fit:
    return lambda x, y, seed: LogLife(name, seed).fit(x, y).predict


def _fit_recurrent(name: str) -> Fit:
    return lambda x, y, seed: fit_recurrent(name, x, y, seed=seed).predict

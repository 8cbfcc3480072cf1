"""What every tracing model is compared with: one table of names, fitted on the same logs as the model.

    fitted = fit_baseline("hist_gradient_boosting", train, valid)
    p = fitted.predict(test)

Logs are conformed (`Log.frame`), one row per answered question. A forecast of a row uses answers before it only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier
from xgboost import XGBClassifier

from ...data.tracing.features import HistoryFeatures
from .bkt import BKT
from .linear import BEST_LR, DAS3H, PFA, CountRegression

Predict = Callable[[pl.DataFrame], np.ndarray]
"""From a log to (rows,) probabilities of a right answer."""
Fit = Callable[[pl.DataFrame, pl.DataFrame], Predict]
"""From a training and a validation log to forecasts of any log."""


@dataclass(frozen=True)
class Fitted:
    """A fitted baseline: its name, its forecasts, and the CPU seconds that fitting took, features included."""

    name: str
    predict: Predict
    seconds: float


def _question_mean(train: pl.DataFrame, valid: pl.DataFrame) -> Predict:
    """Share of right answers to the question in training, shrunk to that of its concepts: blind to students."""
    history = HistoryFeatures.fit(train)
    return lambda log: history.transform(log)["q_mean"].to_numpy()


def _bkt(train: pl.DataFrame, valid: pl.DataFrame) -> Predict:
    return BKT(forgets=False).fit(train).predict


def _bkt_forgetting(train: pl.DataFrame, valid: pl.DataFrame) -> Predict:
    return BKT(forgets=True).fit(train).predict


def _pfa(train: pl.DataFrame, valid: pl.DataFrame) -> Predict:
    return CountRegression(PFA).fit(train, valid).predict


def _best_lr(train: pl.DataFrame, valid: pl.DataFrame) -> Predict:
    return CountRegression(BEST_LR).fit(train, valid).predict


def _das3h(train: pl.DataFrame, valid: pl.DataFrame) -> Predict:
    return CountRegression(DAS3H).fit(train, valid).predict


class _Columns:
    """Features as trees take them: the answered rows of a log, without columns that training never filled."""

    def __init__(self, train: pl.DataFrame) -> None:
        self.history = HistoryFeatures.fit(train)
        features = self.history.transform(train)
        self.names = [name for name in features.columns if features[name].is_not_nan().any()]

    def __call__(self, log: pl.DataFrame) -> np.ndarray:
        return self.history.transform(log)[self.names].to_numpy()

    def answered(self, log: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        given = log["correct"].is_not_null().to_numpy()
        return self(log)[given], log["correct"].drop_nulls().to_numpy()


def _hist_gradient_boosting(train: pl.DataFrame, valid: pl.DataFrame) -> Predict:
    """The tree that networks are held against. Many leaves, few columns a split: found on folds 0, 3, 4 / 2 of 2009."""
    columns = _Columns(train)
    (x, y), (x_valid, y_valid) = columns.answered(train), columns.answered(valid)
    model = HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=800,
        max_leaf_nodes=127,
        min_samples_leaf=100,
        l2_regularization=5.0,
        max_features=0.2,
        early_stopping=True,
        n_iter_no_change=15,
        random_state=0,
    )
    model.fit(x, y, X_val=x_valid, y_val=y_valid)
    return lambda log: np.asarray(model.predict_proba(columns(log))[:, 1])


def _xgboost(train: pl.DataFrame, valid: pl.DataFrame) -> Predict:
    """Boosted trees of a kind that exports."""
    columns = _Columns(train)
    (x, y), (x_valid, y_valid) = columns.answered(train), columns.answered(valid)
    model = XGBClassifier(
        n_estimators=1000,
        learning_rate=0.05,
        max_depth=6,
        min_child_weight=20,
        reg_lambda=5.0,
        subsample=0.8,
        colsample_bynode=0.3,
        max_bin=256,
        early_stopping_rounds=20,
        random_state=0,
    )
    model.fit(x, y, eval_set=[(x_valid, y_valid)], verbose=False)
    return lambda log: np.asarray(model.predict_proba(columns(log))[:, 1], float)


BASELINES: dict[str, Fit] = {
    "question_mean": _question_mean,
    "bkt": _bkt,
    "bkt_forgetting": _bkt_forgetting,
    "pfa": _pfa,
    "best_lr": _best_lr,
    "das3h": _das3h,
    "hist_gradient_boosting": _hist_gradient_boosting,
    "xgboost": _xgboost,
}


def fit_baseline(name: str, train: pl.DataFrame, valid: pl.DataFrame) -> Fitted:
    """Fit the baseline `name` on conformed logs; `valid` chooses penalties and stops trees, where there are any.

    Raises:
        ValueError: where the name is unknown, a log has no answers, or what the baseline needs is not in it (`das3h`:
            timestamps; `bkt`: concepts).
    """
    if name not in BASELINES:
        raise ValueError(f"there is no baseline {name!r}; choose from {', '.join(BASELINES)}")
    for part, log in (("training", train), ("validation", valid)):
        if log["correct"].null_count() == log.height:
            raise ValueError(
                f"baseline {name}: the {part} log has no answers; give rows whose correct is 0 or 1"
            )
    start = time.process_time()
    predict = BASELINES[name](train, valid)
    return Fitted(name, predict, time.process_time() - start)

"""The simple forecasts that a bundle carries as plain numbers, so that every table of the model shows them too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from ...data.tracing.answers import CORRECT
from .pieces import Featured

COUNTS = ("q_mean", "log1p_c_wins", "log1p_c_fails")
"""Difficulty and practice: performance factors (Pavlik et al. 2009) with weights shared by all concepts."""


def fit_floors(training: Featured, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Baselines for a manifest; `names` are those of the features, which are out of fold."""
    given_N = np.isfinite(training.x[:, CORRECT])
    columns = []
    for told in COUNTS:
        column_N = training.z[given_N, list(names).index(told.removeprefix("log1p_"))]
        columns.append(np.log1p(column_N) if told.startswith("log1p_") else column_N)
    fit = LogisticRegression(C=1e3).fit(np.stack(columns, axis=1), training.x[given_N, CORRECT])
    return {
        "question mean": {"kind": "question_mean"},
        "practice counts": {
            "kind": "pfa",
            "features": list(COUNTS),
            "weights": [round(float(weight), 6) for weight in fit.coef_[0]],
            "intercept": round(float(fit.intercept_[0]), 6),
        },
    }

"""The simple baselines that a tracing manifest carries as plain numbers, so that `remem evaluate` prints them too.

`baselines` of a manifest maps a name to one of

- `{"kind": "constant", "value": p}`
- `{"kind": "question_mean"}`: the question's shrunk share of right answers in training, or its concepts'
- `{"kind": "pfa", "features": [...], "weights": [...], "intercept": b}`: a logistic regression on columns of
  `data.tracing.features`, named as there or, for their logarithm, `log1p_<name>`. Where a column is not known in a row
  (no time), it counts as 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from ...data.tracing.encode import Vocabulary
from ...data.tracing.features import answer_features
from ..bundle import Bundle

KINDS = ("constant", "question_mean", "pfa")
_LOG = "log1p_"


def tracing_baselines(bundle: Bundle, vocabulary: Vocabulary, frame: pl.DataFrame) -> dict[str, np.ndarray]:
    """Probability of a right answer to each row of a conformed log, (rows,), by the name of the baseline.

    Raises:
        ValueError: a baseline of the manifest is of no known kind, or needs a column that there is not.
    """
    answers = vocabulary.encode(frame)
    encoded = answer_features(answers, [vocabulary.difficulty])
    columns = {name: np.empty(frame.height) for name in encoded}
    for name, values in encoded.items():
        columns[name][answers.row] = np.nan_to_num(values)
    return {
        name: _forecast(bundle, name, spec, columns, frame.height)
        for name, spec in bundle.manifest["baselines"].items()
    }


def _forecast(
    bundle: Bundle, name: str, spec: Mapping[str, Any], columns: Mapping[str, np.ndarray], rows: int
) -> np.ndarray:
    if spec["kind"] == "constant":
        return np.full(rows, float(spec["value"]))
    if spec["kind"] == "question_mean":
        return columns["q_mean"]
    if spec["kind"] != "pfa":
        raise ValueError(
            f"{bundle.path}: baseline {name} is of kind '{spec['kind']}'; task 'tracing' knows {', '.join(KINDS)}"
        )
    features, weights = spec["features"], spec["weights"]
    absent = [feature for feature in features if feature.removeprefix(_LOG) not in columns]
    if absent:
        raise ValueError(
            f"{bundle.path}: baseline {name} needs {absent}, which is no feature; there are {[*columns]}"
        )
    z = np.full(rows, float(spec["intercept"]))
    for feature, weight in zip(features, weights, strict=True):
        column = columns[feature.removeprefix(_LOG)]
        z += weight * (np.log1p(column) if feature.startswith(_LOG) else column)
    return 1.0 / (1.0 + np.exp(-z))

"""Where a forecast is good and where it is not: the answers of a log by what was known when they were given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from .metrics import answer_metrics

RARE = 5
"""A question with fewer training answers is rare."""
LONG = 200
"""An answer with more answers of the student before it has a long history."""


Seen = pl.DataFrame | Mapping[str, float]
"""How often questions were seen in training: the training log, or question -> number of training answers."""


def slice_masks(log: pl.DataFrame, train: Seen | None = None) -> dict[str, np.ndarray]:
    """(rows,) masks by name: what each answer of a log was given on.

    Args:
        log: a conformed log; rows without an answer belong to no slice.
        train: of the model. Without it there are no `unseen_question`, `rare_question`.

    Returns:
        `first_answer` of a student; `answers_2_5`; `unseen_question`, with no training answer; `rare_question`, with
        fewer than `RARE`, unseen ones included; `long_history`, after more than `LONG` answers; `several_concepts`.
        The two slices by question are left out where the log names no questions.
    """
    answered = pl.col("correct").is_not_null()
    before = (answered.cast(pl.Int64).cum_sum() - 1).over("student_id")
    columns = {
        "first_answer": before == 0,
        "answers_2_5": before.is_between(1, 4),
        "unseen_question": pl.col("seen") == 0,
        "rare_question": pl.col("seen") < RARE,
        "long_history": before > LONG,
        "several_concepts": pl.col("concepts").list.len() > 1,
    }
    if train is None or log["question_id"].null_count() == log.height:
        del columns["unseen_question"], columns["rare_question"]
    else:
        seen = _counted(train)
        log = log.join(seen, on="question_id", how="left", maintain_order="left")
        log = log.with_columns(pl.col("seen").fill_null(0))
    masks = log.select((answered & mask).fill_null(False).alias(name) for name, mask in columns.items())
    return {name: masks[name].to_numpy() for name in masks.columns}


def _counted(train: Seen) -> pl.DataFrame:
    """`question_id, seen`."""
    if isinstance(train, pl.DataFrame):
        answers = train.filter(pl.col("correct").is_not_null() & pl.col("question_id").is_not_null())
        return answers.group_by("question_id").agg(pl.len().cast(pl.Float64).alias("seen"))
    counts = {"question_id": list(train), "seen": list(train.values())}
    return pl.DataFrame(counts, {"question_id": pl.String, "seen": pl.Float64})


def slice_metrics(log: pl.DataFrame, p: np.ndarray, train: Seen | None = None) -> pl.DataFrame:
    """`slice, n, auc, nll, accuracy, brier, ece`: all answers first, then every slice that is not empty.

    Args:
        log: a conformed log.
        p: (rows,) forecasts of it, in [0, 1] on answered rows.
        train: see `slice_masks`.
    """
    answered = log["correct"].is_not_null().to_numpy()
    correct = log["correct"].fill_null(0).to_numpy()
    masks = {"all": answered} | slice_masks(log, train)
    return pl.DataFrame(
        [
            {"slice": name, **answer_metrics(correct[mask], p[mask])}
            for name, mask in masks.items()
            if mask.any()
        ]
    ).with_columns(pl.col("n").cast(pl.Int64))

"""ASSISTments: the tidy tables with folds, and Synthetic-5, which has their shape."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from .findings import Findings
from .reading import Reading

TIDY = {"student": "student_id", "problem": "question_id", "skill": "concepts"}


def read_tidy(frame: pl.DataFrame, source: str) -> Reading | None:
    """`student, step, problem, skill, correct, fold`: a row for each skill of an answer.

    `problem` may be missing (2015). Without both, and with a `version`, it is Synthetic-5: every student answers the
    exercises 1 to 50 in order, so the step is the question and, the concepts being hidden, stands for its concept.
    Students 2001 on, the usual test half, are its fold 5; the others have folds 0 to 4.
    """
    have = set(frame.columns)
    if {"version", "student", "step", "correct"} <= have and not have & {"skill", "problem"}:
        return _synthetic(frame)
    if not {"student", "correct"} <= have or not have & {"skill", "problem"}:
        return None
    keys = frame.select(name for name in ("student", "step", "problem", "skill", "timestamp") if name in have)
    ordered = have & {"step", "timestamp"}
    report = Findings.of([("file_order", 0 if ordered else frame.height, "no step and no timestamp")])
    # it only repeats what student and problem say
    named = frame.drop("same_problem_as_prev", strict=False)
    return Reading(named.rename({old: new for old, new in TIDY.items() if old in have}), keys, report)


def _synthetic(frame: pl.DataFrame) -> Reading:
    exercise = pl.format("v{}e{}", "version", "step")
    student = pl.col("student").cast(pl.Int32)
    table = frame.select(
        pl.format("v{}s{}", "version", "student").alias("student_id"),
        exercise.alias("question_id"),
        exercise.alias("concepts"),
        "correct",
        "step",
        pl.when(student > 2000).then(5).otherwise(student % 5).alias("fold"),
    )
    return Reading(table, frame.select("version", "student", "step"))


def concept_names(path: str | Path) -> dict[str, str]:
    """Names of concepts by their id, from a csv `skill, name`.

    Raises:
        ValueError: the file lacks one of the columns.
    """
    table = pl.read_csv(path, infer_schema=False)
    if not {"skill", "name"} <= set(table.columns):
        raise ValueError(f"{path}: got columns {table.columns}; wanted skill and name")
    return dict(zip(table["skill"], table["name"], strict=True))

"""ASSISTments: the tidy tables with folds, Synthetic-5, which has their shape, and the csv of 2009 to 2017."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from .casts import first_true
from .findings import Findings
from .reading import Reading, select_answers

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


def read_2009(frame: pl.DataFrame, source: str) -> Reading | None:
    """Skill builder 2009-2010: a row for each skill of an answer, or skills joined ("12_13", "12,13"); by `order_id`.

    Scaffolding (`original` = 0) is kept. Blank skills make answers without concepts.
    """
    if not {"order_id", "user_id", "problem_id", "correct"} <= set(frame.columns):
        return None
    return _problem_log(frame, {"step": "order_id"})


def read_2012(frame: pl.DataFrame, source: str) -> Reading | None:
    """2012-2013 with predictions and affect: one row an answer, ordered by `start_time`; partial credit is refused."""
    if not {"problem_log_id", "user_id", "problem_id", "correct"} <= set(frame.columns):
        return None
    return _problem_log(
        frame, {"step": "problem_log_id", "timestamp": "start_time", "attempt": "attempt_count"}
    )


def _problem_log(frame: pl.DataFrame, order: dict[str, str]) -> Reading:
    skill = next((name for name in ("skill_id", "skill", "skill_name") if name in frame.columns), None)
    names: dict[str, str | pl.Expr] = {
        "student_id": "user_id",
        "question_id": "problem_id",
        "correct": "correct",
        **order,
        "duration_ms": "ms_first_response",
        "attempt": "attempt_count",
        "hints": "hint_count",
    }
    if skill is not None:
        text = pl.col(skill).cast(pl.String).str.strip_chars()
        # joined ids are several skills; names have commas of their own
        joined = text.str.contains(r"^\d+([_,;]\d+)+$")
        several = text.str.replace_all("[_;]", ",").str.split(",")
        one = pl.when(text != "").then(pl.concat_list(text.str.replace(r"\.0$", "")))
        names["concepts"] = pl.when(joined).then(several).otherwise(one)
    reading = select_answers(frame, names, ("user_id", *order.values(), "problem_id", skill or "skill_id"))
    if "original" not in frame.columns:
        return reading
    scaffolding = (frame["original"].cast(pl.String) == "0").fill_null(False)
    found = Findings.of([("scaffolding", int(scaffolding.sum()), f"row {first_true(scaffolding)}")])
    return replace(reading, report=reading.report + found)


def read_2015(frame: pl.DataFrame, source: str) -> Reading | None:
    """Skill builder 2015: no questions, `sequence_id` is the concept; by `log_id`; partial credit is refused."""
    if not {"user_id", "log_id", "sequence_id", "correct"} <= set(frame.columns):
        return None
    names = {"student_id": "user_id", "concepts": "sequence_id", "correct": "correct", "step": "log_id"}
    return select_answers(frame, names, ("user_id", "log_id", "sequence_id"))


def read_2017(frame: pl.DataFrame, source: str) -> Reading | None:
    """Data mining competition 2017: every action on a problem is a row, so attempts follow each other."""
    if not {"studentId", "problemId", "skill", "correct"} <= set(frame.columns):
        return None
    names: dict[str, str | pl.Expr] = {
        "student_id": "studentId",
        "question_id": "problemId",
        "concepts": "skill",
        "correct": "correct",
        "timestamp": "startTime",
        "attempt": "attemptCount",
        "hints": "hintCount",
    }
    if "timeTaken" in frame.columns:
        names["duration_ms"] = pl.col("timeTaken").cast(pl.Float64, strict=False) * 1000
    return select_answers(frame, names, ("studentId", "actionId", "startTime", "problemId", "skill"))


def concept_names(path: str | Path) -> dict[str, str]:
    """Names of concepts by their id, from a csv `skill, name`.

    Raises:
        ValueError: the file lacks one of the columns.
    """
    table = pl.read_csv(path, infer_schema=False)
    if not {"skill", "name"} <= set(table.columns):
        raise ValueError(f"{path}: got columns {table.columns}; wanted skill and name")
    return dict(zip(table["skill"], table["name"], strict=True))

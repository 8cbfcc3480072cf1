"""Eedi, NeurIPS 2020 education challenge: answers, with their times and subjects in csv files of a folder metadata."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from .findings import Findings
from .reading import Reading, select_answers
from .tables import read_table

COLUMNS = {"QuestionId", "UserId", "IsCorrect"}
_LEAF = 3
"""Level of the subjects that are taken as concepts where subject_metadata.csv tells levels, as others do."""


def read_eedi(table: pl.DataFrame, path: Path) -> Reading:
    """`train_task_1_2.csv` or `train_task_3_4.csv`, with metadata from its folder, `metadata` in it or beside it.

    Without `answer_metadata` there are no times (`AnswerId` is then the order), without `question_metadata` no
    concepts; both are told in the report.

    Raises:
        ValueError: a metadata file lacks its columns.
    """
    task = re.search(r"(_task_\d_\d)", path.name)
    suffix = task.group(1) if task else ""
    questions = _metadata(path, f"question_metadata{suffix}", {"QuestionId", "SubjectId"})
    answers = _metadata(path, f"answer_metadata{suffix}", {"AnswerId", "DateAnswered"})
    subjects = _metadata(path, "subject_metadata", {"SubjectId", "Level"})
    found = []
    names: dict[str, str | pl.Expr] = {
        "student_id": "UserId",
        "question_id": "QuestionId",
        "correct": "IsCorrect",
    }
    if "AnswerId" in table.columns:
        names["step"] = "AnswerId"
    joined = table
    if questions is None:
        found.append(
            ("unknown_concepts", table.height, f"no question_metadata{suffix}.csv beside {path.name}")
        )
    else:
        lists = pl.col("SubjectId").str.extract_all(r"\d+")
        if subjects is not None:
            leaves = subjects.filter(pl.col("Level") == str(_LEAF))["SubjectId"].to_list()
            lists = lists.list.eval(pl.element().filter(pl.element().is_in(leaves)))
        joined = _joined(joined, questions.with_columns(lists.alias("concepts")), "QuestionId", "concepts")
        names["concepts"] = "concepts"
    if answers is not None and "AnswerId" in table.columns:
        joined = _joined(joined, answers, "AnswerId", "DateAnswered")
        names["timestamp"] = "DateAnswered"
    else:
        found.append(
            ("file_order", table.height, f"no answer_metadata{suffix}.csv beside {path.name}: no times")
        )
    reading = select_answers(joined, names, ("UserId", "AnswerId", "QuestionId"))
    return Reading(reading.frame, reading.keys, reading.report + Findings.of(found), reading.row)


def _metadata(path: Path, name: str, columns: set[str]) -> pl.DataFrame | None:
    places = (path.parent, path.parent / "metadata", path.parent.parent / "metadata")
    file = next((place / f"{name}.csv" for place in places if (place / f"{name}.csv").is_file()), None)
    if file is None:
        return None
    table = read_table(file)
    if not columns <= set(table.columns):
        raise ValueError(f"{file}: got columns {table.columns}; wanted {sorted(columns)}")
    return table


def _joined(table: pl.DataFrame, other: pl.DataFrame, key: str, value: str) -> pl.DataFrame:
    """`table` with a column of `other`; ids may be written 12 and 12.0."""
    plain = pl.col(key).cast(pl.String).str.strip_suffix(".0").alias("_key")
    right = other.select(plain, value).unique("_key", keep="first", maintain_order=True)
    return table.with_columns(plain).join(right, on="_key", how="left", maintain_order="left").drop("_key")

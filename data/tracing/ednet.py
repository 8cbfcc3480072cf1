"""EdNet KT1: a folder with a csv for each student, and questions.csv with the right answers and tags."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ..battery.opening import first_line
from .findings import Findings
from .reading import Reading, select_answers
from .tables import read_table

COLUMNS = {"timestamp", "question_id", "user_answer"}
_PLACES = (".", "contents", "..", "../contents")


def read_ednet_folder(folder: Path) -> Reading:
    """All `u*.csv` of a folder; the name of the file is the student.

    Raises:
        ValueError: there are no such files, they differ in their columns, or there is no questions.csv.
    """
    files = sorted(folder.glob("u*.csv"), key=lambda path: (len(path.name), path.name))
    if not files:
        raise ValueError(
            f"{folder}: a folder without files u1.csv, u2.csv...; wanted EdNet KT1, or the path of one file"
        )
    try:
        table = pl.read_csv(files, infer_schema=False, include_file_paths="path")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(
            f"{folder}: {len(files)} files u*.csv cannot be read as one table ({first_line(error)}); wanted columns "
            "timestamp, solving_id, question_id, user_answer, elapsed_time in each"
        ) from error
    return _read(table, folder)


def read_ednet_file(table: pl.DataFrame, path: Path) -> Reading:
    """One student's csv."""
    return _read(table.with_columns(pl.lit(str(path)).alias("path")), path.parent)


def _read(table: pl.DataFrame, folder: Path) -> Reading:
    if not set(table.columns) >= COLUMNS:
        raise ValueError(f"{folder}: got columns {table.columns}; wanted {sorted(COLUMNS)} of EdNet KT1")
    places = [folder / place / "questions.csv" for place in _PLACES]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise ValueError(
            f"{folder}: no questions.csv here, in contents/ or above; it holds the right answers; add it"
        )
    questions = read_table(file)
    wanted = {"question_id", "correct_answer", "tags"}
    if not wanted <= set(questions.columns):
        raise ValueError(f"{file}: got columns {questions.columns}; wanted {sorted(wanted)}")
    questions = questions.select(sorted(wanted)).unique("question_id", keep="first", maintain_order=True)
    joined = table.join(questions, on="question_id", how="left", maintain_order="left")
    answer, right = (
        pl.col(name).str.strip_chars().str.to_lowercase() for name in ("user_answer", "correct_answer")
    )
    student = pl.col("path").str.extract(r"([^/\\]+?)\.csv$")
    joined = joined.with_columns(student.alias("student"))
    names: dict[str, str | pl.Expr] = {
        "student_id": "student",
        "question_id": "question_id",
        # -1 stands for a question without tags
        "concepts": pl.col("tags").replace("-1", None).str.split(";"),
        "correct": pl.when(answer != "").then((answer == right).cast(pl.Int8)),
        "timestamp": "timestamp",
        "duration_ms": "elapsed_time",
        "session_id": "solving_id",
    }
    reading = select_answers(joined, names, ("student", "timestamp", "question_id"))
    missing = joined["correct_answer"].is_null()
    told = [("unknown_concepts", int(missing.sum()), f"answers to questions that {file.name} does not have")]
    return Reading(reading.frame, reading.keys, reading.report + Findings.of(told), reading.row)

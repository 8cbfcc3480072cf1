"""The leak of skill-expanded files: one answer on several rows, a row for each concept, with one label.

A model that is scored on such a file reads each repeated label off the row before. ASSISTments 2009 as used by most
published work has 15.7 % of such rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from .findings import Findings
from .layouts import recognise
from .schema import Log


@dataclass(frozen=True)
class LeakReport:
    """What `audit_leakage` counted.

    rows: rows of the table.
    repeats: rows with the student and the question of the row before, under another concept.
    equal_labels: of these, rows with the label of the row before.
    shared_students: students in more than one fold.
    """

    rows: int
    repeats: int
    equal_labels: int
    shared_students: int

    @property
    def repeat_share(self) -> float:
        return self.repeats / self.rows

    @property
    def equal_share(self) -> float:
        """Share of the repeats whose label equals the one before; NaN without repeats."""
        return self.equal_labels / self.repeats if self.repeats else float("nan")

    @property
    def clean(self) -> bool:
        return not self.repeats and not self.shared_students

    def __str__(self) -> str:
        if self.clean:
            return f"{self.rows} rows: no row repeats the question before it, no student is in two folds"
        return (
            f"{self.repeats} of {self.rows} rows ({self.repeat_share:.1%}) repeat the question before them under "
            f"another concept, {self.equal_share:.2%} of these with its label; {self.shared_students} students are in "
            "more than one fold"
        )


def audit_leakage(frame: pl.DataFrame) -> LeakReport:
    """Count the rows whose label stands on the row before, and the students in two folds. Nothing is merged.

    Args:
        frame: a log, or a table whose columns `open_log` knows (student, problem, skill, correct).

    Raises:
        ValueError: as `conform`, and where the columns are not known.
    """
    table = recognise(frame, "audit_leakage").conformed("audit_leakage").frame
    repeats = is_repeat(table)
    equal = repeats & (table["correct"] == table["correct"].shift()).fill_null(False)
    shared = 0
    if "fold" in table.columns:
        folds = table.group_by("student_id").agg(pl.col("fold").n_unique())
        shared = int((folds["fold"] > 1).sum())
    return LeakReport(table.height, int(repeats.sum()), int(equal.sum()), shared)


def is_repeat(frame: pl.DataFrame) -> pl.Series:
    """True for rows of a conformed table with the student and question of the row before and other concepts."""
    same = pl.lit(True)
    for name in ("student_id", "question_id"):
        same &= pl.col(name) == pl.col(name).shift()
    other = pl.col("concepts").list.set_symmetric_difference(pl.col("concepts").shift()).list.len() > 0
    return frame.select((same & other).fill_null(False)).to_series()


def from_repeat_rows(frame: pl.DataFrame) -> Log:
    """A skill-expanded table -> a log with one row per answered question; the report counts what was merged.

    Rows of one student that follow each other with the same question and time, each with one concept that the run does
    not hold yet, become one row with all their concepts and the label of the first. A concept that comes again is
    another attempt. Labels do not decide, for then the forecast of a row would tell whether its label is the one of the
    row before; those that differ are counted.

    Args:
        frame: a log, or a table whose columns `open_log` knows (student, problem, skill, correct).

    Raises:
        ValueError: as `conform`, and where the columns are not known.
    """
    return merge_repeats(recognise(frame, "from_repeat_rows").conformed("from_repeat_rows"))


def merge_repeats(log: Log) -> Log:
    """`log` with repeated rows merged: see `from_repeat_rows`."""
    frame = log.frame
    start = _starts(frame)
    group = np.cumsum(start) - 1
    merged = int(len(start) - start.sum())
    if not merged:
        return log
    first = int(np.argmin(start))
    several = frame.with_columns(pl.Series("_group", group)).filter(
        pl.Series(~start) | pl.Series(np.append(~start[1:], False))
    )
    concepts = (
        several.select("_group", "concepts")
        .explode("concepts")
        .group_by("_group", maintain_order=True)
        .agg("concepts")
    )
    kept = (
        frame.filter(pl.Series(start)).with_row_index("_group").with_columns(pl.col("_group").cast(pl.Int64))
    )
    kept = kept.join(concepts, on="_group", how="left", maintain_order="left", suffix="_all")
    kept = kept.with_columns(pl.coalesce("concepts_all", "concepts").alias("concepts"))
    question = frame["question_id"][first]
    told = f"student {frame['student_id'][first]}, question {question}; {merged / len(start):.1%} of {len(start)} rows"
    differs = ~start & ~frame["correct"].eq_missing(kept["correct"].gather(group)).to_numpy()
    at = int(np.argmax(differs))
    found = Findings.of(
        [
            ("repeat_rows", merged, told),
            (
                "repeat_label",
                int(differs.sum()),
                f"student {frame['student_id'][at]}, question {frame['question_id'][at]}",
            ),
        ]
    )
    row = np.where(log.row >= 0, group[log.row], -1)
    return Log(kept.select(frame.columns), log.report + found, row, log.keys)


def _starts(frame: pl.DataFrame) -> np.ndarray:
    """(rows,) bool: True where a row begins an answer, False where it repeats the one before under a new concept."""
    same = pl.lit(True)
    for name in ("student_id", "question_id", "timestamp"):
        same &= pl.col(name).eq_missing(pl.col(name).shift())
    single = pl.col("concepts").list.len() == 1
    follows = same & pl.col("question_id").is_not_null() & single & single.shift().fill_null(False)
    table = frame.select(
        follows.fill_null(False).alias("follows"), pl.col("concepts").list.first().alias("concept")
    )
    start = ~table["follows"].to_numpy()
    start[0] = True
    table = table.with_columns(pl.Series("run", np.cumsum(start)))
    kinds = pl.col("concept").n_unique().over("run")
    table = table.with_columns((kinds == 1).alias("alike"), (kinds == pl.len().over("run")).alias("distinct"))
    # one concept again and again: every row is an attempt of its own
    start |= table["alike"].to_numpy()
    # runs with both new concepts and old ones are few: cut where a concept comes again
    mixed = np.flatnonzero(~(table["alike"] | table["distinct"]).to_numpy())
    concepts = table["concept"].gather(mixed).to_list()
    runs = table["run"].gather(mixed).to_list()
    seen: set[str] = set()
    last = None
    for at, run, concept in zip(mixed, runs, concepts, strict=True):
        if run != last or concept in seen:
            start[at] = True
            seen = set()
            last = run
        seen.add(concept)
    return start

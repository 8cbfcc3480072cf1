"""The log of answers: one row per answered question, its concepts in a list, in the order of answering.

Because a question's concepts are a list, one answer cannot stand on several rows, and the label of one row cannot
be read off the row before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from ..battery.schema import near
from .casts import Found, first_true, read_concepts, read_ids, read_labels, read_number, read_steps
from .findings import Findings
from .times import to_timestamps

COLUMNS: dict[str, pl.DataType] = {
    "student_id": pl.String(),
    "question_id": pl.String(),
    "concepts": pl.List(pl.String()),
    "correct": pl.Int8(),
    "timestamp": pl.Datetime("us"),
}
"""Every log has these; `correct` is null where a question was asked and not answered."""

OPTIONAL: dict[str, pl.DataType] = {
    "fold": pl.Int8(),
    "duration_ms": pl.Int64(),
    "attempt": pl.Int32(),
    "hints": pl.Int32(),
    "session_id": pl.String(),
}


@dataclass(frozen=True)
class Log:
    """A log and how it came from its input.

    frame: columns of `COLUMNS`, then those of `OPTIONAL` that the input had; students together, in order of first
        appearance.
    report: what was repaired, merged and refused.
    row: (rows of the input,) int64, the row of `frame` that each row of the input became; -1 where it was refused.
    keys: the input's own key columns (student, step, problem, skill), one row per row of the input, in its order.
    """

    frame: pl.DataFrame
    report: Findings
    row: np.ndarray
    keys: pl.DataFrame

    def __len__(self) -> int:
        return self.frame.height

    def hand_back(self, values: np.ndarray) -> np.ndarray:
        """One value per row of `frame` -> one per row of the input, NaN where the row was refused.

        Raises:
            ValueError: there are not as many values as rows.
        """
        if len(values) != self.frame.height:
            raise ValueError(
                f"hand_back: got {len(values)} values for {self.frame.height} rows; give one a row"
            )
        return np.where(self.row >= 0, np.append(values, np.nan)[self.row], np.nan)


def conform(frame: pl.DataFrame, *, source: str, columns: Mapping[str, str] | None = None) -> Log:
    """`frame` in the columns, types and order of a log. Rows are neither merged nor refused.

    Wanted are `student_id`, `correct` and `question_id` or `concepts` (a list, or one concept a row). `step` is an
    order within each student, 0 or more. Rows are sorted within a student by timestamp, then step, then as they
    stand; a row without a timestamp stays behind the one before it.

    Args:
        frame: the table.
        source: where it came from, for messages.
        columns: other names, as {old: new}.

    Raises:
        ValueError: a column is missing or of a type that cannot be read, an id of a student is empty, a label is
            neither 0 nor 1, a step is negative or missing, or there are no rows.
    """
    frame = rename(frame, columns, source)
    _refuse_missing(frame, source)
    new: dict[str, pl.Series] = {}
    found: Found = []
    new["student_id"] = read_ids(frame["student_id"], source, found)
    if new["student_id"].null_count():
        at = first_true(new["student_id"].is_null())
        raise ValueError(
            f"{source}: student_id in row {at} is empty; wanted the id of a student; drop or name the row"
        )
    new["question_id"] = (
        read_ids(frame["question_id"], source, found)
        if "question_id" in frame.columns
        else pl.Series([None] * frame.height, dtype=pl.String)
    )
    empty = new["question_id"].null_count()
    found.append(("empty_question", empty, f"row {first_true(new['question_id'].is_null())}"))
    new["concepts"] = read_concepts(frame, source, found)
    new["correct"] = read_labels(frame["correct"], source, found)
    report = Findings()
    if "timestamp" in frame.columns:
        new["timestamp"], report = to_timestamps(frame["timestamp"], source)
    else:
        new["timestamp"] = pl.Series([None] * frame.height, dtype=pl.Datetime("us"))
    for name, kind in OPTIONAL.items():
        if name in frame.columns:
            new[name] = (
                read_ids(frame[name], source, found)
                if kind == pl.String
                else read_number(frame[name], kind, found)
            )
    step = read_steps(frame["step"], source) if "step" in frame.columns else None
    ignored = [name for name in frame.columns if name not in new and name != "step"]
    found.append(("ignored_columns", len(ignored), ", ".join(ignored[:10])))
    table = pl.DataFrame([series.alias(name) for name, series in new.items()])
    table, row = _sort(table, step, found)
    named = ("student_id", "step", "question_id", "concepts", "timestamp", "session_id")
    keys = frame.select(name for name in named if name in frame.columns)
    return Log(table, report + Findings.of(found), row, keys)


def rename(frame: pl.DataFrame, columns: Mapping[str, str] | None, source: str) -> pl.DataFrame:
    """`frame` with the names of `columns` = {old: new}.

    Raises:
        ValueError: an old name is not there, or two columns would have one name.
    """
    columns = columns or {}
    for old in columns:
        if old not in frame.columns:
            raise ValueError(
                f"{source}: columns= renames {near(old, frame.columns)}, which is not there; got {frame.columns}; "
                "correct the name"
            )
    names = [columns.get(name, name) for name in frame.columns]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"{source}: after renaming there would be {names.count(name)} columns '{name}'; wanted one; rename the "
                "other away"
            )
    return frame.rename(dict(columns))


def _refuse_missing(frame: pl.DataFrame, source: str) -> None:
    have = frame.columns
    missing = [near(name, have) for name in ("student_id", "correct") if name not in have]
    if "question_id" not in have and "concepts" not in have:
        missing.append(f"{near('question_id', have)} or {near('concepts', have)}")
    if missing:
        raise ValueError(
            f"{source}: no column {', no column '.join(missing)}; got {have[:20]}; wanted student_id, correct and "
            "question_id or concepts; rename with columns={'old': 'new'}"
        )
    if frame.height == 0:
        raise ValueError(f"{source}: the table has no rows; wanted one a question; check the export")


def _sort(table: pl.DataFrame, step: pl.Series | None, found: Found) -> tuple[pl.DataFrame, np.ndarray]:
    """Students together, each in order; the new place of each row."""
    work = table.select("student_id", "timestamp").with_row_index("_at")
    work = work.with_columns(
        pl.col("_at").min().over("student_id").alias("_first"),
        # a row without a time stays behind the one before it; those before any time lead
        pl.col("timestamp")
        .forward_fill()
        .over("student_id")
        .cast(pl.Int64)
        .fill_null(-(2**62))
        .alias("_time"),
        step.alias("_step") if step is not None else pl.lit(0).alias("_step"),
    )
    apart = work["_first"] < work["_first"].cum_max()
    found.append(("regrouped_students", int(apart.sum()), f"row {first_true(apart)}"))
    behind = pl.col("student_id").is_not_null()
    late = work.select(
        ((pl.col("_time") < pl.col("_time").shift().over("student_id")) & behind)
        .fill_null(False)
        .alias("time"),
        (
            (pl.col("_time") == pl.col("_time").shift().over("student_id"))
            & (pl.col("_step") < pl.col("_step").shift().over("student_id"))
        )
        .fill_null(False)
        .alias("step"),
    )
    for name in ("time", "step"):
        found.append((f"sorted_by_{name}", int(late[name].sum()), f"row {first_true(late[name])}"))
    if not (apart.any() or late["time"].any() or late["step"].any()):
        return table, np.arange(table.height)
    order = work.sort("_first", "_time", "_step", maintain_order=True)["_at"].to_numpy()
    row = np.empty(len(order), dtype=np.int64)
    row[order] = np.arange(len(order))
    return table[order], row

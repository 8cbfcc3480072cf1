"""What can be wrong with a log of answers, found from the log alone and named: see `findings.FINDINGS`.

A check never changes a log; reading it does (`open_log`), and tells what it changed.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from .findings import Findings
from .layouts import recognise
from .repeats import is_repeat, merge_repeats
from .schema import Log, conform

FEWEST_STUDENT = 5
FEWEST_QUESTION = 10
"""Answers from which it is strange that all have one label."""

Row = tuple[str, int, str]


def validate(log: Log | pl.DataFrame) -> Findings:
    """Every fault of a log: count, first case and, in `Findings.remedies`, what to do.

    A `Log` has been put in order when it was read; give the table as it stands in its file (student, step, problem,
    skill, correct, or the columns of a log) to see what is wrong with the file.

    Raises:
        ValueError: as `conform`, and where the columns are not known.
    """
    raw = log.frame if isinstance(log, Log) else recognise(log, "validate").frame
    ordered = conform(raw, source="validate")
    frame = ordered.frame
    as_given = frame[ordered.row]
    rows = [*_order(as_given, raw), *_copies(frame), *_splits(frame), *_constant(frame)]
    rows += _changing(merge_repeats(ordered).frame)
    bare = frame["concepts"].list.len() == 0
    share = bare.sum() / frame.height
    rows.append(("no_concepts", int(bare.sum()), f"{share:.1%} of {frame.height} answers"))
    return Findings.of(rows)


def _order(frame: pl.DataFrame, raw: pl.DataFrame) -> Iterator[Row]:
    """Faults that sorting would hide, in the rows as they were given."""
    runs = frame["student_id"].rle().struct.unnest()
    apart = runs.filter(~pl.col("value").is_first_distinct())["value"]
    yield "scattered_students", apart.n_unique(), _student(apart)
    for name, column in (
        ("unsorted_time", frame["timestamp"]),
        ("unsorted_step", raw.get_column("step", default=None)),
    ):
        if column is None:
            continue
        values = column.cast(pl.Float64, strict=False) if column.dtype == pl.String else column.to_physical()
        table = pl.DataFrame({"student": frame["student_id"], "value": values})
        table = table.with_columns(pl.col("value").forward_fill().over("student"))
        late = table.select(
            (pl.col("value") < pl.col("value").shift().over("student")).fill_null(False)
        ).to_series()
        yield name, int(late.sum()), _student(frame["student_id"].filter(late))


def _copies(frame: pl.DataFrame) -> Iterator[Row]:
    repeats = is_repeat(frame)
    copies = repeats & (frame["correct"].eq_missing(frame["correct"].shift()))
    at = int(copies.to_numpy().argmax())
    yield (
        "label_copy",
        int(copies.sum()),
        f"student {frame['student_id'][at]}, question {frame['question_id'][at]}",
    )
    # without a time, equal rows may be attempts
    timed = frame.filter(pl.col("timestamp").is_not_null() & pl.col("question_id").is_not_null())
    joined = timed.with_columns(pl.col("concepts").list.sort().list.join("\x1f"))
    seen = joined.select(
        ~pl.struct("student_id", "question_id", "concepts", "correct", "timestamp").is_first_distinct()
    )
    twice = timed.filter(seen.to_series())
    yield "duplicate_rows", twice.height, _student(twice["student_id"])


def _splits(frame: pl.DataFrame) -> Iterator[Row]:
    if "fold" not in frame.columns:
        return
    folds = frame.group_by("student_id", maintain_order=True).agg(pl.col("fold").unique().sort())
    both = folds.filter(pl.col("fold").list.len() > 1)
    told = f"student {both['student_id'][0]} in folds {both['fold'][0].to_list()}" if both.height else ""
    yield "two_splits", both.height, told


def _changing(frame: pl.DataFrame) -> Iterator[Row]:
    sets = frame.select("question_id", pl.col("concepts").list.sort().list.join(", ")).drop_nulls()
    kinds = sets.group_by("question_id", maintain_order=True).agg(
        pl.col("concepts").unique(maintain_order=True)
    )
    several = kinds.filter(pl.col("concepts").list.len() > 1)
    told = ""
    if several.height:
        shown = " and ".join(f"[{concepts}]" for concepts in several["concepts"][0].to_list()[:3])
        told = f"question {several['question_id'][0]} with {shown}"
    yield "changing_concepts", several.height, told


def _constant(frame: pl.DataFrame) -> Iterator[Row]:
    given = frame.filter(pl.col("correct").is_not_null())
    for name, key, fewest in (
        ("constant_students", "student_id", FEWEST_STUDENT),
        ("constant_questions", "question_id", FEWEST_QUESTION),
    ):
        table = given.drop_nulls(key).group_by(key, maintain_order=True)
        counts = table.agg(pl.len(), pl.col("correct").sum().cast(pl.Int64).alias("right"))
        same = counts.filter(
            (pl.col("len") >= fewest) & ((pl.col("right") == 0) | (pl.col("right") == pl.col("len")))
        )
        told = ""
        if same.height:
            told = f"{key.removesuffix('_id')} {same[key][0]}: {same['right'][0]} of {same['len'][0]} right"
        yield name, same.height, told
    lengths = frame.group_by("student_id", maintain_order=True).agg(pl.len())
    single = lengths.filter(pl.col("len") == 1)["student_id"]
    yield "single_answers", len(single), _student(single)


def _student(students: pl.Series) -> str:
    return f"student {students[0]}" if len(students) else ""

"""Which concepts a question has, from a file beside the log: a Q-matrix."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ..battery.schema import near
from .findings import Findings
from .reading import Reading
from .tables import read_table

_QUESTIONS = ("question_id", "question", "problem_id", "item_id", "object_id")
_CONCEPTS = ("concepts", "concept", "concept_id", "skill_id", "skill", "tags", "kc")


def read_concept_file(path: Path) -> pl.DataFrame:
    """`question_id, concepts` of a csv or parquet file: concepts joined with ; | or ~~, or one of them a row.

    Raises:
        ValueError: the file lacks one of the columns.
    """
    table = read_table(path)
    question = next((name for name in _QUESTIONS if name in table.columns), None)
    concept = next((name for name in _CONCEPTS if name in table.columns), None)
    if question is None or concept is None:
        lacking = "question_id" if question is None else "concepts"
        raise ValueError(
            f"{path}: no column {near(lacking, table.columns)}; got {table.columns}; wanted question_id and concepts "
            "(joined with ; or one a row)"
        )
    parts = table.select(
        pl.col(question).cast(pl.String).alias("question_id"), pl.col(concept).alias("concepts")
    )
    if not isinstance(parts["concepts"].dtype, pl.List):
        text = pl.col("concepts").cast(pl.String).str.replace_all(r"\||~~", ";")
        parts = parts.with_columns(text.str.split(";").alias("concepts"))
    parts = parts.filter(pl.col("concepts").list.len() > 0).explode("concepts").drop_nulls()
    return parts.group_by("question_id", maintain_order=True).agg(
        pl.col("concepts").unique(maintain_order=True)
    )


def with_concepts(reading: Reading, concepts: pl.DataFrame, source: str) -> Reading:
    """`reading` with the concepts of `read_concept_file`, which come before its own.

    Raises:
        ValueError: the reading has no questions to look up.
    """
    frame = reading.frame
    if "question_id" not in frame.columns:
        raise ValueError(
            f"{source}: has no question_id, by which concepts could be looked up; leave concepts= out"
        )
    ids = pl.col("question_id").cast(pl.String).str.strip_chars()
    found = frame.select(ids).join(concepts, on="question_id", how="left", maintain_order="left")["concepts"]
    missing = found.is_null()
    if "concepts" in frame.columns:
        own = frame["concepts"]
        if not isinstance(own.dtype, pl.List):
            own = frame.select(pl.concat_list(pl.col("concepts").cast(pl.String))).to_series()
        pair = pl.DataFrame({"own": own.cast(pl.List(pl.String)), "found": found})
        found = pair.select(pl.coalesce("found", "own")).to_series()
    told = [
        (
            "unknown_concepts",
            int(missing.sum()),
            "answers to questions that the file of concepts does not have",
        )
    ]
    return Reading(
        frame.with_columns(found.alias("concepts")),
        reading.keys,
        reading.report + Findings.of(told),
        reading.row,
    )

"""Named findings over a log: what reading repaired, merged or refused, and what `checks.validate` saw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import polars as pl

FINDINGS: dict[str, tuple[str, str]] = {
    # written while a log is read
    "trimmed_id": ("ids had blanks around them, which were cut", "none needed"),
    "float_id": ("ids were written as fractions (12.0) and were read as whole numbers", "none needed"),
    "empty_question": (
        "answers name no question",
        "none needed; they are predicted from their concepts alone",
    ),
    "empty_concept": ("concept lists held blanks, which were left out", "none needed"),
    "duplicate_concept": ("a concept stood twice on one answer; it is kept once", "none needed"),
    "no_label": (
        "questions were asked and not answered",
        "none needed; they are predicted and leave the memory as it was",
    ),
    "regrouped_students": (
        "a student's rows were apart in the file; they were brought together",
        "none needed",
    ),
    "sorted_by_time": (
        "rows stood after later answers of the same student; sorted by timestamp",
        "none needed",
    ),
    "sorted_by_step": ("rows stood after later answers of the same student; sorted by step", "none needed"),
    "zero_time": ("every timestamp is 0, so there is none", "export the real times, or leave the column out"),
    "relative_time": (
        "times count from a start of their own; that start was set to 2015-01-01",
        "none needed",
    ),
    "unreadable_number": ("an optional number could not be read or was negative; made null", "none needed"),
    "ignored_columns": (
        "columns have no meaning here and were left out",
        "rename them with columns={old: new}",
    ),
    "repeat_rows": ("rows repeated the answer before under another concept; merged into it", "none needed"),
    "repeat_label": (
        "rows repeated the answer before with another label or none; merged into it, and its label counts",
        "if they were attempts of their own, give timestamps",
    ),
    "partial_credit": ("labels between 0 and 1 are no answer that is right or wrong; refused", "round them"),
    "not_an_answer": ("records are no answers to a question; refused", "none needed"),
    "no_student": ("records name no student; refused", "export them with the student's id"),
    "joined_records": ("records tell of an answer that another record gave; joined with it", "none needed"),
    "scaffolding": (
        "rows are scaffolding (original = 0), sub-questions of the one before; kept",
        "none needed",
    ),
    "unknown_concepts": ("questions are missing in the file of concepts", "add them to it"),
    "file_order": (
        "the file has no order of its own; the order of its rows was taken",
        "add step or timestamp",
    ),
    # written while a log is encoded
    "unknown_question": ("questions are not in the vocabulary; they stand on their concepts", "none needed"),
    "unknown_concept": ("concepts are not in the vocabulary; left out", "none needed"),
    "cut_concepts": ("concepts had no slot; the first ones of the question are kept", "none needed"),
    "far_time": ("times are more than 31 years from 2015; taken as missing", "correct the timestamps"),
    # seen by checks
    "label_copy": (
        "rows repeat the question before under other concepts: their labels are copies",
        "read the log with from_repeat_rows or open_log, which merge them",
    ),
    "two_splits": (
        "students are in more than one fold, so a test fold holds its own training",
        "split by student",
    ),
    "unsorted_time": ("answers are earlier than the one before them", "sort by student_id and timestamp"),
    "unsorted_step": ("steps are smaller than the one before them", "sort by student_id and step"),
    "scattered_students": ("a student's rows are not together", "sort by student_id, keeping the order"),
    "changing_concepts": (
        "questions come with different concepts",
        "settle on one list of concepts a question",
    ),
    "constant_students": (
        "students with five or more answers have all right or all wrong",
        "see if labels are real",
    ),
    "constant_questions": ("questions with ten or more answers have one label", "see if labels are real"),
    "duplicate_rows": ("rows equal an earlier one in everything, its timestamp included", "drop the copies"),
    "single_answers": ("students have one answer only: nothing can be learnt on them", "none needed"),
    "no_concepts": ("answers have no concept", "name the concepts, or give a file of them"),
}
"""Name -> (meaning, remedy)."""

SCHEMA = {"finding": pl.String, "count": pl.Int64, "first": pl.String}


def _empty() -> pl.DataFrame:
    return pl.DataFrame(schema=SCHEMA)


@dataclass(frozen=True)
class Findings:
    """What was found, how often, and the first case of it.

    table: `finding, count, first`, one row per finding of one file.
    """

    table: pl.DataFrame = field(default_factory=_empty)

    def __post_init__(self) -> None:
        unknown = set(self.table["finding"].unique()) - set(FINDINGS)
        if unknown:
            raise ValueError(f"Findings: unknown names {sorted(unknown)}; known: {sorted(FINDINGS)}")

    @classmethod
    def of(cls, rows: Iterable[tuple[str, int, str]]) -> Findings:
        """Findings of rows `(finding, count, first)`; those that count nothing are left out."""
        kept = [row for row in rows if row[1]]
        return cls(pl.DataFrame(kept, schema=SCHEMA, orient="row")) if kept else cls()

    @property
    def counts(self) -> dict[str, int]:
        """Count of each finding, over all files."""
        total = self.table.group_by("finding", maintain_order=True).agg(pl.col("count").sum())
        return dict(zip(total["finding"], total["count"], strict=True))

    @property
    def remedies(self) -> pl.DataFrame:
        """`finding, count, first, meaning, remedy`."""
        told = [FINDINGS[name] for name in self.table["finding"]]
        return self.table.with_columns(
            pl.Series("meaning", [meaning for meaning, _ in told], pl.String),
            pl.Series("remedy", [remedy for _, remedy in told], pl.String),
        )

    def __add__(self, other: Findings) -> Findings:
        return Findings(pl.concat([self.table, other.table]))

    def __contains__(self, finding: object) -> bool:
        return finding in self.table["finding"]

    def __iter__(self) -> Iterator[dict[str, object]]:
        return self.table.iter_rows(named=True)

    def __len__(self) -> int:
        return self.table.height

    def __str__(self) -> str:
        """One line per finding: its count, its meaning, its first case."""
        if not len(self):
            return "nothing found"
        lines = []
        for name, count in self.counts.items():
            first = self.table.filter(pl.col("finding") == name)["first"][0]
            lines.append(f"{name}: {count} ({FINDINGS[name][0]}); first: {first}")
        return "\n".join(lines)

"""What a reader of a layout gives: the words of `schema`, not yet its types and order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from .casts import first_true
from .findings import Findings
from .schema import Log, conform


@dataclass(frozen=True)
class Reading:
    """A table in the words of `schema`.

    frame: answers, a row each (files with a row for each concept: a row for each of those).
    keys: the key columns of the input, one row per row of the input.
    report: what reading took.
    row: (rows of the input,) the row of `frame` that each row of the input is, -1 where it was refused; None where
        each row of the input is the row of `frame` at its place.
    """

    frame: pl.DataFrame
    keys: pl.DataFrame
    report: Findings = field(default_factory=Findings)
    row: np.ndarray | None = None

    def conformed(self, source: str) -> Log:
        """The log, its rows neither merged nor refused beyond what the reader refused.

        Raises:
            ValueError: as `schema.conform`.
        """
        log = conform(self.frame, source=source)
        row = log.row if self.row is None else np.where(self.row >= 0, log.row[self.row], -1)
        return Log(log.frame, self.report + log.report, row, self.keys)


def select_answers(frame: pl.DataFrame, names: Mapping[str, str | pl.Expr], keys: Sequence[str]) -> Reading:
    """The answers in `frame`, without the rows that name no student or have partial credit, which are counted.

    Args:
        frame: one row per row of the input.
        names: {column of a log: column of `frame`, or an expression over them}; columns that are missing are left out.
        keys: the input's key columns; those that are missing are left out.
    """
    have = set(frame.columns)
    table = frame.select(
        pl.col(old).alias(new) if isinstance(old, str) else old.alias(new)
        for new, old in names.items()
        if not isinstance(old, str) or old in have
    )
    nobody = table["student_id"].cast(pl.String).str.strip_chars().fill_null("") == ""
    label = table["correct"]
    number = (
        label.cast(pl.Float64, strict=False) if label.dtype == pl.String or label.dtype.is_numeric() else None
    )
    partial = nobody & False if number is None else ((number > 0) & (number < 1)).fill_null(False)
    report = Findings.of(
        [
            ("no_student", int(nobody.sum()), f"row {first_true(nobody)}"),
            (
                "partial_credit",
                int(partial.sum()),
                f"row {first_true(partial)}: {label[first_true(partial)]}",
            ),
        ]
        if frame.height
        else []
    )
    kept = frame.select(name for name in keys if name in have)
    if not len(report):
        return Reading(table, kept)
    keep = ~(nobody | partial).to_numpy()
    return Reading(table.filter(pl.Series(keep)), kept, report, np.where(keep, np.cumsum(keep) - 1, -1))

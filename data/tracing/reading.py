"""What a reader of a layout gives: the words of `schema`, not yet its types and order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

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


def refuse(frame: pl.DataFrame, keep: pl.Series) -> tuple[pl.DataFrame, np.ndarray]:
    """The rows of `frame` that `keep` is True for, and the new place of every row, -1 where it is gone."""
    kept = keep.fill_null(False).to_numpy()
    return frame.filter(pl.Series(kept)), np.where(kept, np.cumsum(kept) - 1, -1)

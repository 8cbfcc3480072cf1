"""Encoded answers of many students, one after the other, and how batches are cut from them.

Shape legend: n answers, S students, B students of a batch, T time, F features of an answer, K slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from .findings import Findings
from .times import EPOCH

QUESTION, CORRECT, MINUTES, SLOT_1 = range(4)
"""Places in the last axis of `x`; the K concepts follow from `SLOT_1`."""
_MICROSECONDS = 60_000_000
_EPOCH_US = int(pl.Series([EPOCH], dtype=pl.Datetime("us")).to_physical()[0])
_FARTHEST = 2**24
"""Minutes that float32 counts exactly: 31 years."""


@dataclass(frozen=True)
class Answers:
    """Answers in numbers; those of one student stand together, in the order they were given.

    x: (n, F) float32: question, correct (NaN: asked, not answered), whole minutes since 2015 (NaN: no time), then the
        concepts (0: empty slot). Ids are whole numbers.
    students: S ids.
    offsets: (S + 1,) int64; the answers of student s are x[offsets[s] : offsets[s + 1]].
    row: (n,) the row of the encoded frame that each answer came from.
    report: what the vocabulary did not know.
    """

    x: np.ndarray
    students: tuple[str, ...]
    offsets: np.ndarray
    row: np.ndarray
    report: Findings = field(default_factory=Findings)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def lengths(self) -> np.ndarray:
        """(S,) answers of each student."""
        return np.diff(self.offsets)

    @property
    def student_of(self) -> np.ndarray:
        """(n,) index of the student who gave each answer."""
        return np.repeat(np.arange(len(self.students)), self.lengths)

    def take(self, students: np.ndarray) -> Answers:
        """The answers of these students (indices), in this order. The report stays with the whole."""
        students = np.asarray(students, dtype=np.int64)
        length = self.lengths[students]
        offsets = np.concatenate([[0], np.cumsum(length)])
        at = np.arange(offsets[-1]) + np.repeat(self.offsets[students] - offsets[:-1], length)
        return Answers(self.x[at], tuple(self.students[s] for s in students), offsets, self.row[at])

    def positions(self, students: np.ndarray, max_length: int | None = None) -> np.ndarray:
        """(B, T) places in `x` of the answers of these students, from their first on, -1 behind their last."""
        students = np.asarray(students, dtype=np.int64)
        length = self.lengths[students]
        if max_length is not None:
            length = np.minimum(length, max_length)
        steps = np.arange(int(length.max(initial=0)))
        return np.where(steps < length[:, None], self.offsets[students, None] + steps, -1)

    def pad(self, students: np.ndarray, max_length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Right-padded answers of these students, at most their first `max_length`.

        Returns:
            x: (B, T, F) float32; padding has question and concepts 0, correct and minutes NaN.
            mask: (B, T) bool, True for answers.
        """
        at = self.positions(students, max_length)
        mask = at >= 0
        empty = np.zeros((1, self.x.shape[1]), dtype=np.float32)
        empty[0, [CORRECT, MINUTES]] = np.nan
        return np.concatenate([self.x, empty])[at], mask

    def batches(self, max_cells: int) -> Iterator[np.ndarray]:
        """Indices of all students, in groups of similar length with B * T <= max_cells (one student may exceed it).

        Raises:
            ValueError: max_cells is below 1.
        """
        if max_cells < 1:
            raise ValueError(f"batches: max_cells is {max_cells}; wanted 1 or more")
        length = self.lengths
        order = np.argsort(length, kind="stable")
        start = 0
        while start < len(order):
            # lengths rise, so the last of a group is its longest
            stop = start + 1
            while stop < len(order) and (stop + 1 - start) * length[order[stop]] <= max_cells:
                stop += 1
            yield order[start:stop]
            start = stop


def minutes_since_epoch(timestamps: pl.Series) -> tuple[np.ndarray, int]:
    """(n,) float32 whole minutes since 2015-01-01, NaN where there is no time; how many times were too far off."""
    since = timestamps.to_physical() - _EPOCH_US
    minutes = (since // _MICROSECONDS).cast(pl.Float64).fill_null(float("nan")).to_numpy()
    far = np.abs(minutes) >= _FARTHEST
    return np.where(far, np.nan, minutes).astype(np.float32), int(far.sum())

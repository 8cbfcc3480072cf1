"""What was written before, group by group, without a loop over time."""

from __future__ import annotations

import numpy as np


class Past:
    """For each of E entries, those that were written before it in its group.

    Args:
        group: (E,) int64 >= 0, e.g. student x concept. Entries of a group stand in time order.
        writes: (E,) bool. An entry that does not write reads only.

    Attributes:
        before: (E,) int64, how many of its group were written before it.
        start, place: (E,) int64; these are `written(...)[start:place]`.
    """

    def __init__(self, group: np.ndarray, writes: np.ndarray) -> None:
        self.order = np.argsort(group, kind="stable")
        ordered, self.writes = group[self.order], writes[self.order]
        place = np.cumsum(self.writes) - self.writes
        first = np.flatnonzero(np.diff(ordered, prepend=-1))
        start = np.repeat(place[first], np.diff(first, append=len(group)))
        self.place, self.start = self._back(place), self._back(start)
        self.before = self.place - self.start

    def _back(self, ordered: np.ndarray) -> np.ndarray:
        out = np.empty_like(ordered)
        out[self.order] = ordered
        return out

    def written(self, values: np.ndarray) -> np.ndarray:
        """(W,) the values of written entries, groups together, in time order."""
        return values[self.order][self.writes]

    def total(self, values: np.ndarray, since: np.ndarray | None = None) -> np.ndarray:
        """(E,) sum over what was written before in the group, from the place `since` (E,) on."""
        sums = np.concatenate([[0.0], np.cumsum(self.written(values))])
        return sums[self.place] - sums[self.start if since is None else since]

    def at(self, written: np.ndarray, age: int, none: float) -> np.ndarray:
        """(E,) the value written `age` entries ago, `none` where there are fewer."""
        if not len(written):
            return np.full(len(self.place), none)
        return np.where(self.before >= age, written[np.maximum(self.place - age, 0)], none)

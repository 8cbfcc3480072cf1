"""What a student did on each concept of a row before it: attempts, wins, and how many of them lately.

N rows, K concept slots, E entries: (row, concept) pairs, the rows in order.
"""

from __future__ import annotations

import numpy as np

from .answers import CORRECT, MINUTES, Answers
from .past import Past
from .shrinkage import ids

WINDOWS = {"1h": 60, "1d": 1440, "7d": 10080, "30d": 43200}
"""Windows of DAS3H (Choffin et al. 2019) in minutes; an answer as old as the window is inside."""


class ConceptHistory:
    """Entries of encoded answers, and what was answered on their concepts before them.

    Attributes:
        row, concept: (E,) int64, row of `answers` and concept of each entry; rows without a known concept have none.
        past: of each entry, what was answered by the student on the concept.
        attempts, wins: (E,) before the entry.
    """

    def __init__(self, answers: Answers, num_concepts: int) -> None:
        _, concept_NK, used_NK = ids(answers.x, 0, num_concepts)
        self.row, slot = np.nonzero(used_NK)
        self.concept = concept_NK[self.row, slot]
        correct = answers.x[self.row, CORRECT].astype(float)
        self._answered, self._win = np.isfinite(correct), (correct >= 0.5).astype(float)
        self._minutes = answers.x[self.row, MINUTES].astype(float)
        self._group = answers.student_of[self.row] * (num_concepts + 1) + self.concept
        self.past = Past(self._group, self._answered)
        self.attempts, self.wins = self.past.before, self.past.total(self._win)

    def windows(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """(E,) attempts and wins within each of `WINDOWS` before the entry; what has no time is in none.

        Times may not fall within a student.
        """
        timed = np.isfinite(self._minutes)
        if not timed.any():
            return {name: (np.zeros(len(timed)), np.zeros(len(timed))) for name in WINDOWS}
        past = Past(self._group, self._answered & timed)
        # one sorted line of times: every group has a stretch of its own, longer than its times and the longest window
        clock = self._minutes - np.nanmin(self._minutes)
        stretch = np.nanmax(clock) + 2.0 * max(WINDOWS.values())
        clock += np.unique(past.start, return_inverse=True)[1] * stretch
        line = past.written(clock)
        out = {}
        for name, length in WINDOWS.items():
            since = np.clip(np.searchsorted(line, clock - length), past.start, past.place)
            out[name] = (past.place - since).astype(float), past.total(self._win, since)
        return out

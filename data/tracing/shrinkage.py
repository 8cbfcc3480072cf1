"""How hard questions and concepts are: shares of right answers, shrunk to what is known without them.

Shares lie on a grid of 1/256, so that sums of them are exact in float32 and every way of computing a forecast, on any
device, has the same last bit.

Shape legend: n answers, F features of an answer, K concept slots, Q questions, C concepts; index 0 is the unknown one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .answers import CORRECT, QUESTION, SLOT_1

GRID = 256
QUESTION_PRIOR = 5.0
"""Answers' worth of its concepts' share that a question starts with."""
CONCEPT_PRIOR = 20.0
"""Answers' worth of the overall share that a concept starts with."""


@dataclass(frozen=True, eq=False)
class Difficulty:
    """Share of right answers and number of answers in training.

    question: (Q + 1, 2) float64. Row 0 tells nothing (count 0).
    concept: (C + 1, 2) float64. Row 0 is of all answers.
    """

    question: np.ndarray
    concept: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, num_questions: int, num_concepts: int) -> Difficulty:
        """From encoded answers (n, F) in any order; those that were only asked do not count.

        share = (right + k * prior) / (answers + k), on the grid: a concept's with the overall share and k = 20, a
        question's with the mean share of the concepts it came with and k = 5.
        """
        x = x[np.isfinite(x[:, CORRECT])]
        question, concept, used = ids(x, num_questions, num_concepts)
        win = (x[:, CORRECT] >= 0.5).astype(float)
        overall = float(win.mean()) if len(win) else 0.5
        owner = np.broadcast_to(win[:, None], used.shape)[used]
        count_c = np.bincount(concept[used], minlength=num_concepts + 1).astype(float)
        wins_c = np.bincount(concept[used], owner, minlength=num_concepts + 1)
        share_c = on_grid((wins_c + CONCEPT_PRIOR * overall) / (count_c + CONCEPT_PRIOR))
        share_c[0], count_c[0] = on_grid(np.array(overall)), len(win)
        count_q = np.bincount(question, minlength=num_questions + 1).astype(float)
        wins_q = np.bincount(question, win, minlength=num_questions + 1)
        expected = concept_share(share_c, concept, used)
        prior = np.bincount(question, expected, minlength=num_questions + 1) / np.maximum(count_q, 1)
        share_q = on_grid((wins_q + QUESTION_PRIOR * prior) / (count_q + QUESTION_PRIOR))
        count_q[0] = 0  # what is unknown has no share of its own
        return cls(np.stack([share_q, count_q], 1), np.stack([share_c, count_c], 1))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Difficulty)
            and np.array_equal(self.question, other.question)
            and np.array_equal(self.concept, other.concept)
        )

    __hash__ = None  # type: ignore[assignment]


def ids(x: np.ndarray, num_questions: int, num_concepts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Question (n,), concepts (n, K) without repeats, and (n, K) bool: slots that hold one. Ids out of range are 0."""
    question, concept = _known(x[:, QUESTION], num_questions), _known(x[:, SLOT_1:], num_concepts)
    for slot in range(1, concept.shape[1]):
        twin = (concept[:, :slot] == concept[:, slot, None]).any(1)
        concept[twin, slot] = 0
    return question, concept, concept > 0


def concept_share(share: np.ndarray, concept: np.ndarray, used: np.ndarray) -> np.ndarray:
    """(n,) mean of the shares (C + 1,) of each row's concepts (n, K); without one, the overall share."""
    number = used.sum(1)
    return np.where(number > 0, (share[concept] * used).sum(1) / np.maximum(number, 1), share[0])


def on_grid(share: np.ndarray) -> np.ndarray:
    return np.asarray(np.round(share * GRID) / GRID)


def _known(index: np.ndarray, largest: int) -> np.ndarray:
    known = (index >= 1) & (index < largest + 1)
    return np.where(known, index, 0).astype(np.int64)

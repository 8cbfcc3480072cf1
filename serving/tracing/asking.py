"""Rows of the graphs' input that ask without answering: they give a forecast and leave the state as it was.

Shape legend: n answers, A asked rows, N questions, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches

import numpy as np
import polars as pl

from ...data.tracing.answers import CORRECT, MINUTES, QUESTION, SLOT_1, Answers
from ...data.tracing.encode import Vocabulary
from ...data.tracing.times import EPOCH, to_timestamps

FARTHEST = 2**24
"""Minutes that float32 counts exactly."""

UNKNOWN_QUESTION, UNKNOWN_CONCEPT = "unknown_question", "unknown_concept"


class Asking:
    """Single questions in the numbers of a vocabulary, as `Vocabulary.encode` would write them."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.question = {name: i for i, name in enumerate(vocabulary.questions) if i}
        self.concept = {name: i for i, name in enumerate(vocabulary.concepts) if i}
        median = [vocabulary.median_question[name] for name in vocabulary.concepts[1:]]
        self._median = np.array([0, *(self.question[q] if q else 0 for q in median)])

    def row(
        self, question_id: str | None, concepts: Sequence[str] | None, minutes: float
    ) -> tuple[np.ndarray, list[str]]:
        """(F,) a question that is asked at these minutes, and what of it the vocabulary does not know.

        An unknown question is one of average difficulty for its concepts; without known concepts, those of the
        question stand in, and an unknown question without any is an average one of all.
        """
        flags = []
        question = self.question.get(question_id or "", 0)
        if question_id is not None and not question:
            flags.append(UNKNOWN_QUESTION)
        given = list(dict.fromkeys(concepts or ()))
        known = [self.concept[name] for name in given if name in self.concept]
        if len(known) < len(given):
            flags.append(UNKNOWN_CONCEPT)
        x_F = np.zeros(SLOT_1 + self.vocabulary.slots, np.float32)
        x_F[QUESTION], x_F[CORRECT], x_F[MINUTES] = question, np.nan, minutes
        slots = known[: self.vocabulary.slots] or self.vocabulary.concepts_of[question]
        x_F[SLOT_1 : SLOT_1 + len(slots)] = slots
        return x_F, flags

    def concept_index(self, name: str) -> int:
        """Place of a concept in the vocabulary.

        Raises:
            ValueError: the vocabulary has no such concept; the message names the near ones.
        """
        if name not in self.concept:
            near = get_close_matches(str(name), self.concept, n=3) or list(self.concept)[:3]
            raise ValueError(f"concept {name!r} is not known to the bundle; near ones: {', '.join(near)}")
        return self.concept[name]

    def everything(self) -> np.ndarray:
        """(N, F) all questions of the vocabulary or, where it has none, one for each concept; without a time."""
        count = len(self.question)
        if not count:
            return self.mastery(np.arange(1, len(self.vocabulary.concepts)), np.nan)
        x_NF = np.zeros((count, SLOT_1 + self.vocabulary.slots), np.float32)
        x_NF[:, QUESTION] = np.arange(1, count + 1)
        x_NF[:, [CORRECT, MINUTES]] = np.nan
        x_NF[:, SLOT_1:] = self.vocabulary.concept_table[1:]
        return x_NF

    def mastery(self, concept: np.ndarray, minutes: np.ndarray | float) -> np.ndarray:
        """(A, F) the median question of each concept (A,), asked for that concept alone, at these minutes."""
        x_AF = np.zeros((len(concept), SLOT_1 + self.vocabulary.slots), np.float32)
        x_AF[:, QUESTION] = self._median[concept]
        x_AF[:, CORRECT] = np.nan
        x_AF[:, MINUTES] = minutes
        x_AF[:, SLOT_1] = concept
        return x_AF


def minutes_of(timestamp: datetime | str | float | None) -> float:
    """Whole minutes since 2015-01-01 (UTC), NaN without a time. Text and numbers are read as `open_log` reads them.

    Raises:
        ValueError: it is no time, or it is more than 31 years from 2015.
    """
    time: datetime | None
    if timestamp is None:
        return float("nan")  # not worth a series, which costs as much as the model
    if isinstance(timestamp, datetime):
        time = timestamp if timestamp.tzinfo is None else timestamp.astimezone(UTC).replace(tzinfo=None)
    else:
        time = to_timestamps(pl.Series([timestamp], strict=False), "timestamp")[0][0]
    if time is None:
        return float("nan")
    minutes = (time - EPOCH) // timedelta(minutes=1)
    if abs(minutes) >= FARTHEST:
        raise ValueError(f"timestamp is {timestamp}; wanted one within 31 years of {EPOCH:%Y-%m-%d}")
    return float(minutes)


def insert(
    answers: Answers, x_AF: np.ndarray, student_A: np.ndarray, before_A: np.ndarray
) -> tuple[Answers, np.ndarray, np.ndarray]:
    """Answers with asked rows among them.

    Args:
        x_AF: the rows to put in. Those that go to one place keep their order.
        student_A: index of the student that each belongs to.
        before_A: place in `answers.x` of the answer that each stands before; the student's end for behind the last.

    Returns:
        The answers, and where (n,) the old and (A,) the new rows stand in them. `row` is -1 for the new ones.
    """
    n = len(answers)
    owner = np.concatenate([answers.student_of, student_A])
    # asked rows come first among equals: they stand before the answer of their place
    place = np.concatenate([2 * np.arange(n) + 1, 2 * before_A])
    order = np.lexsort((place, owner))
    lengths = np.bincount(owner, minlength=len(answers.students))
    row = np.concatenate([answers.row, np.full(len(x_AF), -1)])[order]
    where = np.empty(len(order), np.int64)
    where[order] = np.arange(len(order))
    x = np.concatenate([answers.x, x_AF])[order]
    whole = Answers(x, answers.students, np.concatenate([[0], np.cumsum(lengths)]), row, answers.report)
    return whole, where[:n], where[n:]

"""In which situations questions and concepts were asked in training: tables that a forecast looks up.

A question that comes late in a run of its concept, or to able students, or after another concept, tells more than its
share of right answers does. All of it is known before the answer. Values lie on the grid of `shrinkage`, so that what
is built on them has the same last bit everywhere.

Shape legend: n answers, K concept slots, Q questions, C concepts; index 0 is the unknown one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .answers import CORRECT, Answers
from .encode import Vocabulary
from .shrinkage import CONCEPT_PRIOR, QUESTION_PRIOR, Difficulty, concept_share, ids, on_grid

LONGEST_RUN = 32.0
MOST_ATTEMPTS = 50.0
MOST_ANSWERS = 300.0
MOST_TRIES = 3
"""Tries at a question in a row that are told apart."""
RUN_OUTCOMES = 4
"""Last outcomes of a run on a concept that are told apart."""
RATE_EDGES = ((11, 20), (18, 25))
"""Fractions that part students who are rarely, often and mostly right."""
QUESTION_COLUMNS = (
    *("share", "count", "after_wrong", "after_right", "after_none"),
    *("run", "attempts", "rate", "rate_low", "rate_mid", "rate_high"),
    *("first_try", *(f"try_{n}_after_{last}" for n in (2, 3, 4) for last in ("wrong", "right"))),
)
CONCEPT_COLUMNS = ("share", "count", "position", "fresh")
RUN_STATES = 2 ** (RUN_OUTCOMES + 1) - 1
"""0: a run begins; 2^m - 1 + bits: the last m outcomes of a run, the newest as the lowest bit."""
_WRONG, _RIGHT, _NONE = range(3)


@dataclass(frozen=True, eq=False)
class Tables:
    """What `ConceptMemory.set_tables` takes, float32.

    question: (Q + 1, 18) `QUESTION_COLUMNS`: share of right answers and their number; the share after the student's
        last answer, of any question, was wrong, right, or there was none; means of the answers in a row on the same
        concept before it, of the attempts at its concepts, and of the student's share of right answers; the share
        among students who were rarely, often and mostly right; the share at the first try, and at the second, third
        and later tries in a row, after a wrong and after a right one.
    concept: (C + 1, 4) `CONCEPT_COLUMNS`: share and number; where it is the first concept of a row, mean number of the
        student's answers so far, and how often the answer before was on another concept.
    pair: (C + 1, C + 1) share of right answers by first concept of the answer before (0: none) and of this one.
    run: (C + 1, `RUN_STATES`) share of right answers by the last outcomes of a run on the first concept.
    """

    question: np.ndarray
    concept: np.ndarray
    pair: np.ndarray
    run: np.ndarray


@dataclass(frozen=True)
class _Situations:
    """(n,) each, of answered rows: outcome of the answer before, its first concept, answers in a row on this first
    concept, earlier attempts at the row's concepts, earlier answers of the student, and those that were right; which
    try at the question it is, and the state of the run.
    """

    outcome: np.ndarray
    concept: np.ndarray
    run: np.ndarray
    attempts: np.ndarray
    answers: np.ndarray
    wins: np.ndarray
    tried: np.ndarray
    state: np.ndarray

    @property
    def rate(self) -> np.ndarray:
        """Smoothed share of right answers."""
        return (self.wins + 1) / (self.answers + 2)

    @property
    def ability(self) -> np.ndarray:
        """Which of `RATE_EDGES` the rate has passed, in whole numbers."""
        passed = [over * (self.wins + 1) >= part * (self.answers + 2) for part, over in RATE_EDGES]
        return np.sum(passed, axis=0)


def situation_tables(vocabulary: Vocabulary, answers: Answers, students: np.ndarray | None = None) -> Tables:
    """Tables from the answers of `students` (indices into `answers.students`; None: all of them).

    Means of a question are shrunk to those of all answers as by 5 answers, those of a concept as by 20. A question's
    share after a right, wrong or no answer is shrunk to its share, moved in log odds by what that does to all answers.
    """
    if students is not None:
        answers = answers.take(students)
    num_questions, num_concepts = len(vocabulary.questions) - 1, len(vocabulary.concepts) - 1
    answered = np.isfinite(answers.x[:, CORRECT])
    x, student = answers.x[answered], answers.student_of[answered]
    win = (x[:, CORRECT] >= 0.5).astype(float)
    difficulty = Difficulty.fit(x, num_questions, num_concepts)
    question, concept, used = ids(x, num_questions, num_concepts)
    at = _situations(student, question, concept, used, win)

    def shrunk(
        index: np.ndarray, values: np.ndarray, size: int, prior: np.ndarray | float, k: float
    ) -> np.ndarray:
        total, number = np.bincount(index, values, size), np.bincount(index, minlength=size)
        return on_grid((total + k * prior) / (number + k))

    def mean(values: np.ndarray, otherwise: float) -> float:
        return float(values.mean()) if len(values) else otherwise

    overall = mean(win, 0.5)
    share_q, count_q = difficulty.question.T
    share_c = difficulty.concept[:, 0]
    own = vocabulary.concept_table
    share_q = np.where(count_q > 0, share_q, on_grid(concept_share(share_c, own, own > 0)))
    columns = [share_q, count_q]
    for outcome in (_WRONG, _RIGHT, _NONE):
        here = at.outcome == outcome
        moved = _moved(share_q, mean(win[here], overall), overall)
        columns.append(shrunk(question[here], win[here], len(share_q), moved, QUESTION_PRIOR))
    for values in (np.minimum(at.run, LONGEST_RUN), np.minimum(at.attempts, MOST_ATTEMPTS), at.rate):
        columns.append(shrunk(question, values, len(share_q), mean(values, 0.0), QUESTION_PRIOR))
    for cell, number in ((at.ability, len(RATE_EDGES) + 1), (at.tried, 2 * MOST_TRIES + 1)):
        for here in (cell == value for value in range(number)):
            columns.append(shrunk(question[here], win[here], len(share_q), share_q, QUESTION_PRIOR))

    first = concept[:, 0]
    position, fresh = np.minimum(at.answers, MOST_ANSWERS), (at.run == 0).astype(float)
    by_concept = [
        shrunk(first, values, len(share_c), mean(values, 0.0), CONCEPT_PRIOR) for values in (position, fresh)
    ]
    by_pair = (at.concept, first, len(share_c), np.tile(share_c, len(share_c)))
    by_run = (first, at.state, RUN_STATES, np.repeat(share_c, RUN_STATES))
    pair, run = (
        shrunk(rows * width + column, win, len(prior), prior, CONCEPT_PRIOR).reshape(-1, width)
        for rows, column, width, prior in (by_pair, by_run)
    )
    return Tables(
        np.stack(columns, 1).astype(np.float32),
        np.column_stack([difficulty.concept, *by_concept]).astype(np.float32),
        pair.astype(np.float32),
        run.astype(np.float32),
    )


def _situations(
    student: np.ndarray, question: np.ndarray, concept: np.ndarray, used: np.ndarray, win: np.ndarray
) -> _Situations:
    n, first = len(win), concept[:, 0]
    row = np.arange(n)
    fresh = np.ones(n, dtype=bool)
    fresh[1:] = student[1:] != student[:-1]

    def since(starts: np.ndarray) -> np.ndarray:
        return row - np.maximum.accumulate(np.where(starts, row, 0))

    def in_a_row(index: np.ndarray) -> np.ndarray:
        """Answers just before with the same index, which is not 0."""
        broken = fresh.copy()
        broken[1:] |= index[1:] != index[:-1]
        return np.where(index > 0, since(broken), 0)

    answers, run = since(fresh), in_a_row(first)
    total = np.concatenate([[0.0], np.cumsum(win)])
    before = np.maximum(row - 1, 0)
    last = (win[before] > 0).astype(np.int64)
    tries = np.minimum(in_a_row(question), MOST_TRIES)
    told = np.minimum(run, RUN_OUTCOMES)
    state = 2**told - 1
    for back in range(1, RUN_OUTCOMES + 1):
        state += (back <= told) * 2 ** (back - 1) * (win[np.maximum(row - back, 0)] > 0)
    return _Situations(
        outcome=np.where(fresh, _NONE, np.where(last, _RIGHT, _WRONG)),
        concept=np.where(fresh, 0, first[before]),
        run=run,
        attempts=_attempts(student, concept, used),
        answers=answers,
        wins=total[row] - total[row - answers],
        tried=np.where(tries > 0, 2 * tries - 1 + last, 0),
        state=state,
    )


def _attempts(student: np.ndarray, concept: np.ndarray, used: np.ndarray) -> np.ndarray:
    """(n,) earlier answers of the student on each of the row's concepts, added up."""
    owner, slot = np.nonzero(used)
    about = concept[owner, slot]
    order = np.lexsort((owner, about, student[owner]))
    group_of, about_of = student[owner][order], about[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (group_of[1:] != group_of[:-1]) | (about_of[1:] != about_of[:-1])
    place = np.arange(len(order))
    rank = place - np.maximum.accumulate(np.where(new, place, 0))
    return np.bincount(owner[order], rank, len(concept))


def _moved(share: np.ndarray, conditional: float, overall: float) -> np.ndarray:
    """Shares moved in log odds by what moves `overall` to `conditional`."""

    def odds(p: np.ndarray | float) -> np.ndarray:
        inside = np.clip(p, 1 / 512, 1 - 1 / 512)
        return np.asarray(inside / (1 - inside))

    moved = odds(share) * odds(conditional) / odds(overall)
    return moved / (1 + moved)

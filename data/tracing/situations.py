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
QUESTION_COLUMNS = (
    *("share", "count", "after_wrong", "after_right", "after_none"),
    *("run", "attempts", "rate"),
)
CONCEPT_COLUMNS = ("share", "count", "position", "fresh")
_WRONG, _RIGHT, _NONE = range(3)


@dataclass(frozen=True, eq=False)
class Tables:
    """What `ConceptMemory.set_tables` takes, float32.

    question: (Q + 1, 8) `QUESTION_COLUMNS`: share of right answers and their number; the share after the student's
        last answer, of any question, was wrong, right, or there was none; means of the answers in a row on the same
        concept before it, of the attempts at its concepts, and of the student's share of right answers.
    concept: (C + 1, 4) `CONCEPT_COLUMNS`: share and number; where it is the first concept of a row, mean number of the
        student's answers so far, and how often the answer before was on another concept.
    pair: (C + 1, C + 1) share of right answers by first concept of the answer before (0: none) and of this one.
    """

    question: np.ndarray
    concept: np.ndarray
    pair: np.ndarray


@dataclass(frozen=True)
class _Situations:
    """(n,) each, of answered rows: outcome of the answer before, its first concept, answers in a row on this first
    concept, earlier attempts at the row's concepts, earlier answers of the student, and their smoothed share right.
    """

    outcome: np.ndarray
    concept: np.ndarray
    run: np.ndarray
    attempts: np.ndarray
    answers: np.ndarray
    rate: np.ndarray


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
    at = _situations(student, concept, used, win)

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

    first = concept[:, 0]
    position, fresh = np.minimum(at.answers, MOST_ANSWERS), (at.run == 0).astype(float)
    by_concept = [
        shrunk(first, values, len(share_c), mean(values, 0.0), CONCEPT_PRIOR) for values in (position, fresh)
    ]
    pair = shrunk(
        at.concept * len(share_c) + first,
        win,
        len(share_c) ** 2,
        np.tile(share_c, len(share_c)),
        CONCEPT_PRIOR,
    )
    return Tables(
        np.stack(columns, 1).astype(np.float32),
        np.column_stack([difficulty.concept, *by_concept]).astype(np.float32),
        pair.reshape(len(share_c), len(share_c)).astype(np.float32),
    )


def _situations(student: np.ndarray, concept: np.ndarray, used: np.ndarray, win: np.ndarray) -> _Situations:
    n, first = len(win), concept[:, 0]
    row = np.arange(n)
    fresh_student = np.ones(n, dtype=bool)
    fresh_student[1:] = student[1:] != student[:-1]
    begin = np.maximum.accumulate(np.where(fresh_student, row, 0))
    answers = row - begin
    total = np.concatenate([[0.0], np.cumsum(win)])
    wins = total[row] - total[begin]
    broken = fresh_student.copy()
    broken[1:] |= first[1:] != first[:-1]
    run = np.where(first > 0, row - np.maximum.accumulate(np.where(broken, row, 0)), 0)
    before = np.maximum(row - 1, 0)
    outcome = np.where(fresh_student, _NONE, np.where(win[before] > 0, _RIGHT, _WRONG))
    return _Situations(
        outcome,
        np.where(fresh_student, 0, first[before]),
        run,
        _attempts(student, concept, used),
        answers,
        (wins + 1) / (answers + 2),
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

"""Predictions of whole logs: one row per row of the input, each from the student's earlier answers alone.

Shape legend: n answers, A asked rows, K concept slots, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from ...data.tracing.answers import CORRECT, MINUTES, SLOT_1, Answers
from ...data.tracing.findings import Findings
from ...data.tracing.repeats import from_repeat_rows
from ...data.tracing.schema import Log
from ..bundle import Bundle
from ..session import Device
from .asking import Asking, insert
from .explain import effects
from .graphs import TracingGraphs
from .mastery import LATER, bands, half_life_days
from .monotone import logit, offsets_along, shift


class TracingPredictor:
    """Probabilities of right answers, and mastery of concepts, from a tracing bundle with onnxruntime.

    Args:
        bundle: a bundle folder, or an opened `Bundle`.
        device: "auto" takes a GPU where there is one that works; "cpu" or "cuda" insist.
        monotone: mastery never falls after a right answer and never rises after a wrong one; see `monotone`.

    Raises:
        ValueError: where the bundle is incomplete, changed, of another version or app.
    """

    def __init__(
        self, bundle: str | Path | Bundle, *, device: Device = "auto", monotone: bool = False
    ) -> None:
        self._graphs = TracingGraphs(bundle, device=device)
        self.bundle, self.vocabulary = self._graphs.bundle, self._graphs.vocabulary
        self.monotone = monotone
        self._asking = Asking(self.vocabulary)

    def unknown(self, log: Log | pl.DataFrame) -> Findings:
        """What the vocabulary does not know of a log, counted. Such rows are predicted all the same.

        An unknown question is one of average difficulty for its concepts. An unknown concept is left out; without
        a known one, the answer has the concepts of its question, or none.
        """
        return self.vocabulary.encode(_log(log).frame).report

    def predict(self, log: Log | pl.DataFrame) -> pl.DataFrame:
        """The probability of a right answer to every row, computed before its answer is seen.

        Args:
            log: of `remem.data.tracing.open_log`, or a table whose columns it knows. Rows that repeat an answer under
                another concept are merged into one, and each gets the probability of the question it belongs to.

        Returns:
            The input's key columns and `p_correct`; where the bundle is a stack, `p_<member>` of each member too. One
            row per row of the input, in its order; null where reading refused the row.

        Raises:
            ValueError: where the table breaks the schema of logs.
        """
        log = _log(log)
        y_nO = self.forecasts(log.frame)
        columns = {
            name: pl.Series(log.hand_back(column)).fill_nan(None)
            for name, column in zip(self._graphs.outputs, y_nO.T, strict=True)
        }
        return log.keys.with_columns(**columns)

    def forecasts(self, frame: pl.DataFrame) -> np.ndarray:
        """(rows, O) outputs for every row of a conformed log (`Log.frame`), in its order."""
        answers = self.vocabulary.encode(frame)
        y_RO = np.empty((frame.height, len(self._graphs.outputs)))
        y_RO[answers.row] = self._outputs(answers)
        return y_RO

    def mastery(self, log: Log | pl.DataFrame, concepts: Sequence[str] | None = None) -> pl.DataFrame:
        """Mastery of concepts after each student's last answer, at the time of it.

        Args:
            log: see `predict`.
            concepts: of every student; default: those that the student has practised.

        Returns:
            `student_id, concept, mastery, lo, hi, half_life_days, answers` (on the concept so far). The band `lo, hi`
            has the bundle's confidence, null where the bundle knows none. The half-life is null without times, or
            where the excess over the never-practised level does not halve within seven years.

        Raises:
            ValueError: as `predict`, and where a concept is not known.
        """
        answers = self.vocabulary.encode(_log(log).frame)
        student, concept, times = self._pairs(answers, concepts)
        minutes = _last_minutes(answers)[student]
        timed = np.isfinite(minutes)
        asked = np.concatenate(
            [
                self._asking.mastery(concept, minutes),
                self._asking.mastery(
                    np.repeat(concept[timed], len(LATER)), (minutes[timed, None] + LATER).ravel()
                ),
            ]
        )
        owner = np.concatenate([student, np.repeat(student[timed], len(LATER))])
        p_A = self._ask(answers, asked, owner, answers.offsets[owner + 1])
        now, later = p_A[: len(student)], p_A[len(student) :].reshape(-1, len(LATER))
        half_life = np.full(len(now), np.nan)
        half_life[timed] = half_life_days(now[timed], later, self._never(concept[timed]))
        lo, hi = bands(self.bundle, now, times)
        return pl.DataFrame(
            {
                "student_id": pl.Series([answers.students[s] for s in student], dtype=pl.String),
                "concept": pl.Series([self.vocabulary.concepts[c] for c in concept], dtype=pl.String),
                "mastery": now,
                "lo": lo,
                "hi": hi,
                "half_life_days": half_life,
                "answers": times,
            }
        ).with_columns(pl.col("lo", "hi", "half_life_days").fill_nan(None))

    def mastery_history(self, log: Log | pl.DataFrame, concepts: Sequence[str] | None = None) -> pl.DataFrame:
        """Mastery after each answer: `student_id, answer` (1 for the student's first), `concept, mastery`.

        Rows and cost grow with answers times concepts: meant for a few students. Arguments as in `mastery`.
        """
        answers = self.vocabulary.encode(_log(log).frame)
        student, concept, _ = self._pairs(answers, concepts)
        length = answers.lengths[student]
        after = np.concatenate([np.arange(n) for n in length]) if len(length) else np.zeros(0, int)
        owner, concept = np.repeat(student, length), np.repeat(concept, length)
        place = answers.offsets[owner] + after
        asked = self._asking.mastery(concept, answers.x[place, MINUTES])
        return pl.DataFrame(
            {
                "student_id": pl.Series([answers.students[s] for s in owner], dtype=pl.String),
                "answer": after + 1,
                "concept": pl.Series([self.vocabulary.concepts[c] for c in concept], dtype=pl.String),
                "mastery": self._ask(answers, asked, owner, place + 1),
            }
        ).sort("student_id", "answer", maintain_order=True)

    def explain(self, log: Log | pl.DataFrame, last: int = 200) -> pl.DataFrame:
        """Which past answers moved the forecast of a student's last row, and how far.

        Args:
            log: rows of one student; of the last one, the label does not matter.
            last: how many of the latest answers before it are taken out, one at a time.

        Returns:
            `answer` (1 for the student's first), `question_id, concepts, correct, effect`: the forecast's logit with
            the answer minus the one without it, in the order of answering. Rows that were asked only have 0.

        Raises:
            ValueError: as `predict`, and where the log has several students.
        """
        log = _log(log)
        answers = self.vocabulary.encode(log.frame)
        if len(answers.students) != 1:
            raise ValueError(
                f"explain: got rows of {len(answers.students)} students, first {answers.students[:3]}; wanted one: "
                "filter the log"
            )
        effect = effects(self._graphs, answers, last)
        first = len(answers) - 1 - len(effect)
        told = log.frame[answers.row[first:-1].tolist()].select("question_id", "concepts", "correct")
        number = pl.Series("answer", np.arange(first, len(answers) - 1) + 1)
        return told.select(number, pl.all(), pl.Series("effect", effect))

    def _never(self, concept: np.ndarray) -> np.ndarray:
        """(N,) mastery of a student of whom nothing is known."""
        every = np.arange(len(self.vocabulary.concepts))
        p = self._graphs.step.ask(self._asking.mastery(every, np.nan), self._graphs.step.fresh)[:, 0]
        return p.astype(np.float64)[concept]

    def _pairs(
        self, answers: Answers, concepts: Sequence[str] | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs of a student and a concept: (P,) index of each, and the student's answers on the concept.

        All pairs with `concepts`; without, those with an answer.
        """
        student, concept, times = _practised(answers, len(self.vocabulary.concepts))
        if concepts is None:
            return student, concept, times
        wanted = np.array([self._asking.concept_index(name) for name in concepts], int)
        counts = np.zeros((len(answers.students), len(self.vocabulary.concepts)), int)
        counts[student, concept] = times
        every = np.arange(len(answers.students))
        return np.repeat(every, len(wanted)), np.tile(wanted, len(every)), counts[:, wanted].ravel()

    def _ask(self, answers: Answers, asked: np.ndarray, owner: np.ndarray, before: np.ndarray) -> np.ndarray:
        """(A,) probability of each row that is asked for a student `owner` before the answer in place `before`."""
        whole, _, places = insert(answers, asked, owner, before)
        return self._outputs(whole)[places, 0].astype(np.float64)

    def _outputs(self, answers: Answers) -> np.ndarray:
        """(n, O) outputs before each answer, moved by its offset in monotone mode."""
        if not self.monotone:
            return self._graphs.forecasts(answers)
        # every answer is surrounded by rows that ask for its concepts' mastery before and after it
        slots = np.where(np.isnan(answers.x[:, CORRECT, None]), 0, answers.x[:, SLOT_1:]).astype(int)
        at, slot = np.nonzero(slots)
        asked = np.tile(self._asking.mastery(slots[at, slot], answers.x[at, MINUTES]), (2, 1))
        owner, before = np.tile(answers.student_of[at], 2), np.concatenate([at, at + 1])
        whole, own, places = insert(answers, asked, owner, before)
        y = self._graphs.forecasts(whole)
        mastery = np.zeros((2, *slots.shape))
        mastery[:, at, slot] = logit(y[places, 0].reshape(2, -1))
        offset = offsets_along(answers, len(self.vocabulary.concepts) - 1, *mastery)
        return shift(y[own], offset[:, None])


def _log(log: Log | pl.DataFrame) -> Log:
    if isinstance(log, Log):
        return log
    if isinstance(log, pl.DataFrame):
        return from_repeat_rows(log)
    raise ValueError(
        f"got a {type(log).__name__}; wanted a Log (of open_log) or a polars DataFrame of answers"
    )


def _practised(answers: Answers, sizes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of student and concept with an answer: (P,) student, concept, number of answers."""
    given = np.isfinite(answers.x[:, CORRECT])
    slots = answers.x[given, SLOT_1:].astype(np.int64)
    owner = np.broadcast_to(answers.student_of[given][:, None], slots.shape)
    pair, times = np.unique(owner[slots > 0] * sizes + slots[slots > 0], return_counts=True)
    return pair // sizes, pair % sizes, times


def _last_minutes(answers: Answers) -> np.ndarray:
    """(S,) minutes of each student's latest row that has a time, NaN without one."""
    minutes = np.full(len(answers.students), -np.inf)
    np.fmax.at(minutes, answers.student_of, answers.x[:, MINUTES])
    return np.where(np.isneginf(minutes), np.nan, minutes)

"""One answer at a time, for ever, in constant memory: a fixed-size state for each student, which survives restarts.

Shape legend: N questions, M concepts, C concepts of the vocabulary, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ...data.tracing.answers import CORRECT, MINUTES, SLOT_1
from ..bundle import Bundle
from ..session import Device
from ..states import State, load_states, save_states
from . import recommend
from .asking import Asking, minutes_of
from .graphs import TracingGraphs
from .mastery import LATER, bands, half_life_days
from .monotone import logit, mean_offset, new_offset, released, shift

_LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}

ANSWERS, SINCE, KNOWN = range(3)
"""Rows of a student's notes, one number a concept: answers on it, the student's count at the last of them, and mastery
just after that."""


@dataclass
class _Student:
    """What is kept of a student.

    state: of the step graph. notes: (3, C + 1) float32. offsets: (C + 1,) float64, logits of monotone mode. answers: so
    far. minutes: of the latest answer that had a time, or NaN.
    """

    state: State
    notes: np.ndarray
    offsets: np.ndarray
    answers: int = 0
    minutes: float = float("nan")


class TracingSession:
    """Forecasts, mastery and recommendations for any number of students, each with a state of its own.

    Args:
        bundle: a tracing bundle folder, or an opened `Bundle`.
        state: file of an earlier `save` to go on from; a file that is not there yet means a fresh start.
        monotone: mastery never falls after a right answer and never rises after a wrong one; see `monotone`.
        device: as in `TracingPredictor`; single steps are fastest on the CPU.

    Raises:
        ValueError: where the bundle is broken or of another app, or the state belongs to another bundle or mode.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle,
        state: str | Path | None = None,
        *,
        monotone: bool = False,
        device: Device = "cpu",
    ) -> None:
        self._graphs = TracingGraphs(bundle, device=device, threads=1)
        self.bundle, self.vocabulary, self._step = (
            self._graphs.bundle,
            self._graphs.vocabulary,
            self._graphs.step,
        )
        self.monotone = monotone
        self._asking = Asking(self.vocabulary)
        self._students: dict[str, _Student] = {}
        if state is not None and Path(state).exists():
            self.load(state)

    def __len__(self) -> int:
        """Number of students that have answered."""
        return len(self._students)

    def __contains__(self, student_id: object) -> bool:
        return str(student_id) in self._students

    @property
    def state_bytes(self) -> int:
        """Bytes that one student costs, after one answer as after a million."""
        fresh = self._fresh()
        return self._step.state_bytes + fresh.notes.nbytes + fresh.offsets.nbytes

    def update(
        self,
        student_id: str | int,
        question_id: str | int | None,
        correct: bool | int | str | None,
        concepts: Sequence[str] | str | None = None,
        timestamp: datetime | str | float | None = None,
    ) -> dict[str, Any]:
        """Take one answer of one student.

        Args:
            student_id: one not seen before starts fresh.
            question_id: null where questions have no names; one that the bundle does not know is taken as one of
                average difficulty for its concepts, and flagged.
            correct: 0 or 1, also as text or bool. Null asks only: the state stays as it was.
            concepts: of the question; default: those of the question in training.
            timestamp: of the answer. One before the student's latest is taken as the latest, and flagged.

        Returns:
            `student_id, question_id, p_correct` (before the answer was seen), `mastery` (of the answered concepts,
            after it) and `flags` (a list), ready for JSON.

        Raises:
            ValueError: where an argument cannot be used, or the model gives no number; the student stays as before.
        """
        student_id = _id("student_id", student_id)
        given, label = _question(question_id), _label(correct)
        student = self._students.get(student_id) or self._fresh()
        minutes, flags = _forward(student, timestamp)
        x_F, unknown = self._asking.row(given, _names(concepts), minutes)
        x_F[CORRECT] = label
        used = x_F[SLOT_1:][x_F[SLOT_1:] > 0].astype(int)
        asked = self._asking.mastery(used, minutes)
        y, after = self._step(np.concatenate([x_F[None], asked]), _copies(student.state, 1 + len(used)))
        if not np.isfinite(y).all():
            raise ValueError(
                f"student {student_id}: the model gave {y[0].tolist()} for question {given}; export the bundle again"
            )
        p = shift(y[0, 0], mean_offset(student.offsets[None], used[None]))
        mastery = y[1:, 0].astype(np.float64)
        if not np.isnan(label):
            state = tuple(part[:1] for part in after)
            before, mastery = mastery, self._step.ask(asked, state)[:, 0].astype(np.float64)
            latest = float(np.fmax(student.minutes, minutes))
            student = _Student(
                state, student.notes.copy(), student.offsets.copy(), student.answers + 1, latest
            )
            self._note(student, used, before, mastery, label)
            self._students[student_id] = student
        reported = shift(mastery, student.offsets[used])
        named = [self.vocabulary.concepts[c] for c in used]
        return {
            "student_id": student_id,
            "question_id": given,
            "p_correct": float(p[0]),
            "mastery": dict(zip(named, reported.tolist(), strict=True)),
            "flags": sorted({*flags, *unknown}),
        }

    def ask(
        self,
        student_id: str | int,
        questions: Sequence[str | int | None],
        concepts: Sequence[Sequence[str] | str | None] | None = None,
        timestamp: datetime | str | float | None = None,
    ) -> np.ndarray:
        """(N,) probability that the student would answer each question right now; the state stays as it was.

        Args:
            student_id: one not seen before is a student of whom nothing is known.
            questions, concepts: N of each, as in `update`.
            timestamp: default: that of the student's latest answer.
        """
        student, minutes = self._now(student_id, timestamp)
        lists = [None] * len(questions) if concepts is None else concepts
        rows = [
            self._asking.row(_question(question), _names(names), minutes)[0]
            for question, names in zip(questions, lists, strict=True)
        ]
        return self._ask(student, np.array(rows, np.float32).reshape(len(rows), -1)) if rows else np.zeros(0)

    def mastery(
        self,
        student_id: str | int,
        concepts: Sequence[str] | None = None,
        timestamp: datetime | str | float | None = None,
    ) -> list[dict[str, Any]]:
        """`concept, mastery, lo, hi, half_life_days, answers` of each concept, as `TracingPredictor.mastery`.

        Args:
            concepts: default: those that the student has practised.
            timestamp: default: that of the student's latest answer.
        """
        student, minutes = self._now(student_id, timestamp)
        if concepts is None:
            index = np.flatnonzero(student.notes[ANSWERS])
        else:
            index = np.array([self._asking.concept_index(name) for name in concepts], int)
        now = self._ask(student, self._asking.mastery(index, minutes))
        half_life = np.full(len(index), np.nan)
        if np.isfinite(minutes) and len(index):
            later = self._asking.mastery(np.repeat(index, len(LATER)), np.tile(minutes + LATER, len(index)))
            never = self._step.ask(self._asking.mastery(index, np.nan), self._step.fresh)[:, 0]
            half_life = half_life_days(now, self._ask(student, later).reshape(-1, len(LATER)), never)
        answers = student.notes[ANSWERS, index]
        lo, hi = bands(self.bundle, now, answers)
        return [
            {
                "concept": self.vocabulary.concepts[c],
                "mastery": float(now[i]),
                "lo": _or_none(lo[i]),
                "hi": _or_none(hi[i]),
                "half_life_days": _or_none(half_life[i]),
                "answers": int(answers[i]),
            }
            for i, c in enumerate(index)
        ]

    def recommend(
        self,
        student_id: str | int,
        k: int = 5,
        target: float | str = 0.7,
        candidates: Sequence[str] | None = None,
        timestamp: datetime | str | float | None = None,
    ) -> list[dict[str, Any]]:
        """The best k questions to ask next, the best first.

        Args:
            target: a probability: questions whose success is nearest to it (see `recommend.shortlist` where there are
                over a thousand). "gain": those whose answer is expected to raise the mastery of their concepts most.
                "review": a typical question of each of the concepts whose mastery fell most since the last answer on
                them; without times, of those longest not practised.
            candidates: ids of questions; default: all of the bundle. Names of concepts where it knows no questions.
            timestamp: default: that of the student's latest answer.

        Returns:
            `question_id, concepts, p_correct`, and `gain`, or `concept` and `fall` or `answers_since`.

        Raises:
            ValueError: where the target is neither, or a candidate is not known to the bundle.
        """
        if k < 1:
            raise ValueError(f"recommend: k is {k}; wanted 1 or more")
        student, minutes = self._now(student_id, timestamp)
        x_NF = self._candidates(candidates)
        x_NF[:, MINUTES] = minutes
        if isinstance(target, int | float):
            ease_Q = self.vocabulary.difficulty.question[:, 0]
            x_NF = x_NF[recommend.shortlist(lambda x: self._ask(student, x), x_NF, ease_Q, float(target), k)]
        p_N = self._ask(student, x_NF)
        if target == "review":
            told = self._review(student, minutes, x_NF, p_N, k)
        elif target == "gain":
            gain_N = recommend.expected_gain(self._step, student.state, self._asking, x_NF, p_N)
            best = np.argsort(-gain_N, kind="stable")[:k]
            told = [(int(n), {"gain": float(gain_N[n])}) for n in best]
        elif isinstance(target, int | float) and 0 <= target <= 1:
            told = [(int(n), {}) for n in recommend.nearest(p_N, float(target), k)]
        else:
            raise ValueError(f"recommend: target is {target!r}; wanted a probability, 'gain' or 'review'")
        return [
            recommend.named(self._asking, x_NF[n]) | {"p_correct": float(p_N[n])} | more for n, more in told
        ]

    def save(self, path: str | Path) -> None:
        """Write all states into one npz file, all or nothing: an interrupted write leaves the old file."""
        students = list(self._students.values())
        fresh = self._fresh()
        contents = {
            name: np.concatenate([part, *(student.state[i] for student in students)])[1:]
            for i, (name, part) in enumerate(zip(self._step.names, self._step.fresh, strict=True))
        } | {
            "ids": np.array(list(self._students), dtype=np.str_),
            "notes": np.stack([fresh.notes, *(student.notes for student in students)])[1:],
            "offsets": np.stack([fresh.offsets, *(student.offsets for student in students)])[1:],
            "answers": np.array([student.answers for student in students], dtype=np.int64),
            "minutes": np.array([student.minutes for student in students], dtype=np.float64),
            "monotone": np.array(self.monotone),
        }
        save_states(path, self.bundle, contents)

    def load(self, path: str | Path) -> None:
        """Go on from a saved file; states of this session are forgotten.

        Raises:
            ValueError: where the file is damaged, or was saved with another bundle or monotone mode.
        """
        saved = load_states(path, self.bundle)
        if bool(saved["monotone"]) != self.monotone:
            raise ValueError(
                f"{path}: saved with monotone={bool(saved['monotone'])}, this session has monotone={self.monotone}; "
                "open it the same way, or use another file to start fresh"
            )
        self._students = {
            str(name): _Student(
                tuple(saved[part][row : row + 1] for part in self._step.names),
                saved["notes"][row],
                saved["offsets"][row],
                int(saved["answers"][row]),
                float(saved["minutes"][row]),
            )
            for row, name in enumerate(saved["ids"])
        }

    def _fresh(self) -> _Student:
        size = len(self.vocabulary.concepts)
        return _Student(self._step.fresh, np.zeros((3, size), np.float32), np.zeros(size))

    def _now(self, student_id: str | int, timestamp: datetime | str | float | None) -> tuple[_Student, float]:
        student = self._students.get(_id("student_id", student_id)) or self._fresh()
        minutes, _ = _forward(student, timestamp)
        return student, student.minutes if np.isnan(minutes) else minutes

    def _ask(self, student: _Student, x_NF: np.ndarray) -> np.ndarray:
        """(N,) reported probabilities."""
        p_N = recommend.ask(self._step, student.state, x_NF).astype(np.float64)
        concepts_NK = x_NF[:, SLOT_1:].astype(np.int64)
        values = np.broadcast_to(student.offsets, (len(x_NF), len(student.offsets)))
        return shift(p_N, mean_offset(values, concepts_NK))

    def _note(
        self, student: _Student, used: np.ndarray, before: np.ndarray, after: np.ndarray, label: float
    ) -> None:
        """Write one answer into the student's notes; `before` and `after` are the model's own mastery."""
        notes, offsets = student.notes, student.offsets
        if self.monotone:
            right = np.array(label > 0)
            kept = new_offset(offsets[used], logit(before), logit(after), right)
            offsets[:] = released(offsets, right)
            offsets[used] = kept
        notes[ANSWERS, used] += 1
        notes[SINCE, used] = student.answers
        notes[KNOWN, used] = shift(after, offsets[used])

    def _candidates(self, given: Sequence[str] | None) -> np.ndarray:
        everything = self._asking.everything()
        if given is None:
            return everything
        known = self._asking.question or self._asking.concept
        strange = [name for name in given if str(name) not in known]
        if strange:
            raise ValueError(
                f"recommend: {len(strange)} candidates are not known to the bundle, first {strange[0]!r}; leave them "
                "out, or call ask with their concepts"
            )
        return everything[[known[str(name)] - 1 for name in given]]

    def _review(
        self, student: _Student, minutes: float, x_NF: np.ndarray, p_N: np.ndarray, k: int
    ) -> list[tuple[int, dict[str, Any]]]:
        """A candidate of each of the concepts that need it most."""
        practised = np.flatnonzero(student.notes[ANSWERS])
        now = self._ask(student, self._asking.mastery(practised, minutes))
        since = student.answers - student.notes[SINCE, practised]
        fall = student.notes[KNOWN, practised] - now
        timed = bool(np.isfinite(minutes))
        told: list[tuple[int, dict[str, Any]]] = []
        for m in np.argsort(-fall if timed else -since, kind="stable"):
            n = recommend.typical(x_NF, p_N, int(practised[m]), float(now[m]))
            if n is not None:
                need = {"fall": float(fall[m])} if timed else {"answers_since": int(since[m])}
                told.append((n, {"concept": self.vocabulary.concepts[practised[m]]} | need))
        return told[:k]


def _copies(state: State, rows: int) -> State:
    return tuple(np.broadcast_to(part, (rows, *part.shape[1:])) for part in state)


def _id(name: str, given: object) -> str:
    if not isinstance(given, str | int) or isinstance(given, bool) or not str(given).strip():
        raise ValueError(f"{name} is {given!r}; wanted text or a whole number")
    return str(given).strip()


def _question(given: object) -> str | None:
    return None if given is None else _id("question_id", given)


def _names(concepts: Sequence[str] | str | None) -> list[str] | None:
    if concepts is None:
        return None
    if not isinstance(concepts, str | int) and not isinstance(concepts, Sequence):
        raise ValueError(
            f"concepts is {concepts!r}; wanted a list of names, or null for those of the question"
        )
    return [_id("a concept", name) for name in ([concepts] if isinstance(concepts, str | int) else concepts)]


def _label(given: object) -> float:
    if given is None:
        return float("nan")
    label = _LABELS.get(str(given).strip().lower())
    if label is None:
        raise ValueError(f"correct is {given!r}; wanted 0 or 1, or null where the question is asked only")
    return float(label)


def _forward(student: _Student, timestamp: datetime | str | float | None) -> tuple[float, list[str]]:
    """Minutes of a row and the flags that they earn: time does not run backwards. NaN without a time."""
    minutes = minutes_of(timestamp)
    return (student.minutes, ["earlier_than_last"]) if minutes < student.minutes else (minutes, [])


def _or_none(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None

"""Both graphs of a tracing bundle, run over logs of any size: short histories at once, long ones step by step.

Shape legend: n answers of all students, B students of a batch, T their longest length, F features, O outputs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...data.tracing.encode import Answers, Vocabulary
from ..bundle import Bundle, open_bundle
from ..session import Device
from ..states import State, StepGraph

CELLS_AT_ONCE = 32_768
"""Students x longest length of one call of the window graph, so that memory does not grow with the log."""

LONGEST = 8_192
"""Answers of one student that the window graph takes at once; the step graph goes on from there."""

STUDENTS_AT_ONCE = 256
"""Students whose long histories are stepped side by side."""


class TracingGraphs:
    """The graphs and the vocabulary that their inputs are written in.

    Raises:
        ValueError: where the bundle is broken, of another app, or graphs and vocabulary do not fit together.
    """

    def __init__(self, bundle: str | Path | Bundle, *, device: Device = "cpu", threads: int = 0) -> None:
        self.bundle = open_bundle(bundle)
        if self.bundle.app != "tracing":
            raise ValueError(
                f"{self.bundle.path}: the app of this bundle is '{self.bundle.app}'; open it with "
                "remem.serving.open_predictor or open_stream"
            )
        text = (self.bundle.path / "vocabulary.json").read_text(encoding="utf-8")
        self.vocabulary = Vocabulary.from_json(text)
        if self.vocabulary.features != self.bundle.features:
            raise ValueError(
                f"{self.bundle.path}: the vocabulary gives {list(self.vocabulary.features)}, the graphs take "
                f"{list(self.bundle.features)}; export the bundle again"
            )
        self._window = self.bundle.session("window.onnx", device=device, threads=threads)
        self.step = StepGraph(self.bundle, device=device, threads=threads)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the last axis of every output, `p_correct` first."""
        return tuple(self.bundle.manifest["output"])

    def forecasts(self, answers: Answers) -> np.ndarray:
        """(n, O) outputs before each answer of every student, from the student's answers before it."""
        y_nO = np.empty((len(answers), len(self.outputs)), np.float32)
        short = answers.lengths <= LONGEST
        part = answers if short.all() else answers.take(np.flatnonzero(short))
        y_part = np.empty((len(part), len(self.outputs)), np.float32)
        for students in part.batches(CELLS_AT_ONCE):
            x_BTF, mask_BT = part.pad(students)
            y_part[part.positions(students)[mask_BT]] = self._run(x_BTF, mask_BT)[0][mask_BT]
        y_nO[short[answers.student_of]] = y_part
        long = np.flatnonzero(~short)
        for start in range(0, len(long), STUDENTS_AT_ONCE):
            self._advance(answers, long[start : start + STUDENTS_AT_ONCE], y_nO)
        return y_nO

    def state_after(self, answers: Answers) -> State:
        """The state of each student after all answers, students first."""
        y_nO = np.empty((len(answers), len(self.outputs)), np.float32)
        return self._advance(answers, np.arange(len(answers.students)), y_nO)

    def _advance(self, answers: Answers, students: np.ndarray, y_nO: np.ndarray) -> State:
        """Fill in the outputs of these students, and return their states after all: the window graph, then steps."""
        state: State = tuple(np.repeat(part, len(students), axis=0) for part in self.step.fresh)
        at_BT = answers.positions(students)
        if not at_BT.size:
            return state
        fitting = max(1, CELLS_AT_ONCE // max(1, min(at_BT.shape[1], LONGEST)))
        for start in range(0, len(students), fitting):
            batch = slice(start, start + fitting)
            x_BTF, mask_BT = answers.pad(students[batch], LONGEST)
            y_BTO, after = self._run(x_BTF, mask_BT)
            y_nO[at_BT[batch, :LONGEST][mask_BT]] = y_BTO[mask_BT]
            for kept, new in zip(state, after, strict=True):
                kept[batch] = new
        for t in range(LONGEST, at_BT.shape[1]):
            still = np.flatnonzero(at_BT[:, t] >= 0)
            at_B = at_BT[still, t]
            y_nO[at_B], after = self.step(answers.x[at_B], tuple(part[still] for part in state))
            for kept, new in zip(state, after, strict=True):
                kept[still] = new
        return state

    def _run(self, x_BTF: np.ndarray, mask_BT: np.ndarray) -> tuple[np.ndarray, State]:
        y_BTO, *state = self._window.run(["y", *self.step.names], {"x": x_BTF, "mask": mask_BT})
        return y_BTO, tuple(state)

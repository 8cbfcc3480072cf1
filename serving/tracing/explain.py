"""What a past answer did to a forecast: the forecast with it, minus the one as if it had not been given.

Shape legend: E answers that are taken out, B = E + 1 copies of the student, F features.
"""

from __future__ import annotations

import numpy as np

from ...data.tracing.answers import Answers
from .graphs import TracingGraphs
from .monotone import logit


def effects(graphs: TracingGraphs, answers: Answers, last: int) -> np.ndarray:
    """(E,) effect of each of the `last` rows before one student's last row on the forecast of that row, in logits.

    Copies of the student take the same answers, but each leaves out one: there the copy keeps the state it had.

    Raises:
        ValueError: `last` is below 1.
    """
    if last < 1:
        raise ValueError(f"explain: last is {last}; wanted 1 or more")
    taken = min(last, len(answers) - 1)
    first = len(answers) - 1 - taken
    start = Answers(answers.x[:first], answers.students, np.array([0, first]), answers.row[:first])
    state = tuple(np.repeat(part, taken + 1, axis=0) for part in graphs.state_after(start))
    for step in range(taken):
        x_BF = np.repeat(answers.x[first + step][None], taken + 1, axis=0)
        _, after = graphs.step(x_BF, state)
        for part, kept in zip(after, state, strict=True):
            part[step] = kept[step]
        state = after
    y_BO, _ = graphs.step(np.repeat(answers.x[-1:], taken + 1, axis=0), state)
    logit_B = logit(y_BO[:, 0])
    return np.asarray(logit_B[-1] - logit_B[:-1])

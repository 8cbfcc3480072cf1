"""What to ask next: nearest to a wanted success, most expected gain, or what was forgotten most.

Shape legend: N candidates, K concept slots, M concepts, F features.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...data.tracing.answers import CORRECT, MINUTES, QUESTION, SLOT_1
from ..states import State, StepGraph
from .asking import Asking

AT_ONCE = 256
"""Candidates of one call of the step graph: as many as stay in a core's cache."""

PROBED, LISTED = 300, 700
"""Of more candidates than both together so many are asked to guess the others, then so many for their guess."""


def ask(step: StepGraph, state: State, x_NF: np.ndarray) -> np.ndarray:
    """(N,) calibrated probability of a right answer to each candidate; the state stays as it was."""
    parts = [step.ask(x_NF[i : i + AT_ONCE], state)[:, 0] for i in range(0, len(x_NF), AT_ONCE)]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def nearest(p_N: np.ndarray, target: float, k: int) -> np.ndarray:
    """(k,) candidates whose probability is nearest to the target, the nearest first."""
    distance_N = np.abs(p_N - target)
    first = np.argpartition(distance_N, min(k, len(p_N)) - 1)[:k] if len(p_N) else np.zeros(0, int)
    return first[np.lexsort((first, distance_N[first]))]


def shortlist(
    forecast: Callable[[np.ndarray], np.ndarray], x_NF: np.ndarray, ease_Q: np.ndarray, target: float, k: int
) -> np.ndarray:
    """Rising places of the candidates among which the k nearest to the target are looked for; all of few.

    Of many, some are asked, spread over concepts and difficulties, and the others guessed from their neighbours. On
    ASSISTments 2009, what is missed is less than .01 nearer to the target than what is found, mostly less than .001.

    Args:
        forecast: (n, F) candidates to (n,) probabilities.
        ease_Q: share of right answers to each question of the vocabulary in training.
    """
    listed = max(LISTED, 2 * k)
    if len(x_NF) <= PROBED + listed:
        return np.arange(len(x_NF))
    order_N = np.lexsort((ease_Q[x_NF[:, QUESTION].astype(int)], x_NF[:, SLOT_1]))
    probed = np.linspace(0, len(x_NF) - 1, PROBED).astype(int)
    guess_N = np.empty(len(x_NF))
    guess_N[order_N] = np.interp(np.arange(len(x_NF)), probed, forecast(x_NF[order_N[probed]]))
    return np.sort(nearest(guess_N, target, listed))


def expected_gain(
    step: StepGraph, state: State, asking: Asking, x_NF: np.ndarray, p_N: np.ndarray
) -> np.ndarray:
    """(N,) expected rise of the mastery of each candidate's concepts (their sum) by answering it.

    Each candidate is answered right and wrong in copies of the state, and the two masteries are weighted with the
    probabilities of these answers.
    """
    gain_N = np.zeros(len(x_NF))
    for start in range(0, len(x_NF), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        x, p = x_NF[rows].copy(), p_N[rows].astype(np.float64)
        copies: State = tuple(np.repeat(part, len(x), axis=0) for part in state)
        chances = ((1.0, p), (0.0, 1 - p))
        after = []
        for correct, chance in chances:
            x[:, CORRECT] = correct
            after.append((chance, step(x, copies)[1]))
        for k in range(SLOT_1, x.shape[1]):
            used = np.flatnonzero(x[:, k] > 0)
            if not len(used):
                continue
            asked = asking.mastery(x[used, k].astype(int), x[used, MINUTES])
            gain_N[start + used] -= step.ask(asked, state)[:, 0]
            for chance, then in after:
                p_then, _ = step(asked, tuple(part[used] for part in then))
                gain_N[start + used] += chance[used] * p_then[:, 0]
    return gain_N


def typical(x_NF: np.ndarray, p_N: np.ndarray, concept: int, mastery: float) -> int | None:
    """The candidate on a concept whose probability is nearest to the mastery of it; None where there is no such."""
    on = np.flatnonzero((x_NF[:, SLOT_1:] == concept).any(axis=1))
    return int(on[np.argmin(np.abs(p_N[on] - mastery))]) if len(on) else None


def named(asking: Asking, x_F: np.ndarray) -> dict[str, object]:
    """`question_id` (null where there is none) and `concepts` of a candidate."""
    vocabulary = asking.vocabulary
    question = int(x_F[QUESTION])
    return {
        "question_id": vocabulary.questions[question] if question else None,
        "concepts": [vocabulary.concepts[int(c)] for c in x_F[SLOT_1:] if c > 0],
    }

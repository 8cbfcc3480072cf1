"""How far the true probability lies from its forecast, from pairs of answers that are forecast from one state.

Two answers of a student to one concept share the student's true level: what the forecast misses of it, it misses in
both. Their residuals are therefore correlated, and since the outcomes are drawn apart, the covariance of the residuals
is the variance of the true probability around the forecast. That variance is taken to be equal in logits: near 0 and 1
the probability itself has less room, and its spread goes with p (1 - p).

Shape legend: n answers, P pairs, F columns of the answers.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from sklearn.isotonic import IsotonicRegression

from ...core.tracing import TracingModel
from ...data.tracing.answers import CORRECT, MINUTES, SLOT_1, Answers
from ...data.tracing.encode import Vocabulary
from ...serving.tracing.asking import insert

EDGES = (0, 1, 2, 5, 10, 20, 50)
"""Earlier answers on the concept, from which a band holds."""
FEWEST = 200
"""Pairs that a band needs; with fewer it is that of all pairs."""
MOST = 60_000
"""Answers that are looked at."""
CELLS = 16_384


def band_table(
    model: TracingModel, vocabulary: Vocabulary, valid: pl.DataFrame, *, seed: int = 0
) -> dict[str, list[float]] | None:
    """`{"answers": lower edges, "sd": spread of the true probability}` for a manifest; None with too few pairs.

    The spread is that around a forecast of 1/2; see `remem.serving.tracing.mastery.bands` for others.

    Args:
        model: calibrated.
        valid: a conformed log of students that it was not trained on.
        seed: of the students that are looked at, where there are many.
    """
    answers = _some(vocabulary.encode(valid), seed)
    first_P, second_P, earlier_P = same_concept_pairs(answers)
    if len(first_P) < FEWEST:
        return None
    x_PF = answers.x[second_P].copy()
    x_PF[:, CORRECT] = np.nan
    x_PF[:, MINUTES] = answers.x[first_P, MINUTES]  # both are asked at one moment
    whole, own_n, asked_P = insert(answers, x_PF, answers.student_of[first_P], first_P)
    p = _forecasts(model, whole)
    p_P, p_other_P = p[own_n[first_P]], p[asked_P]
    residual_P, other_P = answers.x[first_P, CORRECT] - p_P, answers.x[second_P, CORRECT] - p_other_P
    room_P = 16 * p_P * (1 - p_P) * p_other_P * (1 - p_other_P)  # 1 where both are 1/2
    variance, weight = [], []
    for low, high in zip(EDGES, [*EDGES[1:], np.inf], strict=True):
        inside = (earlier_P >= low) & (earlier_P < high)
        weight.append(int(inside.sum()))
        enough = inside if weight[-1] >= FEWEST else np.ones_like(inside)
        own_P, next_P = residual_P[enough], other_P[enough]
        product_P = (own_P - own_P.mean()) * (next_P - next_P.mean())
        # few pairs may show no spread at all: a band is not narrower than what their noise could hide
        noise = float(product_P.std() / np.sqrt(len(product_P)))
        variance.append(max(float(product_P.mean()), noise) / max(float(room_P[enough].mean()), 1e-9))
    # one more answer never makes the forecast less sure; what the noise says otherwise is pooled
    falling = IsotonicRegression(increasing=False).fit(EDGES, variance, sample_weight=np.maximum(weight, 1))
    spread = np.sqrt(falling.predict(EDGES))
    return {"answers": list(EDGES), "sd": [round(float(sd), 5) for sd in spread]}


def same_concept_pairs(answers: Answers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(P,) places of an answer and of the student's next one on the same first concept, and answers on it before."""
    place = np.flatnonzero(np.isfinite(answers.x[:, CORRECT]) & (answers.x[:, SLOT_1] > 0))
    key = answers.student_of[place] * (int(answers.x[:, SLOT_1].max(initial=0)) + 1)
    key = key + answers.x[place, SLOT_1].astype(np.int64)
    order = np.argsort(key, kind="stable")
    key, place = key[order], place[order]
    start = np.flatnonzero(np.diff(key, prepend=-1))
    earlier = np.arange(len(key)) - np.repeat(start, np.diff(start, append=len(key)))
    paired = np.flatnonzero(key[1:] == key[:-1])
    return place[paired], place[paired + 1], earlier[paired]


def _some(answers: Answers, seed: int) -> Answers:
    """Students drawn at random until they have `MOST` answers."""
    order = np.random.default_rng(seed).permutation(len(answers.students))
    kept = order[: int(np.searchsorted(np.cumsum(answers.lengths[order]), MOST)) + 1]
    return answers.take(np.sort(kept))


@torch.no_grad()
def _forecasts(model: TracingModel, answers: Answers) -> np.ndarray:
    """(n,) probability of a right answer to each row."""
    p = np.empty(len(answers), np.float64)
    for students in answers.batches(CELLS):
        x_BTF, mask_BT = answers.pad(students)
        y_BTO, _ = model(torch.from_numpy(x_BTF), mask_BT=torch.from_numpy(mask_BT))
        p[answers.positions(students)[mask_BT]] = y_BTO.numpy()[mask_BT, 0]
    return p

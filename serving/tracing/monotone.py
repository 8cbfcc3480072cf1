"""Mastery that moves the way of the answer: it never falls after a right one and never rises after a wrong one.

Each concept of a student has an offset in logits that is added to its mastery. After an answer the offset goes back
to 0, or as near as it can without the reported mastery of the answered concept moving the wrong way. What holds the
mastery of another concept down is let go after a right answer, what holds it up after a wrong one.

Shape legend: n answers, S students, B students of a batch, C concepts, K concept slots.
"""

from __future__ import annotations

import numpy as np

from ...data.tracing.answers import CORRECT, SLOT_1, Answers

MARGIN = 1e-9
"""Logits beyond the bound, so that rounding to a probability cannot turn the direction."""


def logit(p: np.ndarray) -> np.ndarray:
    """Log-odds of probabilities, in float64; 0 and 1 give finite numbers."""
    p = np.clip(np.asarray(p, np.float64), 1e-12, 1 - 1e-12)
    return np.log(p) - np.log1p(-p)


def sigmoid(z: np.ndarray) -> np.ndarray:
    """The inverse of `logit`."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(z, np.float64)))


def new_offset(offset: np.ndarray, before: np.ndarray, after: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The offset after an answer.

    Args:
        offset: in force before the answer.
        before, after: the model's own mastery of the concept, in logits, before and after the answer.
        right: whether the answer was right.

    Returns:
        The offset nearest to 0 with `after + new >= before + offset` (right) or `<=` (wrong).
    """
    bound = before + offset - after
    return np.where(right, np.maximum(bound + MARGIN, 0.0), np.minimum(bound - MARGIN, 0.0))


def released(offset: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Offsets of other concepts after an answer: a right one ends what holds them down, a wrong one the rest."""
    return np.where(right, np.maximum(offset, 0.0), np.minimum(offset, 0.0))


def shift(p: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Probabilities moved by offsets in logits; exactly as they were where the offset is 0."""
    return np.where(offset == 0.0, p, sigmoid(logit(p) + offset))


def mean_offset(values_BC: np.ndarray, concepts_BK: np.ndarray) -> np.ndarray:
    """(B,) offset of questions: the mean over their concepts, 0 without any. Concept 0 is an empty slot."""
    used_BK = concepts_BK > 0
    total_B = (np.take_along_axis(values_BC, concepts_BK, axis=1) * used_BK).sum(axis=1)
    return np.asarray(total_B / np.maximum(used_BK.sum(axis=1), 1))


def offsets_along(
    answers: Answers, num_concepts: int, before_nK: np.ndarray, after_nK: np.ndarray
) -> np.ndarray:
    """(n,) offset of the concepts of each answer that was in force before it.

    Args:
        num_concepts: C, of the vocabulary.
        before_nK, after_nK: the model's own mastery, in logits, of each concept of an answer, before and after it;
            anything where the slot is empty or the row was asked only.
    """
    values_SC = np.zeros((len(answers.students), num_concepts + 1))
    concepts_nK = answers.x[:, SLOT_1:].astype(np.int64)
    offset_n = np.zeros(len(answers))
    by_length = np.argsort(-answers.lengths, kind="stable")
    for t in range(int(answers.lengths.max(initial=0))):
        student_B = by_length[: np.count_nonzero(answers.lengths > t)]
        row_B = answers.offsets[student_B] + t
        concepts_BK, correct_B1 = concepts_nK[row_B], answers.x[row_B, CORRECT][:, None]
        offset_n[row_B] = mean_offset(values_SC[student_B], concepts_BK)
        place = np.broadcast_to(student_B[:, None], concepts_BK.shape), concepts_BK
        new_BK = new_offset(values_SC[place], before_nK[row_B], after_nK[row_B], correct_B1 > 0)
        answered_B = np.isfinite(correct_B1[:, 0])
        values_SC[student_B[answered_B]] = released(
            values_SC[student_B[answered_B]], correct_B1[answered_B] > 0
        )
        learned_BK = (concepts_BK > 0) & answered_B[:, None]
        values_SC[tuple(axis[learned_BK] for axis in place)] = new_BK[learned_BK]
    return offset_n

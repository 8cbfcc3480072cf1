"""What every task gives: tokens, and at some of them a question with its answer.

Shape legend: B sequences, T time, V size of the vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class TokenBatch(NamedTuple):
    """Tokens (B, T), the answers (B, T) with 0 where nothing is asked, and True where something is asked (B, T)."""

    tokens: Tensor
    answers: Tensor
    asked: Tensor


def accuracy(logits_BTV: Tensor, batch: TokenBatch) -> float:
    """Share of the questions that the largest logit answers right.

    Raises:
        ValueError: where the batch asks nothing.
    """
    if not batch.asked.any():
        raise ValueError("accuracy: the batch asks nothing; generate at least one sequence")
    right_BT = logits_BTV.argmax(-1) == batch.answers
    return right_BT[batch.asked].double().mean().item()

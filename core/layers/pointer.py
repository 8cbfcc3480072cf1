"""Pointer attention: a softmax over the items of the input itself, so the vocabulary is as long as the problem.

    u_j = v . tanh(W1 e_j + W2 q)                              score of item j for the query q
    p = softmax over the feasible j of u_j, or of clip tanh(u_j)
    glimpse: q <- sum_j softmax(v' . tanh(W1' e_j + W2' q))_j e_j    before that, as often as asked for

Keys W1 e_j do not depend on the query: they are made once per problem and used at every step.

Source: Vinyals, Fortunato & Jaitly 2015, "Pointer Networks" (arXiv 1506.03134), equation 3, the additive score of
Bahdanau et al. 2015; Bello et al. 2016 (arXiv 1611.09940), appendix A.1, for glimpses and clipping (there 10).
Shape legend: B batch, N items, T queries, D width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..decode import feasible_log_p
from ..ops.softmax_scan import NOTHING


class PointerKeys(NamedTuple):
    """What every query meets: keys (B, N, D) of the pointer, and of the glimpses keys and items, `()` without any."""

    pointer: Tensor
    glimpse: Any


class GlimpseKeys(NamedTuple):
    """Keys and items, each (B, N, D)."""

    key: Tensor
    item: Tensor


class PointerAttention(nn.Module):
    """Queries to log-probabilities of items.

    Args:
        d_model: width D of items and queries.
        glimpses: how often the query is replaced by what it sees.
        clip: scores are kept within plus and minus this by a tanh; None leaves them.

    Raises:
        ValueError: where `glimpses` is negative or `clip` not positive.
    """

    def __init__(self, d_model: int, *, glimpses: int = 0, clip: float | None = None) -> None:
        super().__init__()
        if glimpses < 0:
            raise ValueError(f"PointerAttention: glimpses is {glimpses}; it must be at least 0")
        if clip is not None and clip <= 0:
            raise ValueError(
                f"PointerAttention: clip is {clip}; it must be positive, or None for no clipping"
            )
        self.glimpses, self.clip = glimpses, clip
        self.pointer = _Additive(d_model)
        self.glimpse = _Additive(d_model) if glimpses else None

    def keys(self, item_BND: Tensor) -> PointerKeys:
        """Of the items of a problem, for any number of queries."""
        glimpse = () if self.glimpse is None else GlimpseKeys(self.glimpse.key(item_BND), item_BND)
        return PointerKeys(self.pointer.key(item_BND), glimpse)

    def forward(self, query_BTD: Tensor, keys: PointerKeys, feasible_BTN: Tensor) -> Tensor:
        """Log-probabilities (B, T, N), `NOTHING` where an item is infeasible: its probability is exactly 0.

        A query for which nothing is feasible gives `NOTHING` everywhere, and no gradient.
        """
        if self.glimpse is not None:
            nothing_BTN = torch.zeros_like(feasible_BTN, dtype=query_BTD.dtype).masked_fill(
                ~feasible_BTN, NOTHING
            )
            for _ in range(self.glimpses):
                score_BTN = self.glimpse(query_BTD, keys.glimpse.key)
                query_BTD = torch.softmax(score_BTN + nothing_BTN, -1) @ keys.glimpse.item
        score_BTN = self.pointer(query_BTD, keys.pointer)
        if self.clip is not None:
            score_BTN = self.clip * torch.tanh(score_BTN)
        return feasible_log_p(score_BTN, feasible_BTN)


class _Additive(nn.Module):
    """Scores v . tanh(key + W2 q) of all keys for all queries."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.score = nn.Linear(d_model, 1, bias=False)

    def forward(self, query_BTD: Tensor, key_BND: Tensor) -> Tensor:
        sum_BTND = key_BND[:, None] + self.query(query_BTD)[:, :, None]
        return self.score(torch.tanh(sum_BTND))[..., 0]

"""The smallest network that shows what its memory can do: tokens, a short convolution, one layer, tokens.

The convolution is the same for all layers: what followed what is not what is measured. It is gated,
x + gate(x) * conv(x), as in Based; behind it stands the layer, and no feed-forward part that could help it out.

Shape legend: B sequences, T time, D model width, V vocabulary, W width of the filters.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.ops.short_conv import short_conv
from ...core.state import SequenceLayer

FILTER = 3
"""Steps the convolution sees."""
SPREAD = 0.02
"""Standard deviation of the embedding at the start; from much more, no layer learns the tasks in some hundred steps."""


class TokenNetwork(nn.Module):
    """Tokens (B, T) to logits (B, T, V), with the embedding as read-out.

    Args:
        vocabulary: V.
        layers: make a memory layer of a width each, one after the other.
        d_model: width D.
    """

    def __init__(self, vocabulary: int, *layers: Callable[[int], SequenceLayer], d_model: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, d_model)
        nn.init.normal_(self.embed.weight, std=SPREAD)
        self.embed_norm = nn.LayerNorm(d_model)
        self.gate = nn.Linear(d_model, d_model)
        self.filter_WD = nn.Parameter(torch.randn(FILTER, d_model) * FILTER**-0.5)
        self.layers = nn.ModuleList(layer(d_model) for layer in layers)  # type: ignore[misc]
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in layers)
        self.out_norm = nn.LayerNorm(d_model)

    def states(self, token_BT: Tensor) -> list[Tensor]:
        """(B, T, D) behind the embedding, the convolution and each layer."""
        x_BTD = self.embed_norm(self.embed(token_BT))
        past_BWD = x_BTD.new_zeros(len(x_BTD), FILTER - 1, x_BTD.shape[-1])
        states = [x_BTD, x_BTD + self.gate(x_BTD) * short_conv(x_BTD, self.filter_WD, past_BWD)[0]]
        for norm, layer in zip(self.norms, self.layers, strict=True):
            states.append(states[-1] + layer(norm(states[-1]))[0])
        return states

    def read(self, x_BTD: Tensor) -> Tensor:
        """Logits (B, T, V)."""
        return F.linear(self.out_norm(x_BTD), self.embed.weight)

    def forward(self, token_BT: Tensor) -> Tensor:
        return self.read(self.states(token_BT)[-1])

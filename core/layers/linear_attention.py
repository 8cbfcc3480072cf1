"""Linear attention with features elu + 1: content lookup in constant memory, and the weakest there is.

The past is one matrix per head that every step adds to. With as many features as a head is wide it tells some keys
apart; it cannot sharpen, so many keys blur into each other. It stands here as the control: a memory that does not beat
it at equal state bytes has not earned its equations.

Source: Katharopoulos et al. 2020, "Transformers are RNNs" (arXiv 2006.16236).
Shape legend: B batch, T time, D model width, H heads, F features of a head, V value width, E = V + 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..ops.linear_attention import elu_features, linear_attention, linear_step
from ..state import accumulator_dtype


class LinearState(NamedTuple):
    """Sums over the past of features times values, and of the features alone in the last column (B, H, F, E)."""

    sum: Tensor


class LinearAttention(nn.Module):
    """Multi-head linear attention with a constant state.

    Args:
        d_model: width D of inputs and outputs.
        num_heads: heads H; divides `d_model`.
        num_features: features F of each head; None for `d_model / num_heads`.

    Raises:
        ValueError: where `num_heads` does not divide `d_model` or `num_features` is not positive.
    """

    def __init__(self, d_model: int, *, num_heads: int = 4, num_features: int | None = None) -> None:
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"LinearAttention: num_heads {num_heads} does not divide d_model {d_model}")
        value_width = d_model // num_heads
        num_features = value_width if num_features is None else num_features
        if num_features < 1:
            raise ValueError(f"LinearAttention: num_features is {num_features}; it must be at least 1")
        self.num_heads, self.widths = num_heads, [num_features, num_features, value_width]
        self.qkv = nn.Linear(d_model, num_heads * sum(self.widths), bias=False)
        self.out = nn.Linear(d_model, d_model)

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> LinearState:
        shape = (batch_size, self.num_heads, self.widths[0], self.widths[2] + 1)
        return LinearState(torch.zeros(shape, device=device, dtype=accumulator_dtype(dtype)))

    def forward(
        self, x_BTD: Tensor, state: LinearState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, LinearState]:
        if state is None:
            state = self.init_state(x_BTD.shape[0], device=x_BTD.device, dtype=x_BTD.dtype)
        q, k, v = (x.transpose(1, 2) for x in self._features(x_BTD))
        y_BHTV, sum_BHFE = linear_attention(q, k, v, state.sum, mask_BT=mask_BT)
        return self.out(y_BHTV.transpose(1, 2).flatten(2)), LinearState(sum_BHFE)

    def step(
        self, x_BD: Tensor, state: LinearState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, LinearState]:
        y_BHV, sum_BHFE = linear_step(*self._features(x_BD), state.sum, mask_B=mask_B)
        return self.out(y_BHV.flatten(1)), LinearState(sum_BHFE)

    def _features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., D) to features of queries and keys (..., H, F), and values (..., H, V)."""
        q, k, v = self.qkv(x).unflatten(-1, (self.num_heads, -1)).split(self.widths, -1)
        return elu_features(q), elu_features(k), v

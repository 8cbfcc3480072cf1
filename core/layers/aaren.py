"""Aaren: attention as an RNN. Softmax attention of one learned query over every prefix, in constant memory.

The query is a parameter and not a function of the input, so one running softmax per head sums up the whole
past in d_model + 2 num_heads floats, however long the sequence. It tells what the past held, weighted by
learned importance; it cannot look up a past item by content.

Source: Feng et al. 2024, "Attention as an RNN" (arXiv 2405.13956). The paper projects the learned query by a
learned matrix; the product is one vector, learned here directly. The recency decay is ours.
Shape legend: B batch, T time, D model width, H heads, K width of a head (keys and values).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.softmax_scan import SoftmaxState, empty_state, softmax_scan, softmax_step


class Aaren(nn.Module):
    """Many-to-many attention with a constant state.

    Args:
        d_model: width D of inputs and outputs.
        num_heads: heads H; divides `d_model`.
        decay: let each head learn how fast old steps fade (e-folding after 10 to 1000 steps at the start).

    Raises:
        ValueError: where `num_heads` does not divide `d_model`.
    """

    def __init__(self, d_model: int, *, num_heads: int = 4, decay: bool = False) -> None:
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"Aaren: num_heads {num_heads} does not divide d_model {d_model}")
        self.query_HK = nn.Parameter(0.02 * torch.randn(num_heads, d_model // num_heads))
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.out = nn.Linear(d_model, d_model)
        # softplus(raw) is the decay per step
        self.raw_decay_H = nn.Parameter(torch.logspace(-1, -3, num_heads).expm1().log()) if decay else None

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> SoftmaxState:
        return empty_state(batch_size, *self.query_HK.shape, device=device, dtype=dtype)

    def forward(
        self, x_BTD: Tensor, state: SoftmaxState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, SoftmaxState]:
        s_BHT = self._scores(x_BTD).transpose(1, 2)
        v_BHTK = self._values(x_BTD).transpose(1, 2)
        decay_H1 = None if self.raw_decay_H is None else F.softplus(self.raw_decay_H)[:, None]
        o_BHTK, state = softmax_scan(s_BHT, v_BHTK, state, decay_BHT=decay_H1, mask_BT=mask_BT)
        return self.out(o_BHTK.transpose(1, 2).flatten(2)), state

    def step(
        self, x_BD: Tensor, state: SoftmaxState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, SoftmaxState]:
        decay_H = None if self.raw_decay_H is None else F.softplus(self.raw_decay_H)
        o_BHK, state = softmax_step(
            self._scores(x_BD), self._values(x_BD), state, decay_BH=decay_H, mask_B=mask_B
        )
        return self.out(o_BHK.flatten(1)), state

    def _scores(self, x: Tensor) -> Tensor:
        """(..., D) to (..., H): how much each step matters to each head."""
        key = self.key(x).unflatten(-1, self.query_HK.shape)
        return (key * self.query_HK).sum(-1) * self.query_HK.shape[1] ** -0.5

    def _values(self, x: Tensor) -> Tensor:
        """(..., D) to (..., H, K)."""
        return self.value(x).unflatten(-1, self.query_HK.shape)

"""LSTM with additive attention over its own outputs: the classic pair, in constant memory.

Bahdanau's score with the query left out, a . tanh(W h_t), does not change as the sequence grows, so the
attention over all outputs so far is a running softmax. The layer returns a projection of (h_t, context_t).

Source: Hochreiter & Schmidhuber 1997 (LSTM); Bahdanau et al. 2015 (additive score, arXiv 1409.0473).
Shape legend: B batch, T time, D model width, H heads, K width of a head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..ops.softmax_scan import SoftmaxState, empty_state, softmax_scan, softmax_step
from .lstm import LSTM, LSTMState


class LSTMAttentionState(NamedTuple):
    """Output h (B, D) and cell c (B, D) of the LSTM, and the running softmax over its outputs."""

    h: Tensor
    c: Tensor
    attention: SoftmaxState


class LSTMAttention(nn.Module):
    """LSTM + causal additive attention.

    Args:
        d_model: width D of inputs, cell and outputs.
        num_heads: independent attention weightings H of the outputs; divides `d_model`.

    Raises:
        ValueError: where `num_heads` does not divide `d_model`.
    """

    def __init__(self, d_model: int, *, num_heads: int = 4) -> None:
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"LSTMAttention: num_heads {num_heads} does not divide d_model {d_model}")
        self.d_model, self.num_heads = d_model, num_heads
        self.lstm = LSTM(d_model)
        self.hidden = nn.Linear(d_model, d_model)
        self.score = nn.Linear(d_model, num_heads, bias=False)
        self.out = nn.Linear(2 * d_model, d_model)

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> LSTMAttentionState:
        softmax = empty_state(
            batch_size, self.num_heads, self.d_model // self.num_heads, device=device, dtype=dtype
        )
        lstm = self.lstm.init_state(batch_size, device=device, dtype=dtype)
        return LSTMAttentionState(lstm.h, lstm.c, softmax)

    def forward(
        self, x_BTD: Tensor, state: LSTMAttentionState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, LSTMAttentionState]:
        if state is None:
            state = self.init_state(x_BTD.shape[0], device=x_BTD.device, dtype=x_BTD.dtype)
        # in the type of the state, so that the softmax sums up outputs that were not narrowed
        h_BTD, recurrent = self.lstm(x_BTD.to(state.h.dtype), LSTMState(state.h, state.c), mask_BT=mask_BT)
        s_BTH, v_BTHK = self._scores_and_values(h_BTD)
        o_BHTK, attention = softmax_scan(
            s_BTH.transpose(1, 2), v_BTHK.transpose(1, 2), state.attention, mask_BT=mask_BT
        )
        y_BTD = self._output(h_BTD, o_BHTK.transpose(1, 2).flatten(2), x_BTD.dtype)
        return y_BTD, LSTMAttentionState(recurrent.h, recurrent.c, attention)

    def step(
        self, x_BD: Tensor, state: LSTMAttentionState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, LSTMAttentionState]:
        before = LSTMState(state.h, state.c)
        h_BD, recurrent = self.lstm.step(x_BD.to(state.h.dtype), before, mask_B=mask_B)
        s_BH, v_BHK = self._scores_and_values(h_BD)
        o_BHK, attention = softmax_step(s_BH, v_BHK, state.attention, mask_B=mask_B)
        return self._output(h_BD, o_BHK.flatten(1), x_BD.dtype), LSTMAttentionState(
            recurrent.h, recurrent.c, attention
        )

    def _scores_and_values(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """(..., D) to scores (..., H) and values (..., H, K), the latter in the type of the state."""
        s = self.score(torch.tanh(self.hidden(h.to(self.hidden.weight.dtype))))
        return s, h.unflatten(-1, (self.num_heads, -1))

    def _output(self, h: Tensor, context: Tensor, dtype: torch.dtype) -> Tensor:
        return self.out(torch.cat([h, context], -1).to(dtype))

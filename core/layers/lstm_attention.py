"""LSTM with additive attention over its own outputs: the classic pair, in constant memory.

Bahdanau's score with the query left out, a . tanh(W h_t), does not change as the sequence grows, so the
attention over all outputs so far is a running softmax. The layer returns a projection of (h_t, context_t).

Source: Hochreiter & Schmidhuber 1997 (LSTM); Bahdanau et al. 2015 (additive score, arXiv 1409.0473).
Shape legend: B batch, T time, D model width, H heads, K width of a head, G = 4 D gates, E = D + 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.softmax_scan import SoftmaxState, empty_state, softmax_scan, softmax_step
from ..state import accumulator_dtype, where

_CLOSED = 1e4
"""Added to a gate, it shuts (or opens) the gate to the last bit."""


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

    closed_G: Tensor

    def __init__(self, d_model: int, *, num_heads: int = 4) -> None:
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"LSTMAttention: num_heads {num_heads} does not divide d_model {d_model}")
        self.d_model, self.num_heads = d_model, num_heads
        self.lstm = nn.LSTM(d_model, d_model, batch_first=True)
        self.hidden = nn.Linear(d_model, d_model)
        self.score = nn.Linear(d_model, num_heads, bias=False)
        self.out = nn.Linear(2 * d_model, d_model)
        # gates in torch's order: input, forget, cell, output
        self.register_buffer(
            "closed_G",
            torch.tensor([-_CLOSED, _CLOSED, 0.0, 0.0]).repeat_interleave(d_model),
            persistent=False,
        )

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> LSTMAttentionState:
        zeros_BD = torch.zeros(batch_size, self.d_model, device=device, dtype=accumulator_dtype(dtype))
        softmax = empty_state(
            batch_size, self.num_heads, self.d_model // self.num_heads, device=device, dtype=dtype
        )
        return LSTMAttentionState(zeros_BD, zeros_BD.clone(), softmax)

    def forward(
        self, x_BTD: Tensor, state: LSTMAttentionState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, LSTMAttentionState]:
        if state is None:
            state = self.init_state(x_BTD.shape[0], device=x_BTD.device, dtype=x_BTD.dtype)
        h_BTD, h_BD, c_BD = self._recur(x_BTD, state, mask_BT)
        s_BTH, v_BTHK = self._scores_and_values(h_BTD)
        o_BHTK, attention = softmax_scan(
            s_BTH.transpose(1, 2), v_BTHK.transpose(1, 2), state.attention, mask_BT=mask_BT
        )
        y_BTD = self._output(h_BTD, o_BHTK.transpose(1, 2).flatten(2), x_BTD.dtype)
        return y_BTD, LSTMAttentionState(h_BD, c_BD, attention)

    def step(
        self, x_BD: Tensor, state: LSTMAttentionState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, LSTMAttentionState]:
        weight_GD, recurrent_GD, bias_G, recurrent_bias_G = self._weights(state.h.dtype)
        with torch.autocast(x_BD.device.type, enabled=False):
            gates_BG = F.linear(x_BD.to(state.h.dtype), weight_GD, bias_G)
            gates_BG = gates_BG + F.linear(state.h, recurrent_GD, recurrent_bias_G)
        i, f, g, o = gates_BG.chunk(4, -1)
        c_BD = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
        h_BD = o.sigmoid() * c_BD.tanh()
        s_BH, v_BHK = self._scores_and_values(h_BD)
        o_BHK, attention = softmax_step(s_BH, v_BHK, state.attention, mask_B=mask_B)
        if mask_B is not None:
            h_BD, c_BD = where(mask_B, (h_BD, c_BD), (state.h, state.c))
        return self._output(h_BD, o_BHK.flatten(1), x_BD.dtype), LSTMAttentionState(h_BD, c_BD, attention)

    def _recur(
        self, x_BTD: Tensor, state: LSTMAttentionState, mask_BT: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs of the LSTM at every step, and h, c after the last real one."""
        x_BTD = x_BTD.to(state.h.dtype)
        weight_GD, *others = self._weights(x_BTD.dtype)
        if x_BTD.shape[1] == 0:
            return x_BTD, state.h, state.c
        if mask_BT is None:
            return self._lstm(x_BTD, state, [weight_GD, *others])
        # Real steps move to the left, the others behind them. A flag appended to the input closes the gates
        # of the latter, which keeps c; h is read off at the last real step.
        place_BTD = _left_places(mask_BT)[..., None].expand_as(x_BTD)
        left_BTD = torch.zeros_like(x_BTD).scatter(1, place_BTD, x_BTD)
        count_B1 = mask_BT.sum(1, keepdim=True)
        idle_BT = torch.arange(x_BTD.shape[1], device=x_BTD.device) >= count_B1
        flagged_BTE = torch.cat([left_BTD, idle_BT[..., None].to(x_BTD.dtype)], -1)
        weight_GE = torch.cat([weight_GD, self.closed_G[:, None].to(x_BTD.dtype)], 1)
        h_BTD, _, c_BD = self._lstm(flagged_BTE, state, [weight_GE, *others])
        last_B1D = (count_B1 - 1).clamp(min=0)[..., None].expand(-1, 1, self.d_model)
        h_BD = torch.where(count_B1 > 0, h_BTD.gather(1, last_B1D)[:, 0], state.h)
        return h_BTD.gather(1, place_BTD), h_BD, c_BD

    def _lstm(
        self, x_BTE: Tensor, state: LSTMAttentionState, weights: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """nn.LSTM's own kernel, on these weights."""
        start = [state.h[None], state.c[None]]
        with torch.autocast(x_BTE.device.type, enabled=False):
            # has biases, one layer, no dropout, training, one direction, batch first
            h_BTD, h_1BD, c_1BD = torch.lstm(x_BTE, start, weights, True, 1, 0.0, self.training, False, True)
        return h_BTD, h_1BD[0], c_1BD[0]

    def _weights(self, dtype: torch.dtype) -> list[Tensor]:
        """Of input (G, D) and recurrence (G, D), then their biases (G,), in the type of the state."""
        return [weight.to(dtype) for weight in self.lstm.all_weights[0]]

    def _scores_and_values(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """(..., D) to scores (..., H) and values (..., H, K), the latter in the type of the state."""
        s = self.score(torch.tanh(self.hidden(h.to(self.hidden.weight.dtype))))
        return s, h.unflatten(-1, (self.num_heads, -1))

    def _output(self, h: Tensor, context: Tensor, dtype: torch.dtype) -> Tensor:
        return self.out(torch.cat([h, context], -1).to(dtype))


def _left_places(mask_BT: Tensor) -> Tensor:
    """Where each step goes when the real ones move to the left and the others follow, order kept."""
    real_BT = mask_BT.long()
    return torch.where(mask_BT, real_BT.cumsum(1), real_BT.sum(1, keepdim=True) + (1 - real_BT).cumsum(1)) - 1

"""The LSTM as a sequence layer: explicit state, zero at the start, and masks.

Source: Hochreiter & Schmidhuber 1997; the kernel and the names of the weights are those of `nn.LSTM`.
Shape legend: B batch, T time, D width of input and output, G = 4 D gates, E = D + 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.history import left_places, take, to_left
from ..state import accumulator_dtype, where

_CLOSED = 1e4
"""Added to a gate, it shuts (or opens) the gate to the last bit."""


class LSTMState(NamedTuple):
    """Output h and cell c, each (B, D)."""

    h: Tensor
    c: Tensor


class LSTM(nn.Module):
    """One LSTM layer; its outputs are those of its cells.

    Args:
        d_model: width D of inputs and outputs.
    """

    closed_G: Tensor

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.d_model = d_model
        self.lstm = nn.LSTM(d_model, d_model, batch_first=True)
        # gates in torch's order: input, forget, cell, output
        self.register_buffer(
            "closed_G",
            torch.tensor([-_CLOSED, _CLOSED, 0.0, 0.0]).repeat_interleave(d_model),
            persistent=False,
        )

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> LSTMState:
        zeros_BD = torch.zeros(batch_size, self.d_model, device=device, dtype=accumulator_dtype(dtype))
        return LSTMState(zeros_BD, zeros_BD.clone())

    def forward(
        self, x_BTD: Tensor, state: LSTMState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, LSTMState]:
        if state is None:
            state = self.init_state(x_BTD.shape[0], device=x_BTD.device, dtype=x_BTD.dtype)
        narrow, x_BTD = x_BTD.dtype, x_BTD.to(state.h.dtype)
        weight_GD, *others = self._weights(x_BTD.dtype)
        if x_BTD.shape[1] == 0:
            return x_BTD.to(narrow), state
        if mask_BT is None:
            h_BTD, after = self._run(x_BTD, state, [weight_GD, *others])
            return h_BTD.to(narrow), after
        # Real steps move to the left, the others behind them. A flag appended to the input closes the gates
        # of the latter, which keeps c; h is read off at the last real step.
        count_B1 = mask_BT.sum(1, keepdim=True)
        idle_BT = torch.arange(x_BTD.shape[1], device=x_BTD.device) >= count_B1
        flagged_BTE = torch.cat([to_left(x_BTD, mask_BT), idle_BT[..., None].to(x_BTD.dtype)], -1)
        weight_GE = torch.cat([weight_GD, self.closed_G[:, None].to(x_BTD.dtype)], 1)
        h_BTD, (_, c_BD) = self._run(flagged_BTE, state, [weight_GE, *others])
        h_BD = torch.where(count_B1 > 0, take(h_BTD, (count_B1 - 1).clamp(min=0))[:, 0], state.h)
        return take(h_BTD, left_places(mask_BT)).to(narrow), LSTMState(h_BD, c_BD)

    def step(
        self, x_BD: Tensor, state: LSTMState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, LSTMState]:
        weight_GD, recurrent_GD, bias_G, recurrent_bias_G = self._weights(state.h.dtype)
        with torch.autocast(x_BD.device.type, enabled=False):
            gates_BG = F.linear(x_BD.to(state.h.dtype), weight_GD, bias_G)
            gates_BG = gates_BG + F.linear(state.h, recurrent_GD, recurrent_bias_G)
        i, f, g, o = gates_BG.chunk(4, -1)
        c_BD = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
        h_BD = o.sigmoid() * c_BD.tanh()
        after = LSTMState(h_BD, c_BD)
        return h_BD.to(x_BD.dtype), after if mask_B is None else where(mask_B, after, state)

    def _run(self, x_BTE: Tensor, state: LSTMState, weights: list[Tensor]) -> tuple[Tensor, LSTMState]:
        """nn.LSTM's own kernel, on these weights."""
        start = [state.h[None], state.c[None]]
        with torch.autocast(x_BTE.device.type, enabled=False):
            # has biases, one layer, no dropout, training, one direction, batch first
            h_BTD, h_1BD, c_1BD = torch.lstm(x_BTE, start, weights, True, 1, 0.0, self.training, False, True)
        return h_BTD, LSTMState(h_1BD[0], c_1BD[0])

    def _weights(self, dtype: torch.dtype) -> list[Tensor]:
        """Of input (G, D) and recurrence (G, D), then their biases (G,), in the type of the state."""
        return [weight.to(dtype) for weight in self.lstm.all_weights[0]]

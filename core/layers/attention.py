"""Causal softmax attention over the last `window` steps: the baseline with content lookup, and with a price.

The state is a ring of `window` keys and values, so memory is constant, but `window` times that of a recurrent
layer. No position encoding: order enters through what is inside the window.

Source: Vaswani et al. 2017 (arXiv 1706.03762); sliding window as in Beltagy et al. 2020 (arXiv 2004.05150).
Shape legend: B batch, T time, D model width, H heads, K width of a head, W window, S = W + T steps looked at.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.heads import split_heads
from ..ops.softmax_scan import NOTHING
from ..state import accumulator_dtype


class RingState(NamedTuple):
    """Keys and values (B, H, W, K), step number p in slot p % W, and how many real steps were seen (B,)."""

    k: Tensor
    v: Tensor
    seen: Tensor


class CausalAttention(nn.Module):
    """Multi-head causal attention with a ring cache.

    Args:
        d_model: width D of inputs and outputs.
        num_heads: heads H; divides `d_model`.
        window: each step attends to itself and the window - 1 real steps before it.

    Raises:
        ValueError: where `num_heads` does not divide `d_model` or `window` is not positive.
    """

    def __init__(self, d_model: int, *, num_heads: int = 4, window: int = 256) -> None:
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"CausalAttention: num_heads {num_heads} does not divide d_model {d_model}")
        if window < 1:
            raise ValueError(f"CausalAttention: window is {window}; it must be at least 1")
        self.d_model, self.num_heads, self.window = d_model, num_heads, window
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model)

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> RingState:
        shape = (batch_size, self.num_heads, self.window, self.d_model // self.num_heads)
        k_BHWK = torch.zeros(shape, device=device, dtype=accumulator_dtype(dtype))
        return RingState(k_BHWK, k_BHWK.clone(), torch.zeros(batch_size, device=device, dtype=torch.long))

    def forward(
        self, x_BTD: Tensor, state: RingState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, RingState]:
        if mask_BT is None:
            mask_BT = torch.ones_like(x_BTD[..., 0], dtype=torch.bool)
        if state is None:
            state = self.init_state(x_BTD.shape[0], device=x_BTD.device, dtype=x_BTD.dtype)
        q_BHTK, k_BHTK, v_BHTK = split_heads(self.qkv(x_BTD), self.num_heads)

        # numbers of the steps: those in the ring (negative where the slot is empty), then the new ones
        slot_W = torch.arange(self.window, device=x_BTD.device)
        newest_B1 = state.seen[:, None] - 1
        ring_BW = newest_B1 - (newest_B1 - slot_W) % self.window
        step_BT = newest_B1 + mask_BT.long().cumsum(1)
        step_BS = torch.cat([ring_BW, step_BT], 1)
        real_BS = torch.cat([ring_BW >= 0, mask_BT], 1)

        age_BTS = step_BT[:, :, None] - step_BS[:, None, :]
        allowed_BTS = real_BS[:, None, :] & (age_BTS >= 0) & (age_BTS < self.window)
        lowest = max(NOTHING, torch.finfo(q_BHTK.dtype).min)  # not -inf: a row that sees nothing stays finite
        bias_B1TS = torch.zeros_like(age_BTS, dtype=q_BHTK.dtype).masked_fill(~allowed_BTS, lowest)[:, None]
        k_BHSK = torch.cat([state.k.to(k_BHTK.dtype), k_BHTK], 2)
        v_BHSK = torch.cat([state.v.to(v_BHTK.dtype), v_BHTK], 2)
        o_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, attn_mask=bias_B1TS)

        # the last `window` real steps go to their slots, all others to a slot too many that is cut off again
        kept_BT = mask_BT & (step_BT > step_BT[:, -1:] - self.window)
        slot_BT = torch.where(kept_BT, step_BT % self.window, self.window)
        k_BHWK, v_BHWK = _write(state.k, slot_BT, k_BHTK), _write(state.v, slot_BT, v_BHTK)
        y_BTD = self.out(o_BHTK.transpose(1, 2).flatten(2))
        return y_BTD, RingState(k_BHWK, v_BHWK, state.seen + mask_BT.sum(1))

    def step(
        self, x_BD: Tensor, state: RingState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, RingState]:
        y_B1D, state = self.forward(x_BD[:, None], state, mask_BT=None if mask_B is None else mask_B[:, None])
        return y_B1D[:, 0], state


def _write(ring_BHWK: Tensor, slot_BT: Tensor, new_BHTK: Tensor) -> Tensor:
    place_BHTK = slot_BT[:, None, :, None].expand_as(new_BHTK)
    spare_BHWK = F.pad(ring_BHWK, (0, 0, 0, 1))
    return spare_BHWK.scatter(2, place_BHTK, new_BHTK.to(ring_BHWK.dtype))[:, :, :-1]

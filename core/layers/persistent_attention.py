"""Sliding-window attention beside persistent tokens: learned keys and values that every step sees, whatever it saw.

Persistent tokens hold what is true of the task and not of the sequence; and a step without much of a past has somewhere
to look. They are learned where attention meets them, as keys and values.

Source: Behrouz et al. 2025, "Titans" (arXiv 2501.00663, persistent memory); Sukhbaatar et al. 2019 (arXiv 1907.01470).
Shape legend: B batch, T time, D model width, H heads, K width of a head, W window, P persistent tokens, S = W - 1 + T.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.history import extend, left_places, newest, take, to_left
from ..ops.softmax_scan import NOTHING
from ..state import accumulator_dtype


class WindowState(NamedTuple):
    """Keys and values of the last W - 1 real steps, oldest first (B, W - 1, 2 D), and how many there are (B,)."""

    kv: Tensor
    seen: Tensor


class PersistentAttention(nn.Module):
    """Causal attention over the last `window` steps and `num_persistent` learned tokens.

    Args:
        d_model: width D of inputs and outputs.
        num_heads: heads H; divides `d_model`.
        window: each step attends to itself and the window - 1 real steps before it.
        num_persistent: learned keys and values P; may be 0.

    Raises:
        ValueError: where `num_heads` does not divide `d_model`, `window` is not positive or `num_persistent` negative.
    """

    def __init__(
        self, d_model: int, *, num_heads: int = 4, window: int = 32, num_persistent: int = 4
    ) -> None:
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"PersistentAttention: num_heads {num_heads} does not divide d_model {d_model}")
        if window < 1 or num_persistent < 0:
            raise ValueError(
                f"PersistentAttention: window is {window}, it must be at least 1; "
                f"num_persistent is {num_persistent}, it must be at least 0"
            )
        self.d_model, self.num_heads, self.window = d_model, num_heads, window
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.persistent_PE = nn.Parameter(0.5 * torch.randn(num_persistent, 2 * d_model))
        self.out = nn.Linear(d_model, d_model)

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> WindowState:
        kv = torch.zeros(
            batch_size, self.window - 1, 2 * self.d_model, device=device, dtype=accumulator_dtype(dtype)
        )
        return WindowState(kv, torch.zeros(batch_size, device=device, dtype=torch.long))

    def forward(
        self, x_BTD: Tensor, state: WindowState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, WindowState]:
        if mask_BT is None:
            mask_BT = torch.ones_like(x_BTD[..., 0], dtype=torch.bool)
        if state is None:
            state = self.init_state(x_BTD.shape[0], device=x_BTD.device, dtype=x_BTD.dtype)
        q_BTD, kv_BTE = self.qkv(x_BTD).split([self.d_model, 2 * self.d_model], -1)
        # real steps in front: a query at place t looks at places t + 1 to t + W of the kept and the new ones
        q_BTD, kv_BSE = to_left(q_BTD, mask_BT), extend(state.kv, kv_BTE, mask_BT)
        place_S = torch.arange(kv_BSE.shape[1], device=x_BTD.device)
        age_TS = torch.arange(self.window - 1, kv_BSE.shape[1], device=x_BTD.device)[:, None] - place_S
        there_BS = place_S >= self.window - 1 - state.seen[:, None]
        allowed_BTS = there_BS[:, None] & (age_TS >= 0) & (age_TS < self.window)
        y_BTD = attend(q_BTD, kv_BSE, self.persistent_PE, allowed_BTS, self.num_heads)
        seen_B = (state.seen + mask_BT.sum(1)).clamp(max=self.window - 1)
        y_BTD = self.out(take(y_BTD, left_places(mask_BT)))
        return y_BTD, WindowState(newest(kv_BSE, mask_BT), seen_B)

    def step(
        self, x_BD: Tensor, state: WindowState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, WindowState]:
        y_B1D, state = self.forward(x_BD[:, None], state, mask_BT=None if mask_B is None else mask_B[:, None])
        return y_B1D[:, 0], state


def attend(
    q_BTD: Tensor, kv_BSE: Tensor, persistent_PE: Tensor, allowed_BTS: Tensor, num_heads: int
) -> Tensor:
    """Softmax attention (B, T, D) to the allowed ones of the keys and to all persistent ones."""
    kv_BSE = torch.cat(
        [persistent_PE.to(q_BTD.dtype).expand(q_BTD.shape[0], -1, -1), kv_BSE.to(q_BTD.dtype)], 1
    )
    allowed_BTS = F.pad(allowed_BTS, (len(persistent_PE), 0), value=True)
    k_BHSK, v_BHSK = kv_BSE.unflatten(-1, (2, num_heads, -1)).permute(2, 0, 3, 1, 4)
    q_BHTK = q_BTD.unflatten(-1, (num_heads, -1)).transpose(1, 2)
    lowest = max(NOTHING, torch.finfo(q_BTD.dtype).min)  # not -inf: a row that sees nothing stays finite
    bias_B1TS = torch.zeros_like(allowed_BTS, dtype=q_BTD.dtype).masked_fill(~allowed_BTS, lowest)[:, None]
    o_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, attn_mask=bias_B1TS)
    return o_BHTK.transpose(1, 2).flatten(2)

"""Attention of all steps to all real steps: an encoder of sets, whose outputs do not depend on their order.

It has the `forward` of a sequence layer, without memory, and no `step`: whoever sees the future cannot be stepped.

Source: Vaswani et al. 2017 (arXiv 1706.03762), without positions; as an encoder of points, Kool et al. 2019
(arXiv 1803.08475).
Shape legend: B batch, T items, D model width, H heads, K width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.heads import split_heads
from ..ops.softmax_scan import NOTHING
from ..state import State


class SetAttention(nn.Module):
    """Multi-head self-attention over a set.

    Args:
        d_model: width D of inputs and outputs.
        num_heads: heads H; divides `d_model`.

    Raises:
        ValueError: where `num_heads` does not divide `d_model`.
    """

    def __init__(self, d_model: int, *, num_heads: int = 4) -> None:
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"SetAttention: num_heads {num_heads} does not divide d_model {d_model}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model)

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> State:
        return ()

    def forward(
        self, x_BTD: Tensor, state: State = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Outputs (B, T, D), and no state. `mask_BT` is True on items that are there; None: all are."""
        q_BHTK, k_BHTK, v_BHTK = split_heads(self.qkv(x_BTD), self.num_heads)
        bias_B11T = None
        if mask_BT is not None:
            bias_BT = torch.zeros_like(x_BTD[..., 0]).masked_fill(~mask_BT, NOTHING)
            bias_B11T = bias_BT[:, None, None]
        o_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, attn_mask=bias_B11T)
        return self.out(o_BHTK.transpose(1, 2).flatten(2)), ()

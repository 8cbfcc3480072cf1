"""Queries, keys and values of all heads out of one linear layer.

Shape legend: B batch, T time, H heads, K width of a head.
"""

from __future__ import annotations

from torch import Tensor


def split_heads(qkv_BT_: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, T, 3 H K), queries first, then keys, then values, to three of (B, H, T, K)."""
    q_BHTK, k_BHTK, v_BHTK = qkv_BT_.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
    return q_BHTK, k_BHTK, v_BHTK

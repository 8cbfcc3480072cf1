"""Rotary positions: pairs of entries turned by an angle, so that a product knows the distance and nothing else.

    (R_p q) . (R_r k) = (R_{p-r} q) . k,        pair i turns by p * 10000^{-2 i / K}

Source: Su et al. 2021, "RoFormer" (arXiv 2104.09864).
Shape legend: K width, even; ... anything.
"""

from __future__ import annotations

import torch
from torch import Tensor

SLOWEST = 10_000.0
"""Positions after which the slowest pair has turned by about 1."""


def rotary(x_K: Tensor, place: Tensor) -> Tensor:
    """Vectors (..., K) turned by their places (..., broadcast against all axes but the last)."""
    half = x_K.shape[-1] // 2
    pair = torch.arange(half, device=x_K.device, dtype=x_K.dtype)
    angle = place[..., None].to(x_K.dtype) * SLOWEST ** (-pair / half)
    cos, sin = angle.cos(), angle.sin()
    a, b = x_K[..., :half], x_K[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)

"""Points as they look from a step of a decoder: moved, turned and scaled, so that only the shape of the rest is left.

A network that sees a problem in such a frame cannot tell where, how large and how turned it is. That is an inductive
bias, and a strong one: what it learns at 50 points it knows at 500.

Shape legend: ... any leading axes, 2 the coordinates.
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-12
"""Squared length under which a direction counts as none."""


def unit(vector: Tensor) -> Tensor:
    """(..., 2) of length one in the same direction; (1, 0) where the vector is zero."""
    square = (vector * vector).sum(-1, keepdim=True)
    short = square < TINY
    first = torch.cat([torch.ones_like(square), torch.zeros_like(square)], -1)
    return torch.where(
        short, first, vector * torch.rsqrt(torch.where(short, torch.ones_like(square), square))
    )


def to_frame(points: Tensor, origin: Tensor, axis: Tensor) -> Tensor:
    """Points (..., 2) seen from `origin` (..., 2) with the unit vector `axis` (..., 2) as the direction of x."""
    away = points - origin
    x = (away * axis).sum(-1)
    y = away[..., 1] * axis[..., 0] - away[..., 0] * axis[..., 1]
    return torch.stack([x, y], -1)

"""Pointing by angle, and pointing again: scores of candidates from the angle that each makes with the present choice.

A glimpse sees how far every candidate is turned from a direction, in steps from a half turn down to a hundred
thousandth of it. The next glimpse takes the choice of the last one as its direction: angles too small to tell apart at
first now stand on either side of zero. All glimpses share one small network.

Shape legend: ... any leading axes, N candidates, 2 cosine and sine, F features, H hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .ops.softmax_scan import NOTHING

SCALES = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
"""A sine is seen as k s / (1 + k |s|) for each k: alive where |s| is about 1 / k."""

FEATURES = len(SCALES) + 2


class GlimpseNetwork(nn.Module):
    """Logits of candidates from their angle to a direction and their distance; candidates do not see each other.

    Args:
        d_model: width H of its two hidden layers.
    """

    def __init__(self, d_model: int = 16) -> None:
        super().__init__()
        self.d_model = d_model
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, d_model),
            nn.ReLU(),
            nn.Linear(d_model, d_model),
            nn.ReLU(),
            nn.Linear(d_model, 1),
        )

    def forward(self, turn: Tensor, far: Tensor, feasible: Tensor) -> Tensor:
        """Logits (..., N), `NOTHING` where infeasible.

        Args:
            turn: (..., N, 2) cosine and sine of the angle from the direction to the candidate.
            far: (..., N) how far it is, free of scale, about -1 to 1.
            feasible: (..., N) bool.
        """
        cos, sin = turn[..., 0], turn[..., 1]
        seen = [k * sin / (1 + k * sin.abs()) for k in SCALES]
        logit = self.layers(torch.stack([*seen, cos, far], -1))[..., 0]
        return logit.masked_fill(~feasible, NOTHING)


def turned_back(turn: Tensor, choice: Tensor) -> Tensor:
    """Cosines and sines (..., N, 2) of the angles from one of the candidates, `choice` (..., ) int64, to all."""
    by = at(turn, choice)[..., None, :]
    cos = turn[..., 0] * by[..., 0] + turn[..., 1] * by[..., 1]
    sin = turn[..., 1] * by[..., 0] - turn[..., 0] * by[..., 1]
    return torch.stack([cos, sin], -1)


def at(values: Tensor, place: Tensor) -> Tensor:
    """values (..., N, W) at one place (...) of N each: (..., W)."""
    return values.gather(-2, place[..., None, None].expand(*place.shape, 1, values.shape[-1])).squeeze(-2)


def closeness(distance: Tensor, yardstick: Tensor) -> Tensor:
    """Distances (..., N) against a yardstick (..., 1), from -1 (at the origin) over 0 (as far) to 1 (far beyond)."""
    return (distance - yardstick) / (distance + yardstick).clamp(min=1e-20)

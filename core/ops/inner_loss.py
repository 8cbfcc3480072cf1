"""What a memory minimises at every token: the attentional bias, as the slope of a loss of the error e = M(k) - v.

    power   l = sum (e^2 + s)^{p/2} / p             slope e (e^2 + s)^{p/2 - 1}      p = 2: e itself, exactly
    huber   l = |e|^2 / 2 up to |e| = d, then d |e| - d^2 / 2          slope e min(1, d / |e|)

Half the square (p = 2) is the delta rule's. A larger p minds large errors more (Moneta: p = 3). Huber's slope is never
longer than the threshold d, so one wild value moves the memory no more than a tame one does (Yaad); |e| is the length
of the whole vector. The smoothing s stands for the sign and absolute value of the paper, which have a kink at 0.

Source: Behrouz et al. 2025, "It's All Connected" (Miras, arXiv 2504.13173).
Shape legend: ... batch, heads and steps; V value width.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMOOTH = 1e-6
"""s of the power loss, and what is added to |e|^2 where |e| divides."""


def power_loss(e_V: Tensor, p: float) -> Tensor:
    """(...): for tests and curves; the memories use the slope alone."""
    return (e_V.square() + SMOOTH).pow(p / 2).sum(-1) / p


def power_slope(e_V: Tensor, p: float) -> Tensor:
    return e_V if p == 2 else e_V * (e_V.square() + SMOOTH).pow(p / 2 - 1)


def huber_loss(e_V: Tensor, threshold: Tensor) -> Tensor:
    """(...): for tests and curves; `threshold` (...) is d > 0."""
    length = _length(e_V)
    return torch.where(length <= threshold, length.square() / 2, threshold * length - threshold.square() / 2)


def huber_slope(e_V: Tensor, threshold: Tensor) -> Tensor:
    length = _length(e_V)
    return e_V * torch.where(length <= threshold, 1.0, threshold / length)[..., None]


def _length(e_V: Tensor) -> Tensor:
    return (e_V.square().sum(-1) + SMOOTH**2).sqrt()

"""The maps that a memory may be, and their gradients by hand.

    linear   M(k) = k W                                         any K and V
    mlp      M(k) = k + norm(gelu(k W1) W2)                     K = V; W1 is K x 4 K; norm: mean 0, variance 1

A gradient by a weight matrix is the outer product of what went into it (left) and what came back to it (right); these
are handed out as they are, so that the gradients of a whole chunk are never laid out. For the same reason `read`
takes the products with the weights as functions.

With e = dl/dM(k), n the normed vector and r one over its standard deviation:

    back to norm's input   d = r (e - mean(e) - n mean(e n))
    W2: left gelu(k W1), right d;      W1: left k, right (d W2^T) gelu'(k W1),   gelu'(a) = Phi(a) + a phi(a)

What is added to the variance is more than a guard against 0. A memory that forgets lets its weights shrink, and a norm
then makes ever larger steps of them: gradients go with 1 / variance. With as much added as the memory has at its start,
steps stay as they were at the start, and a memory that has forgotten everything gives its input back.

Source: Behrouz et al. 2025, "Titans" (arXiv 2501.00663) and "Miras" (arXiv 2504.13173); written from the equations.
Shape legend: ... batch, heads and steps; K key width, V value width; I, O inputs and outputs of a weight matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

Net: TypeAlias = Literal["linear", "mlp"]
NETS: tuple[Net, ...] = ("linear", "mlp")

HIDDEN = 4
"""Hidden width of the mlp, in units of K."""


def shapes(net: Net, key_width: int, value_width: int) -> list[tuple[int, int]]:
    """(I, O) of each weight matrix.

    Raises:
        ValueError: where the mlp, which adds its input to its output, is to change the width.
    """
    if net == "linear":
        return [(key_width, value_width)]
    if key_width != value_width:
        raise ValueError(
            f"memory net 'mlp': key_width {key_width} and value_width {value_width} must be the same; "
            "or use the 'linear' one"
        )
    return [(key_width, HIDDEN * key_width), (HIDDEN * key_width, key_width)]


def read(net: Net, q_K: Tensor, times: Sequence[Callable[[Tensor], Tensor]], variance: float = 0.0) -> Tensor:
    """M(q), (..., V); `times[j](x)` is x times weight matrix j, `variance` is added to the variance in the norm."""
    if net == "linear":
        return times[0](q_K)
    return q_K + _norm(times[1](F.gelu(times[0](q_K))), variance)[0]


def gradients(
    net: Net,
    k_K: Tensor,
    v_V: Tensor,
    weights: Sequence[Tensor],
    slope: Callable[[Tensor], Tensor],
    variance: float = 0.0,
) -> list[tuple[Tensor, Tensor]]:
    """(left, right) for every weight matrix: the gradient of l(M(k) - v) by it is left^T right.

    Args:
        weights: matrices that broadcast in front of k's last two axes, (..., I, O) for k_K of (..., C, K).
        slope: the derivative of l.
        variance: as in `read`.
    """
    if net == "linear":
        return [(k_K, slope(k_K @ weights[0] - v_V))]
    a = k_K @ weights[0]
    h = F.gelu(a)
    n, r = _norm(h @ weights[1], variance)
    e = slope(k_K + n - v_V)
    d = r * (e - e.mean(-1, keepdim=True) - n * (e * n).mean(-1, keepdim=True))
    return [(k_K, (d @ weights[1].mT) * _gelu_slope(a)), (h, d)]


def _norm(x: Tensor, variance: float) -> tuple[Tensor, Tensor]:
    """x with mean 0 and, where nothing is added to it, variance 1; and one over its standard deviation."""
    centred = x - x.mean(-1, keepdim=True)
    r = torch.rsqrt(centred.square().mean(-1, keepdim=True) + variance)
    return centred * r, r


def _gelu_slope(a: Tensor) -> Tensor:
    below = 0.5 * (1 + torch.erf(a * 0.5**0.5))
    return below + a * torch.exp(-0.5 * a.square()) * (2 * math.pi) ** -0.5

"""What keeps a memory in bounds: from the sums Z of what was written to the weights W of the map.

    norm      W = Z / (1 + ||Z||_q^q)^{(q-2)/q}        q = 2: Z itself, exactly; Moneta: q = 4
    simplex   W = O ((1 - f) softmax(Z) + f / O) - 1   a row of softmax for every input; f: floor

Z gathers gradients linearly, Z_t = keep_t Z_{t-1} - write_t g_t, so each retention is a way to read it.

The paper divides by ||Z||_q^{q-2}, which is the same for a large Z, but grows without bound as a memory forgets and Z
falls to 0. With the 1, a small Z is its own memory, and the 4-norm of W is at most 2^{-1/2}.

Memora's own form is W_t = c softmax(keep_t log W_{t-1} - write_t g_t). A constant added to a row of Z does not change
the softmax, and log W differs from the row of Z by a constant; so gathering in Z is the same thing to the last bit of
the mathematics, needs no floor under a logarithm, and is linear. Weights are positive and a row of O of them sums to
c = O. The map uses their difference from the mean, 1: with positive weights alone, memories could only add.

Source: Behrouz et al. 2025, "It's All Connected" (Miras, arXiv 2504.13173).
Shape legend: ... batch, heads; I, O inputs and outputs of a weight matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

FLOOR = 1e-6
"""f: share of a row that is spread evenly, so that no weight rounds to 0."""


def norm_scale(z_IO: Tensor, q: float) -> Tensor:
    """1 / (1 + ||Z||_q^q)^{(q-2)/q}, the norm over each whole matrix, (..., 1, 1)."""
    if q == 2:
        return torch.ones_like(z_IO[..., :1, :1])
    # in units of the largest entry where that is above 1: powers of large ones overflow
    unit = z_IO.detach().abs().amax((-2, -1), keepdim=True).clamp(min=1.0)
    total = (z_IO / unit).square().pow(q / 2).sum((-2, -1), keepdim=True) + unit.pow(-q)
    return unit.pow(2 - q) * total.pow((2 - q) / q)


def simplex_weights(z_IO: Tensor) -> Tensor:
    """Positive weights, each row of O summing to O."""
    outputs = z_IO.shape[-1]
    return outputs * (1 - FLOOR) * z_IO.softmax(-1) + FLOOR


def centred(z_IO: Tensor) -> Tensor:
    """Z with the constant of each row chosen so that softmax(Z) = e^Z: the one form in which a state is handed on."""
    return z_IO.log_softmax(-1)

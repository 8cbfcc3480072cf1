"""Features whose products are the first terms of e^u: what linear attention needs to look up by content.

    taylor(q) . taylor(k) = 1 + u + u^2 / 2,        u = q . k / sqrt(K)

e^u to the second order, and never below 1/2, so a mean with these weights needs no epsilon. The square takes all
products of two entries; x_i x_j and x_j x_i are one and the same, and are held once, times sqrt(2).

Source: Arora et al. 2024, "Simple linear attention language models balance the recall-throughput tradeoff"
(arXiv 2402.18668).
Shape legend: K width, F = 1 + K + K (K + 1) / 2 features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST = 0.5
"""The smallest value of 1 + u + u^2 / 2."""


def taylor_width(width: int) -> int:
    """The number of features F of vectors of `width` entries."""
    return 1 + width + width * (width + 1) // 2


def taylor_features(x_K: Tensor) -> Tensor:
    """(..., K) to (..., F): a one, the entries, the products of entry i with entries j >= i."""
    width = x_K.shape[-1]
    row, column = torch.triu_indices(width, width, device=x_K.device)
    x_K = x_K * width**-0.25
    scale = torch.ones_like(row, dtype=x_K.dtype).masked_fill(row == column, 0.5**0.5)
    return torch.cat([F.pad(x_K, (1, 0), value=1.0), x_K[..., row] * x_K[..., column] * scale], -1)

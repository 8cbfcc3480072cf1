"""Prediction intervals from models that each left some cells out: jackknife+ and CV+, as tensor functions.

Barber, Candes, Ramdas, Tibshirani, "Predictive inference with the jackknife+", Annals of Statistics 49 (2021).
Where every fold leaves one cell out this is the jackknife+, with larger folds CV+.

Shape legend: B rows, N cells of the training set.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def interval_rank(num_cells: int, confidence: float) -> int:
    """Which of the N ordered candidates for an end of the interval is the end, counted from outside.

    Raises:
        ValueError: where so few cells cannot carry that confidence.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a share between 0 and 1, such as 0.9")
    rank = num_cells + 1 - math.ceil(confidence * (num_cells + 1))
    if rank < 1:
        raise ValueError(
            f"{num_cells} cells cannot carry intervals of confidence {confidence}; give more cells or a "
            f"confidence of at most {num_cells / (num_cells + 1):.3f}"
        )
    return rank


def jackknife_plus(centre_BN: Tensor, reach_BN: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Interval ends for B rows.

    Args:
        centre_BN: the row's prediction by the model that had left cell n out.
        reach_BN: the error at cell n of that model, brought to the scale of the row.
        rank: `interval_rank(N, confidence)`.

    Returns:
        lo, hi: (B,) each.
    """
    lo_B = torch.topk(centre_BN - reach_BN, rank, dim=-1, largest=False).values[:, -1]
    hi_B = torch.topk(centre_BN + reach_BN, rank, dim=-1, largest=True).values[:, -1]
    return lo_B, hi_B

"""Conformal prediction intervals as buffers, so that they travel into the ONNX file.

Shape legend: ... any leading axes, N calibration rows, Q bins.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_LOWEST = -1e30


class ConformalInterval(nn.Module):
    """A point prediction in log space to (point, lo, hi) in the units of the target.

    lo and hi are the point times fitted factors: finite-sample quantiles of out-of-fold errors in log space,
    each tail with half of 1 - confidence. With `num_bins` > 1 each bin of the prediction has its own factors.

    Args:
        confidence: wanted coverage, between 0 and 1.
        num_bins: bins of the prediction with equally many calibration rows each.

    Raises:
        ValueError: where `confidence` or `num_bins` is out of range.

    Source: Vovk et al. 2005; split conformal after Lei et al. 2018 (arXiv 1604.04173).
    """

    edge_Q: Tensor
    lo_Q: Tensor
    hi_Q: Tensor

    def __init__(self, *, confidence: float = 0.9, num_bins: int = 1) -> None:
        super().__init__()
        if not 0 < confidence < 1 or num_bins < 1:
            raise ValueError(
                f"ConformalInterval: confidence is {confidence} and num_bins {num_bins}; "
                "wanted 0 < confidence < 1 and num_bins >= 1"
            )
        self.confidence, self.num_bins = confidence, num_bins
        self.register_buffer("edge_Q", torch.full((num_bins,), _LOWEST))  # lower edges
        self.register_buffer("lo_Q", torch.zeros(num_bins))
        self.register_buffer("hi_Q", torch.zeros(num_bins))

    def forward(self, z_1: Tensor) -> Tensor:
        """(..., 1) log predictions to (..., 3): point, lo, hi with lo <= point <= hi."""
        bin_ = self._bin(z_1)
        z = z_1[..., 0]
        return torch.stack([z, z + self.lo_Q[bin_], z + self.hi_Q[bin_]], -1).exp()

    @torch.no_grad()
    def fit(self, z_N: Tensor, y_N: Tensor) -> ConformalInterval:
        """Set the buffers from out-of-fold log predictions and true targets (not logged); returns self.

        The rows must be exchangeable with those of later use: one per cell or student, or rows drawn alike.

        Raises:
            ValueError: where shapes differ, a value is not finite, a target not positive, or a bin too small.
        """
        if z_N.shape != y_N.shape or z_N.ndim != 1:
            raise ValueError(
                f"ConformalInterval.fit: z is {tuple(z_N.shape)}, y {tuple(y_N.shape)}; wanted (N,) twice"
            )
        z_N, y_N = z_N.double(), y_N.double()
        if not (torch.isfinite(z_N).all() and torch.isfinite(y_N).all() and (y_N > 0).all()):
            raise ValueError("ConformalInterval.fit: wanted finite z and positive, finite y; drop other rows")
        error_N = y_N.log() - z_N
        share_Q = torch.arange(self.num_bins, dtype=torch.float64, device=z_N.device) / self.num_bins
        self.edge_Q.copy_(torch.quantile(z_N, share_Q))
        self.edge_Q[0] = _LOWEST
        bin_N = self._bin(z_N.to(self.edge_Q)[:, None])
        for q in range(self.num_bins):
            lo, hi = _tails(error_N[bin_N == q], self.confidence)
            # the point stays inside: this can only widen the interval
            self.lo_Q[q], self.hi_Q[q] = min(lo, 0.0), max(hi, 0.0)
        return self

    def _bin(self, z_1: Tensor) -> Tensor:
        return ((z_1 >= self.edge_Q).long().sum(-1) - 1).clamp(min=0)


def least_rows(confidence: float) -> int:
    """Rows that a two-sided interval of this confidence needs at least, in each bin."""
    return math.ceil(2 / (1 - confidence) - 1e-9) - 1


def _tails(error_N: Tensor, confidence: float) -> tuple[float, float]:
    """The order statistics that hold `confidence` of exchangeable new errors between them, at least."""
    n = len(error_N)
    rank = math.floor((n + 1) * (1 - confidence) / 2 + 1e-9)
    if rank < 1:
        raise ValueError(
            f"ConformalInterval.fit: {n} rows in a bin, but confidence {confidence} wants at least "
            f"{least_rows(confidence)}; take fewer bins, lower confidence or more rows"
        )
    ordered_N = error_N.sort().values
    return float(ordered_N[rank - 1]), float(ordered_N[n - rank])

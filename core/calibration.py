"""Conformal prediction intervals and calibrated probabilities as buffers, so that they travel into the ONNX file.

Shape legend: ... any leading axes, N calibration rows, Q bins, M members, O outputs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_LOWEST = -1e30
_PENALTY, _SMALL = 1e-6, 1e-9


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


class Platt(nn.Module):
    """Logits of members (..., M) to probabilities (..., O): a logistic regression on them, which stacks and calibrates.

    Column 0 is the stack of all members. With more than one member, the next M are the members one by one, each
    calibrated alike. Unfitted, the stack is the mean of the logits and the members are as they are.

    Args:
        num_members: M.

    Raises:
        ValueError: where there is no member.

    Source: Platt 1999; stacking after Wolpert 1992.
    """

    weight_OM: Tensor
    bias_O: Tensor

    def __init__(self, num_members: int) -> None:
        super().__init__()
        if num_members < 1:
            raise ValueError(f"Platt: num_members is {num_members}; it must be at least 1")
        self.num_members = num_members
        self.num_outputs = 1 if num_members == 1 else 1 + num_members
        weight_OM = torch.cat([torch.full((1, num_members), 1 / num_members), torch.eye(num_members)])
        self.register_buffer("weight_OM", weight_OM[: self.num_outputs].clone())
        self.register_buffer("bias_O", torch.zeros(self.num_outputs))

    def forward(self, logit_M: Tensor) -> Tensor:
        """(..., M) to (..., O)."""
        return torch.nn.functional.linear(logit_M, self.weight_OM, self.bias_O).sigmoid()

    @torch.no_grad()
    def fit(self, logit_NM: Tensor, y_N: Tensor) -> Platt:
        """Set the buffers from logits and outcomes (0 or 1) of rows that the members were not trained on; returns self.

        Raises:
            ValueError: where shapes differ, a value is not finite, or the outcomes are not some 0 and some 1.
        """
        if logit_NM.shape != (len(y_N), self.num_members):
            raise ValueError(
                f"Platt.fit: logits are {tuple(logit_NM.shape)}, y {tuple(y_N.shape)}; wanted "
                f"(N, {self.num_members}) and (N,)"
            )
        logit_NM, y_N = logit_NM.double(), y_N.double()
        if not torch.isfinite(logit_NM).all() or set(y_N.unique().tolist()) != {0.0, 1.0}:
            raise ValueError("Platt.fit: wanted finite logits, and outcomes of 0 and of 1; drop other rows")
        weight_OM, bias_O = torch.zeros_like(self.weight_OM), torch.zeros_like(self.bias_O)
        for o in range(self.num_outputs):
            members = list(range(self.num_members)) if o == 0 else [o - 1]
            weight_OM[o, members], bias_O[o] = _logistic(logit_NM[:, members], y_N)
        self.weight_OM.copy_(weight_OM)
        self.bias_O.copy_(bias_O)
        return self


def _logistic(x_NM: Tensor, y_N: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (M,) and bias of a logistic regression, by Newton's method with halved steps.

    A trace of a penalty pulls towards the plain mean: it decides between members that say the same, and keeps
    outcomes that the members tell apart without error from sending the weights to infinity.
    """
    members = x_NM.shape[1]
    x_NE = torch.cat([x_NM, torch.ones_like(x_NM[:, :1])], 1)
    prior_E = torch.cat([torch.full_like(x_NM[0], 1 / members), torch.zeros_like(x_NM[0, :1])])

    def loss(weight_E: Tensor) -> Tensor:
        z_N = x_NE @ weight_E
        penalty = 0.5 * _PENALTY * (weight_E - prior_E).square().sum()
        return torch.nn.functional.binary_cross_entropy_with_logits(z_N, y_N) + penalty

    weight_E = prior_E.clone()
    for _ in range(100):
        p_N = (x_NE @ weight_E).sigmoid()
        gradient_E = x_NE.T @ (p_N - y_N) / len(y_N) + _PENALTY * (weight_E - prior_E)
        curvature_EE = x_NE.T @ (x_NE * (p_N * (1 - p_N))[:, None]) / len(y_N)
        curvature_EE += _PENALTY * torch.eye(members + 1, dtype=x_NE.dtype, device=x_NE.device)
        step_E, before = torch.linalg.solve(curvature_EE, gradient_E), loss(weight_E)
        while loss(weight_E - step_E) > before and step_E.abs().max() > _SMALL:
            step_E = step_E / 2
        weight_E = weight_E - step_E
        if step_E.abs().max() <= _SMALL:
            break
    return weight_E[:-1].to(torch.float32), weight_E[-1].to(torch.float32)


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

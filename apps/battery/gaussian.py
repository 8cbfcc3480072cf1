"""Early prediction of cycle life: a small ensemble of Gaussian processes and a ridge regression in one module.

Fitted by scikit-learn in log10 life, then held in buffers only. Every member is fitted once on all cells and once
without each fold of cells; the folds are a batch dimension of the module, so that the conformal interval is part
of the graph, and so is a physical cap for cells that already fade fast.

The mean of such an ensemble is one linear function plus radial terms around the training cells,

    log10 life = bias_k + coef_k . z + sum_m sum_r bump_mkr exp(-rate_mk |z - z_r|_m^2),

k being the fold, z the standardised features and |.|_m the distance over the features of member m.

Shape legend: B rows, F features, M Gaussian members, K models of each (the first on all cells, the others without
one fold), N training cells.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor, nn

from ...data.battery.early import FAST_FADE, GROUPS
from ...data.split import group_folds
from .conformal import interval_rank, jackknife_plus


@dataclass(frozen=True)
class Member:
    """One equally weighted model of the ensemble and the features that it sees."""

    kind: Literal["gaussian", "ridge"]
    features: tuple[str, ...]


MEMBERS = (
    Member("gaussian", GROUPS["full"]),
    Member("gaussian", GROUPS["trend"]),
    Member("gaussian", GROUPS["shape"]),
    Member("ridge", GROUPS["trend"]),
)
"""Chosen by cross-validation on the 41 training cells of Severson et al. alone."""

PHYSICAL = GROUPS["physical"]
INPUTS = (*dict.fromkeys(name for member in MEMBERS for name in member.features), *PHYSICAL)
"""The columns of `early_features` that the default ensemble reads."""

RIDGE = 0.3  # penalty on standardised features
ALONE = 60  # up to so many cells each cell is a fold of its own
FOLDS = 20
OUTSIDE = 3.0  # standard deviations that a feature is believed outside its range in training
BEYOND = 2.0  # lives longer than the longest seen by more than this factor are not promised


class EarlyEnsemble(nn.Module):
    """x_BF of early features -> (B, 3): cycle life and the two ends of its interval, in cycles.

    `EarlyEnsemble.fit` makes one. An empty `EarlyEnsemble()` takes any saved state: `load_state_dict` allocates.
    """

    centre: Tensor  # (F,) mean of each feature
    scale: Tensor  # (F,) its standard deviation
    reach: Tensor  # (2, F) standardised values are clipped to these
    cells: Tensor  # (N, F) standardised training cells
    used: Tensor  # (M, F) one where the member sees the feature
    bias: Tensor  # (K,)
    coef: Tensor  # (K, F)
    rate: Tensor  # (M, K)
    bump: Tensor  # (M, K, N)
    prior: Tensor  # (M, 4) constant, linear and radial variance and noise of the models on all cells
    inverse: Tensor  # (M, N, N) inverse covariance of the cells under them
    fold: Tensor  # (N,) the model that had left the cell out
    score: Tensor  # (N,) its error there over the root of its spread: wider for strange cells, with restraint
    rank: Tensor  # () see `interval_rank`
    bounds: Tensor  # (2,) log10 of the lives that predictions are clipped to
    physical: Tensor  # (3,) columns of last_cycle, q_now, fade_now; empty where the features lack them
    cap: Tensor  # (2,) capacity at end of life in Ah, and how much fading may still slow down

    def __init__(self) -> None:
        super().__init__()
        self._rank = 1

    @classmethod
    def fit(
        cls,
        x: np.ndarray,
        y: np.ndarray,
        names: Sequence[str],
        *,
        members: Sequence[Member] = MEMBERS,
        confidence: float = 0.9,
        eol_ah: float = 0.88,
        folds: int | None = None,
    ) -> EarlyEnsemble:
        """Fit on N cells.

        Args:
            x: (N, F) one row per cell; NaN is a missing value and counts as the mean.
            y: (N,) cycle life in cycles, positive.
            names: F names of the columns. Members whose features are not all there are left out; where none is
                left, a Gaussian process and a ridge regression see every column. The cap needs `PHYSICAL`.
            members: the ensemble; at least one of them Gaussian.
            confidence: of the interval.
            eol_ah: capacity at end of life, in Ah.
            folds: parts of the cells left out in turn, 2..N; None leaves out each cell by itself where there are
                at most `ALONE`, else `FOLDS` parts. Fewer are faster and give wider intervals.

        Raises:
            ValueError: where shapes do not fit, y is not positive, the cells are too few for the confidence, or
                `folds` is out of range.
        """
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        names = tuple(names)
        if x.shape != (len(y), len(names)):
            raise ValueError(
                f"EarlyEnsemble.fit: {len(y)} lives and {len(names)} names want x of "
                f"({len(y)}, {len(names)}); got {x.shape}"
            )
        if not (np.isfinite(y) & (y > 0)).all():
            raise ValueError(
                "EarlyEnsemble.fit: lives must be finite and positive cycles; drop the other cells"
            )
        rank = interval_rank(len(y), confidence)
        if folds is None:
            folds = len(y) if len(y) <= ALONE else FOLDS
        if not 2 <= folds <= len(y):
            raise ValueError(
                f"EarlyEnsemble.fit: folds is {folds}; {len(y)} cells want 2..{len(y)}, or None to go by their number"
            )
        present = [member for member in members if set(member.features) <= set(names)]
        if not any(member.kind == "gaussian" for member in present):
            seen = tuple(name for name in names if name not in PHYSICAL) or names
            present = [Member("gaussian", seen), Member("ridge", seen)]
        known = np.isfinite(x)
        centre = np.where(known, x, 0).sum(0) / np.maximum(known.sum(0), 1)
        scale = np.sqrt(np.where(known, (x - centre) ** 2, 0).sum(0) / np.maximum(known.sum(0), 1))
        scale = np.where(scale > 1e-12 * np.maximum(np.abs(centre), 1e-12), scale, 1.0)
        z = np.where(known, (x - centre) / scale, 0.0)
        parts = list(group_folds([str(i) for i in range(len(y))], folds))
        fold = np.zeros(len(y), np.int64)
        for k, (_, held) in enumerate(parts):
            fold[held] = k + 1
        kept = [np.arange(len(y)), *[train for train, _ in parts]]
        with threadpool_limits(1):  # hundreds of small systems: threads would only wait for each other
            buffers = _fit_members(z, np.log10(y), names, present, kept)
        physical = [names.index(name) for name in PHYSICAL] if set(PHYSICAL) <= set(names) else []
        buffers |= {
            "centre": centre,
            "scale": scale,
            "reach": np.stack([z.min(0) - OUTSIDE, z.max(0) + OUTSIDE]),
            "cells": z,
            "fold": fold,
            "score": np.ones(len(y)),
            "rank": np.array(rank),
            "bounds": np.log10([y.min() / BEYOND, y.max() * BEYOND]),
            "physical": np.array(physical, np.int64),
            "cap": np.array([eol_ah, _slowing(x[:, physical], y, eol_ah) if physical else 0.0]),
        }
        spread = buffers.pop("left_out_spread")
        model = cls()
        model._rank = rank
        for name, value in buffers.items():
            model.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)))
        with torch.no_grad():
            left_out = model._lives(torch.tensor(x))[0].gather(1, model.fold[:, None])[:, 0]
        model.score = (torch.from_numpy(np.log10(y)) - left_out).abs() / torch.from_numpy(spread).sqrt()
        return model.eval()

    def forward(self, x_BF: Tensor) -> Tensor:
        life_BK, spread_B1 = self._lives(x_BF.double())
        lo_B, hi_B = jackknife_plus(life_BK[:, self.fold], spread_B1.sqrt() * self.score, self._rank)
        point_B = life_BK[:, 0]
        out_B3 = torch.stack([point_B, torch.minimum(lo_B, point_B), torch.maximum(hi_B, point_B)], dim=-1)
        return (10**out_B3).to(x_BF.dtype)

    def left_out(self, x_NF: Tensor) -> Tensor:
        """(N,) cycle life of the N training cells, in the order of the fit, each by the model that had left it out."""
        life_NK, _ = self._lives(x_NF.double())
        return 10 ** life_NK.gather(1, self.fold[:, None])[:, 0]

    def _lives(self, x_BF: Tensor) -> tuple[Tensor, Tensor]:
        """log10 life by each of the K models (B, K), and the spread of the model on all cells (B, 1)."""
        z_BF = torch.where(torch.isnan(x_BF), 0.0, (x_BF - self.centre) / self.scale)
        z_BF = z_BF.clamp(self.reach[0], self.reach[1])
        z_MBF = z_BF * self.used[:, None]
        cells_MNF = self.cells * self.used[:, None]
        inner_MBN = z_MBF @ cells_MNF.transpose(1, 2)
        norm_MB1 = (z_MBF**2).sum(-1, keepdim=True)
        apart_MBN = norm_MB1 + (cells_MNF**2).sum(-1)[:, None] - 2 * inner_MBN
        near_MKBN = torch.exp(-self.rate[:, :, None, None] * apart_MBN[:, None])
        bumps_BK = (near_MKBN @ self.bump[..., None])[..., 0].sum(0).T
        life_BK = self.bias + z_BF @ self.coef.T + bumps_BK
        life_BK = life_BK.clamp(self.bounds[0], self.bounds[1])
        constant, linear, radial, noise = (self.prior[:, i, None, None] for i in range(4))
        shared_MBN = constant + linear * inner_MBN + radial * near_MKBN[:, 0]
        known_MB = ((shared_MBN @ self.inverse) * shared_MBN).sum(-1)
        variance_MB = (constant + linear * norm_MB1 + radial)[..., 0] - known_MB
        spread_B1 = (variance_MB.clamp(min=0) + noise[..., 0]).mean(0).sqrt()[:, None]
        return self._capped(x_BF, life_BK), spread_B1

    def _capped(self, x_BF: Tensor, life_BK: Tensor) -> Tensor:
        """A living cell outlives what was seen of it; one that fades fast lives no longer than its fade allows."""
        if self.physical.numel() == 0:
            return life_BK
        last_B1, q_B1, fade_B1 = x_BF[:, self.physical].split(1, dim=-1)
        ceiling_B1 = torch.log10(
            _fade_limit(last_B1, q_B1, fade_B1.clamp(min=1e-9), self.cap[0], self.cap[1])
        )
        fast_B1 = fade_B1 > FAST_FADE * q_B1
        life_BK = torch.where(q_B1 > self.cap[0], torch.maximum(life_BK, torch.log10(last_B1)), life_BK)
        return torch.where(fast_B1, torch.minimum(life_BK, ceiling_B1), life_BK)

    def _apply(self, fn: Any, recurse: bool = True) -> EarlyEnsemble:
        """Move between devices but stay in float64, which the inverse covariances need."""

        def moved(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        return super()._apply(moved, recurse)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for key, value in state_dict.items():
            if key.startswith(prefix) and "." not in key[len(prefix) :]:
                self.register_buffer(key[len(prefix) :], torch.empty_like(value))
        if f"{prefix}rank" in state_dict:
            self._rank = int(state_dict[f"{prefix}rank"])
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _fade_limit(last: Any, q: Any, fade: Any, eol_ah: Any, slowing: Any) -> Any:
    """Life in cycles if the present fade goes on, slowing down by `slowing` per share of capacity still to lose."""
    room = (q - eol_ah).clip(0)
    return last + room / fade * (1 + slowing * room / eol_ah)


def _slowing(physical: np.ndarray, y: np.ndarray, eol_ah: float) -> float:
    """The least slowing down that lets every fast fading training cell live as long as it did."""
    last, q, fade = physical.T
    fast = (fade > FAST_FADE * q) & (q > eol_ah)
    if not fast.any():
        return 0.0
    room = q[fast] - eol_ah
    wanted = (y[fast] - last[fast]) / (room / fade[fast]) - 1
    return float(max(0.0, (wanted / (room / eol_ah)).max()))


def _fit_members(
    z: np.ndarray,
    log_life: np.ndarray,
    names: tuple[str, ...],
    members: Sequence[Member],
    kept: Sequence[np.ndarray],
) -> dict[str, np.ndarray]:
    """Fit every member on every subset `kept` (the first holds all rows) and write their sum in the module's form.

    Also returns `left_out_spread` (N,): the Gaussian members' own standard deviation at each cell left out.
    """
    n, f = z.shape
    share = 1 / len(members)
    gaussians = [member for member in members if member.kind == "gaussian"]
    m, k = len(gaussians), len(kept)
    out = {
        "used": np.zeros((m, f)),
        "bias": np.zeros(k),
        "coef": np.zeros((k, f)),
        "rate": np.zeros((m, k)),
        "bump": np.zeros((m, k, n)),
        "prior": np.zeros((m, 4)),
        "inverse": np.zeros((m, n, n)),
    }
    variance = np.zeros(n)
    for member in members:
        columns = np.array([names.index(name) for name in member.features])
        if member.kind == "ridge":
            for j, rows in enumerate(kept):
                ridge = Ridge(RIDGE).fit(z[np.ix_(rows, columns)], log_life[rows])
                out["bias"][j] += share * ridge.intercept_
                out["coef"][j, columns] += share * ridge.coef_
            continue
        i = gaussians.index(member)
        out["used"][i, columns] = 1
        kernel = _kernel()
        for j, rows in enumerate(kept):
            z_rows = z[np.ix_(rows, columns)]
            process = _gaussian(kernel, z_rows, log_life[rows])
            kernel = process.kernel_ if j == 0 else kernel  # folds start where the whole set ended
            fitted = _constants(process.kernel_)
            weight = process.alpha_ * process._y_train_std
            out["bias"][j] += share * (process._y_train_mean + fitted["constant"] * weight.sum())
            out["coef"][j, columns] += share * fitted["linear"] * weight @ z_rows
            out["rate"][i, j] = fitted["rate"]
            out["bump"][i, j, rows] = share * fitted["radial"] * weight
            held = np.setdiff1d(np.arange(n), rows)
            if j == 0:
                unit = process._y_train_std**2
                out["prior"][i] = unit * np.array(
                    [fitted[p] for p in ("constant", "linear", "radial", "noise")]
                )
                out["inverse"][i] = np.linalg.inv(process.L_ @ process.L_.T) / unit
            else:
                variance[held] += process.predict(z[np.ix_(held, columns)], return_std=True)[1] ** 2 / m
    return out | {"left_out_spread": np.sqrt(variance)}


def _kernel() -> Any:
    linear = ConstantKernel(1.0) * DotProduct(1.0)
    radial = ConstantKernel(1.0) * RBF(3.0, (0.5, 1e3))
    return linear + radial + WhiteKernel(0.1, (1e-3, 10.0))


def _gaussian(kernel: Any, z: np.ndarray, log_life: np.ndarray) -> GaussianProcessRegressor:
    with warnings.catch_warnings():
        # a hyperparameter at its bound is a good answer here
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianProcessRegressor(kernel, normalize_y=True).fit(z, log_life)


def _constants(kernel: Any) -> dict[str, float]:
    linear, radial, noise = kernel.k1.k1, kernel.k1.k2, kernel.k2
    return {
        "constant": linear.k1.constant_value * linear.k2.sigma_0**2,
        "linear": linear.k1.constant_value,
        "radial": radial.k1.constant_value,
        "rate": 0.5 / radial.k2.length_scale**2,
        "noise": noise.noise_level,
    }

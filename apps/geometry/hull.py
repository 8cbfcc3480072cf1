"""Convex hulls as a scikit-learn estimator: by a network that goes round the points, or exactly."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ...data.geometry.hull import convex_hull, polygon_area, polygon_fault, same_place
from ...serving.geometry.hulls import HullPredictor
from .carried import BundleEstimator
from .inputs import Instances, points_of
from .own_points import fit_settings
from .parameters import check_choice, check_flag, check_whole

METHODS = ("network", "exact")


@dataclass(frozen=True, eq=False)
class SolvedHull:
    """hull: (h,) int64 corners, counter-clockwise from the leftmost, then lowest point. area: in squares of the unit.
    exact: whether exact arithmetic found no fault: then it is the convex hull."""

    name: str
    hull: np.ndarray
    area: float
    exact: bool


class ConvexHullSolver(BundleEstimator):
    """Corners of the convex hull, always a strictly convex polygon.

    X is one instance, (n, 2) points, or many: a list, a stack (B, n, 2) or a table `instance, n, x, y`. It works
    without `fit`, with the network that comes with the package.

    Args:
        method: "network", or "exact": a chain in exact arithmetic, faster and never wrong.
        bundle: the network before any fit: the name of a shipped bundle, or a folder.
        max_epochs, steps: of `fit`: epochs, and training steps of an epoch.
        random_state: of everything drawn; >= 0.
        verbose: whether `fit` shows progress on stderr.

    Attributes:
        files_: after `fit`, the bundle, bytes by name.
    """

    task = "hull"

    def __init__(
        self,
        *,
        method: str = "network",
        bundle: str | os.PathLike[str] = "hull",
        max_epochs: int = 10,
        steps: int = 200,
        random_state: int = 0,
        verbose: bool = False,
    ) -> None:
        self.method = method
        self.bundle = bundle
        self.max_epochs = max_epochs
        self.steps = steps
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Instances, y: Any = None) -> Self:
        """Train the network on these instances; their exact hulls are the labels, `y` is not looked at.

        Raises:
            ValueError: a parameter out of its range; instances that are not sound; too few of them.
        """
        self._check()
        problems, single = points_of(X)
        if single:
            raise ValueError(
                "fit: X is a single instance; wanted many: a list, a stack (B, n, 2) or a table of them"
            )
        self._forget()
        if self.method == "network":
            self._fit_points(problems, fit_settings(self))
        return self

    def predict(self, X: Instances) -> Any:
        """(h,) int64 corners of one instance, or a list of them."""
        hulls, _, single = self._hulls(X)
        return hulls[0] if single else hulls

    def solve(self, X: Instances) -> Any:
        """The answer for one instance, or a list: `hull, area, exact`."""
        hulls, problems, single = self._hulls(X)
        found = [
            SolvedHull(
                problem.name, hull, polygon_area(problem.xy, hull), not polygon_fault(problem.xy, hull)
            )
            for problem, hull in zip(problems, hulls, strict=True)
        ]
        return found[0] if single else found

    def score(self, X: Instances, y: Any = None) -> float:
        """Share of the instances whose every corner is right; `y` is not looked at, the truth is computed."""
        hulls, problems, _ = self._hulls(X)
        pairs = zip(problems, hulls, strict=True)
        return float(
            np.mean([same_place(p.xy, hull, convex_hull(p.xy)) for p, hull in pairs if p.xy is not None])
        )

    def _hulls(self, X: Instances) -> tuple[list[np.ndarray], list[Any], bool]:
        self._check()
        problems, single = points_of(X)
        points = [problem.xy for problem in problems]
        if self.method == "exact":
            return [convex_hull(xy) for xy in points], problems, single
        return self._open(HullPredictor).predict(points), problems, single

    def _check(self) -> None:
        name = type(self).__name__
        check_choice(name, "method", self.method, METHODS)
        check_flag(name, "verbose", self.verbose)
        for which, least in (("max_epochs", 1), ("steps", 1), ("random_state", 0)):
            check_whole(name, which, getattr(self, which), least)

"""Delaunay triangulations as a scikit-learn estimator: by a network that names apexes, or exactly."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ...data.geometry.delaunay import delaunay_triangles, triangle_coverage
from ...data.geometry.lawson import flip_to_delaunay
from ...serving.geometry.triangles import DelaunayPredictor
from .carried import BundleEstimator
from .inputs import Instances, points_of
from .own_points import fit_settings
from .parameters import check_choice, check_flag, check_whole

METHODS = ("network", "exact")


@dataclass(frozen=True, eq=False)
class Triangulation:
    """triangles: (m, 3) int64, counter-clockwise from the smallest index, in order. exact: whether no flip in exact
    arithmetic changes them: then it is a Delaunay triangulation."""

    name: str
    triangles: np.ndarray
    exact: bool


class DelaunaySolver(BundleEstimator):
    """Triangles of the Delaunay triangulation, always a triangulation of all points.

    X is one instance, (n, 2) points, or many: a list, a stack (B, n, 2) or a table `instance, n, x, y`. It works
    without `fit`, with the network that comes with the package.

    Args:
        flips: whether the network's edges that are not Delaunay are flipped until none is left, which makes every
            answer exact.
        method: "network", or "exact": qhull and flips, faster.
        bundle: the network before any fit: the name of a shipped bundle, or a folder.
        max_epochs, steps: of `fit`: epochs, and training steps of an epoch.
        random_state: of everything drawn; >= 0.
        verbose: whether `fit` shows progress on stderr.

    Attributes:
        files_: after `fit`, the bundle, bytes by name.
    """

    task = "delaunay"

    def __init__(
        self,
        *,
        flips: bool = False,
        method: str = "network",
        bundle: str | os.PathLike[str] = "delaunay",
        max_epochs: int = 10,
        steps: int = 200,
        random_state: int = 0,
        verbose: bool = False,
    ) -> None:
        self.flips = flips
        self.method = method
        self.bundle = bundle
        self.max_epochs = max_epochs
        self.steps = steps
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Instances, y: Any = None) -> Self:
        """Train the network on these instances; their exact triangulations are the labels, `y` is not looked at.

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
        """(m, 3) int64 triangles of one instance, or a list of them."""
        triangles, _, single = self._triangles(X)
        return triangles[0] if single else triangles

    def solve(self, X: Instances) -> Any:
        """The answer for one instance, or a list: `triangles, exact`."""
        triangles, problems, single = self._triangles(X)
        found = [
            Triangulation(p.name, rows, np.array_equal(rows, flip_to_delaunay(p.xy, rows, checked=True)))
            for p, rows in zip(problems, triangles, strict=True)
        ]
        return found[0] if single else found

    def score(self, X: Instances, y: Any = None) -> float:
        """Mean share of the true triangles that are found; `y` is not looked at, the truth is computed."""
        triangles, problems, _ = self._triangles(X)
        pairs = zip(problems, triangles, strict=True)
        return float(np.mean([triangle_coverage(rows, delaunay_triangles(p.xy)) for p, rows in pairs]))

    def _triangles(self, X: Instances) -> tuple[list[np.ndarray], list[Any], bool]:
        self._check()
        problems, single = points_of(X)
        points = [problem.xy for problem in problems]
        if self.method == "exact":
            return [delaunay_triangles(xy) for xy in points], problems, single
        return self._open(DelaunayPredictor, flips=self.flips).predict(points), problems, single

    def _check(self) -> None:
        name = type(self).__name__
        check_choice(name, "method", self.method, METHODS)
        for flag in ("flips", "verbose"):
            check_flag(name, flag, getattr(self, flag))
        for which, least in (("max_epochs", 1), ("steps", 1), ("random_state", 0)):
            check_whole(name, which, getattr(self, which), least)

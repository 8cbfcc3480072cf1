"""Tours as a scikit-learn estimator: by search, by a network, by both, or as the drivers drive them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from ...data.geometry.costs import Costs
from ...data.geometry.instances import check_tour
from ...data.geometry.routes import edge_agreement
from ...data.geometry.search import search
from ...data.geometry.tsplib import Problem
from ...serving.geometry.following import RouteFollower
from ...serving.geometry.methods import Method
from ...serving.geometry.plane import to_city
from ...serving.geometry.tours import Tour, TourPredictor, solve
from .carried import BundleEstimator
from .inputs import METRICS, Instances, problems_of
from .own_points import fit_settings
from .parameters import check_choice, check_flag, check_number, check_whole


class TSPSolver(BundleEstimator):
    """Short tours through points, with a proof of how far from the shortest they can be.

    X is one instance, (n, 2) points, or many: a list, a stack (B, n, 2), a table `instance, n, x, y`. It works without
    `fit`: by search, which needs no model, or by the network that comes with the package.

    Args:
        method: "search" (iterated local search), "local" (one descent), "greedy", "beam" or "x8" (the network, the
            best of 8 images), and "+local" or "+search" behind these, as in "x8+local". "auto" is "search"; after a
            fit on routes it follows the routes, after a fit on points alone it is "greedy+search".
        closed: whether tours come back to where they began; else they are paths.
        start: the node where every tour begins; None leaves it open.
        end: the node where every path ends; None leaves it open.
        metric: "euclidean"; "haversine" of (latitude, longitude) in degrees, lengths in km; "precomputed", where X
            holds (n, n) matrices of distances.
        seconds: limit of search and certificate of one instance; None: by its number of points, some ms at 100.
        iterations: limit of the search in kicks; None: by the number of points.
        certify: whether `solve` looks for a lower bound.
        bundle: the network before any fit: the name of a shipped bundle, or a folder.
        d_model: of `fit`, width of the network; None: 96 of points, 64 of routes.
        max_epochs: of `fit`; None: 10 of points, of routes by their number, 10 to 25.
        steps: of `fit` on points, training steps of an epoch.
        random_state: of everything drawn; >= 0.
        verbose: whether `fit` shows progress on stderr.

    Attributes:
        files_: after `fit`, the bundle, bytes by name.
        kind_: what was fitted, "points" or "routes".
    """

    task = "tsp"

    def __init__(
        self,
        *,
        method: str = "auto",
        closed: bool = True,
        start: int | None = None,
        end: int | None = None,
        metric: str = "euclidean",
        seconds: float | None = None,
        iterations: int | None = None,
        certify: bool = True,
        bundle: str | os.PathLike[str] = "tsp",
        d_model: int | None = None,
        max_epochs: int | None = None,
        steps: int = 200,
        random_state: int = 0,
        verbose: bool = False,
    ) -> None:
        self.method = method
        self.closed = closed
        self.start = start
        self.end = end
        self.metric = metric
        self.seconds = seconds
        self.iterations = iterations
        self.certify = certify
        self.bundle = bundle
        self.d_model = d_model
        self.max_epochs = max_epochs
        self.steps = steps
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Instances, tours: Any = None) -> Self:
        """Learn from routes that somebody drove, or a policy of tours from points alone.

        Args:
            X: many instances.
            tours: a route for each, (n,) nodes in their order, 20 routes or more: what they cost their drivers is
                learned, which need not be the distance, nor the same in both directions. Places count as they are, so
                all routes are of one city, in one system of coordinates. None: the network learns to decode tours
                that our own search finds for X; the methods "search" and "local" have nothing to learn.

        Raises:
            ValueError: a parameter out of its range; instances or routes that are not sound; too few of them.
        """
        self._check()
        problems, single = problems_of(X, self.metric)
        if single:
            raise ValueError(
                "fit: X is a single instance; wanted many: a list, a stack (B, n, 2) or a table of them"
            )
        self._forget()
        if tours is not None:
            self._fit_routes(problems, routes_of(tours, problems))
        elif self.method == "auto" or Method.named(self.method).graph is not None:
            self._fit_points(problems, fit_settings(self) | {"model.d_model": self.d_model or 96})
        return self

    def predict(self, X: Instances) -> Any:
        """(n,) int64 tour of one instance, or a list of tours; the certificate is left out."""
        found, single = self._solve(X, certify=False)
        return found[0].tour if single else [one.tour for one in found]

    def solve(self, X: Instances) -> Any:
        """The answer for one instance, or a list: `tour, length, lower_bound, gap, proved_optimal`.

        Lengths are by the metric, also of tours that follow observed routes.
        """
        found, single = self._solve(X, certify=self.certify)
        return found[0] if single else found

    def score(self, X: Instances, tours: Any = None) -> float:
        """How good the tours of X are; more is better.

        Args:
            tours: observed routes; None compares lengths.

        Returns:
            With routes, the mean share of a route's edges that the tour has too, in either direction. Without, minus
            the mean of length / length by search - 1, the search being that of the method "search" with default
            limits: 0 is as good as the search, -0.05 is 5 % longer, more than 0 is shorter.
        """
        found, _ = self._solve(X, certify=False)
        problems, _ = problems_of(X, self.metric)
        if tours is not None:
            pairs = zip(found, routes_of(tours, problems), strict=True)
            return float(
                np.mean([edge_agreement(one.tour, route, closed=self.closed) for one, route in pairs])
            )
        ends: dict[str, Any] = {"closed": self.closed, "start": self.start, "end": self.end}
        gaps = []
        for problem, one in zip(problems, found, strict=True):
            best = search(Costs.of_problem(problem), **ends).length
            gaps.append(one.length / best - 1 if best > 0 else 0.0)
        return -float(np.mean(gaps))

    def _solve(self, X: Instances, *, certify: bool) -> tuple[list[Tour], bool]:
        self._check()
        problems, single = problems_of(X, self.metric)
        options: dict[str, Any] = {"closed": self.closed, "start": self.start, "end": self.end}
        limits: dict[str, Any] = {
            "seconds": self.seconds,
            "iterations": self.iterations,
            "seed": self.random_state,
        }
        method = self.method
        if method == "auto":
            if getattr(self, "kind_", "") == "routes":
                follower = self._open(RouteFollower)
                options |= {"certify": certify, "seconds": self.seconds, "seed": self.random_state}
                return follower.solve(problems, **options), single
            method = "greedy+search" if hasattr(self, "files_") else "search"
        decoder = self._decoder() if Method.named(method).graph is not None else None
        return solve(problems, method, decoder, certify=certify, **options, **limits), single

    def _decoder(self) -> Any:
        if getattr(self, "kind_", "") == "routes":
            raise ValueError(
                f"method '{self.method}' decodes with a network, and this solver was fitted on routes; take 'auto'"
            )
        return self._open(TourPredictor).decoder

    def _check(self) -> None:
        if self.method != "auto":
            Method.named(self.method, "TSPSolver")
        check_choice("TSPSolver", "metric", self.metric, METRICS)
        for name in ("closed", "certify", "verbose"):
            check_flag("TSPSolver", name, getattr(self, name))
        for name, least in (("steps", 1), ("random_state", 0)):
            check_whole("TSPSolver", name, getattr(self, name), least)
        for name in ("d_model", "max_epochs"):
            check_whole("TSPSolver", name, getattr(self, name), 1, optional=True)
        for name in ("start", "end", "iterations"):
            check_whole("TSPSolver", name, getattr(self, name), 0, optional=True)
        check_number("TSPSolver", "seconds", self.seconds)

    def _fit_routes(self, problems: Sequence[Problem], routes: Sequence[np.ndarray]) -> None:
        places = [to_city(problem) for problem in problems]
        from .route_fitting import fit_routes  # noqa: PLC0415  (torch and lightning cost seconds)

        settings = {} if self.d_model is None else {"d_model": self.d_model}
        module, record = fit_routes(
            places,
            routes,
            closed=self.closed,
            max_epochs=self.max_epochs,
            seed=self.random_state,
            verbose=self.verbose,
            **settings,
        )
        with tempfile.TemporaryDirectory() as scratch:
            module.write_bundle(Path(scratch) / "bundle")
            self._take(Path(scratch) / "bundle")
        self.metrics_ = [{**record["training"], **record["baselines"]}]


def routes_of(tours: Any, problems: Sequence[Problem]) -> list[np.ndarray]:
    """Every route as (n,) int64.

    Raises:
        ValueError: another number of routes than of instances; one that is no permutation.
    """
    if isinstance(tours, pl.DataFrame):
        if "tour" not in tours.columns:
            raise ValueError(f"tours: no column tour among {', '.join(tours.columns)}; wanted lists of nodes")
        tours = tours["tour"].to_list()
    if len(tours) != len(problems):
        raise ValueError(f"tours: got {len(tours)} for {len(problems)} instances; wanted one for each")
    return [
        check_tour(tour, problem.n, f"tours[{i}]")
        for i, (tour, problem) in enumerate(zip(tours, problems, strict=True))
    ]

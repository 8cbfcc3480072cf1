"""Tours that follow observed routes, told as all tours are: with their length on the map, and what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...data.geometry.costs import Costs
from ...data.geometry.tsplib import Problem
from ..bundle import Bundle
from ..session import Device
from .plane import to_city
from .routes import RoutePredictor
from .tours import Tour, check_ends, measured


class RouteFollower:
    """From a bundle of task "tsp" and kind "routes", as a fit on observed routes writes it.

    Args:
        bundle, device: as `RoutePredictor`.
    """

    def __init__(self, bundle: str | Path | Bundle, *, device: Device = "cpu") -> None:
        self.predictor = RoutePredictor(bundle, device=device)
        self.bundle = self.predictor.bundle

    def solve(
        self,
        problems: Sequence[Problem],
        *,
        closed: bool = True,
        start: int | None = None,
        end: int | None = None,
        certify: bool = True,
        seconds: float | None = None,
        seed: int = 0,
    ) -> list[Tour]:
        """A tour of every problem, in their order, in the driver's direction.

        Lengths and lower bounds are those of the map: the gap is what the drivers' habits cost beside the shortest.

        Args:
            closed: whether tours come back to where they began.
            start, end: nodes where every tour starts, and a path ends; None: node 0 of a closed tour, the best of a
                path.
            certify: whether to look for lower bounds. seconds: limit of that for each.
            seed: of the search.

        Raises:
            ValueError: ends that are no nodes; places of another kind than `to_city` takes; too many for a route.
        """
        out = []
        for problem in problems:
            check_ends(problem.n, closed, start, end, problem.name)
            last = None if problem.n == 1 else end
            found = self.predictor.predict(
                [to_city(problem)], start=start, end=last, closed=closed, seed=seed
            )
            out.append(
                measured(
                    problem,
                    Costs.of_problem(problem),
                    found.tours[0],
                    closed=closed,
                    start=start,
                    end=last,
                    certify=certify,
                    seconds=seconds,
                )
            )
        return out

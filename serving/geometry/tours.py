"""Tours of problems by any method, each with a certificate of how far from the shortest it can be."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ...data.geometry.bound import certify as certified
from ...data.geometry.costs import Costs
from ...data.geometry.instances import check_points
from ...data.geometry.search import search
from ...data.geometry.tables import problems_from
from ...data.geometry.tsplib import Problem
from ..bundle import Bundle, open_bundle
from ..session import Device
from .decoder import TourDecoder
from .images import images, upright
from .methods import Method
from .plane import to_plane

SEARCHED = 0.8
"""Share of the seconds that a search may use where the tour is certified too."""

COLUMNS: dict[str, Any] = {
    "instance": pl.String,
    "tour": pl.List(pl.Int64),
    "length": pl.Float64,
    "lower_bound": pl.Float64,
}
"""Of a table of answers; `lower_bound` is null where none was asked for."""


@dataclass(frozen=True, eq=False)
class Tour:
    """A tour, or path, and what is known of it.

    tour: (n,) int64, every node once; of a path, from its start to its end.
    length: by the problem's own distances; of a closed tour, with the way back.
    lower_bound: of every tour, never above the optimum. gap: length / lower_bound - 1, inf where the bound is 0 and
    the length is not. proved_optimal: no tour is shorter. All three None where no certificate was asked for.
    log_p: log-probability of what a network decoded, before any search; None where none did.
    """

    name: str
    tour: np.ndarray
    length: float
    lower_bound: float | None
    gap: float | None
    proved_optimal: bool | None
    log_p: float | None


def solve(
    problems: Sequence[Problem],
    method: str = "search",
    decoder: TourDecoder | None = None,
    *,
    closed: bool = True,
    start: int | None = None,
    end: int | None = None,
    certify: bool = True,
    seconds: float | None = None,
    iterations: int | None = None,
    seed: int = 0,
) -> list[Tour]:
    """A tour of every problem, in their order.

    Args:
        method: one of `methods.METHODS`.
        decoder: of the network's part of the method, where it has one.
        closed: whether tours come back to where they began.
        start, end: nodes where every tour starts, and a path ends.
        certify: whether to look for lower bounds: as long as a search, and much longer than decoding.
        seconds, iterations: limits of the search of each problem, as `data.geometry.search.search` has them; `seconds`
            holds for search and certificate together.
        seed: of kicks, and of where images start.

    Raises:
        ValueError: unknown method, or one that decodes without a decoder; ends that are no nodes of a problem; what
            `Costs.of_problem` and `to_plane` refuse.
    """
    how = Method.named(method)
    for problem in problems:
        check_ends(problem.n, closed, start, end, problem.name)
    candidates: list[list[tuple[np.ndarray, float]]] = [[] for _ in problems]
    if how.graph is not None:
        if decoder is None:
            raise ValueError(
                f"method '{method}' decodes with a model; give a bundle, or take method 'search'"
            )
        ends = None if closed or start is None or end is None or start == end else (start, end)
        tasks = [images(to_plane(problem), ends, how.images, seed) for problem in problems]
        found = iter(decoder.decode([task for group in tasks for task in group], how.graph))
        candidates = [[(upright(one := next(found), ends), one.log_p) for _ in group] for group in tasks]
    ask = _Ask(how, closed, start, end, certify, seconds, iterations, seed)
    return [_finish(problem, given, ask) for problem, given in zip(problems, candidates, strict=True)]


def check_ends(n: int, closed: bool, start: int | None, end: int | None, place: str) -> None:
    """
    Raises:
        ValueError: an end that is no node, or an end of a closed tour, or the start once more.
    """
    for name, node in (("start", start), ("end", end)):
        if node is not None and not 0 <= node < n:
            raise ValueError(f"{place}: {name} is {node}; wanted a node from 0 to {n - 1}")
    if closed and end is not None:
        raise ValueError(f"{place}: a closed tour ends where it starts, but end is {end}; pass closed=False")
    if not closed and start is not None and start == end and n > 1:
        raise ValueError(f"{place}: start and end are both {start}; leave end away and pass closed=True")


class TourPredictor:
    """Tours from a bundle of task "tsp", with onnxruntime and numpy alone.

    Args:
        bundle: a folder, an opened bundle, or the name of a shipped one.
        device, threads: as `serving.session.open_session`.

    Raises:
        ValueError: the bundle is incomplete, changed, or of another task.
    """

    def __init__(
        self, bundle: str | Path | Bundle = "tsp", *, device: Device = "auto", threads: int = 0
    ) -> None:
        self.bundle = open_bundle(bundle)
        if (self.bundle.task, self.bundle.kind) != ("tsp", "points"):
            raise ValueError(
                f"{self.bundle.path}: a bundle of task '{self.bundle.task}' and kind '{self.bundle.kind}'; wanted "
                "'tsp' and 'points', as `remem tsp fit` writes it"
            )
        self.decoder = TourDecoder(self.bundle, device=device, threads=threads)

    def solve(self, problems: Sequence[Problem], method: str = "greedy", **options: Any) -> list[Tour]:
        """A tour of every problem; method and options as `solve` of this module has them."""
        return solve(problems, method, self.decoder, **options)

    def predict(self, points: Sequence[Any], method: str = "greedy", **options: Any) -> list[np.ndarray]:
        """(n,) int64 tour of each (n, 2) of `points`, without certificates; method and options as `solve` has them.

        Raises:
            ValueError: as `check_points`, with the number of the instance.
        """
        problems = [
            Problem(str(i), check_points(xy, f"instance {i}"), None, "euclidean")
            for i, xy in enumerate(points)
        ]
        return [one.tour for one in self.solve(problems, method, **{"certify": False} | options)]

    def predict_frame(
        self, frame: pl.DataFrame, method: str = "greedy", *, place: str = "table", **options: Any
    ) -> pl.DataFrame:
        """`instance, tour, length, lower_bound` of a table as `problems_from` takes it; lengths in km where it has
        latitude and longitude."""
        return table(self.solve(problems_from(frame, place), method, **options))


def table(tours: Sequence[Tour]) -> pl.DataFrame:
    """`instance, tour, length, lower_bound`, a row for each tour."""
    rows = [(one.name, one.tour.tolist(), one.length, one.lower_bound) for one in tours]
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


@dataclass(frozen=True)
class _Ask:
    how: Method
    closed: bool
    start: int | None
    end: int | None
    certify: bool
    seconds: float | None
    iterations: int | None
    seed: int


def _finish(problem: Problem, given: list[tuple[np.ndarray, float]], ask: _Ask) -> Tour:
    """The best of what was decoded, improved and certified as asked."""
    began = time.perf_counter()
    costs = Costs.of_problem(problem)
    start, end = ask.start, ask.end
    if problem.n == 1:
        end = None  # it may be the start too
    ends: dict[str, Any] = {"closed": ask.closed, "start": start, "end": end}
    tours = [_told(costs, tour, **ends) for tour, _ in given]
    if ask.how.improve == "local":
        begun: list[np.ndarray | None] = [*tours] or [None]
        tours = [search(costs, **ends, tour=tour, iterations=0).tour for tour in begun]
    lengths = [costs.length(tour, closed=ask.closed) for tour in tours]
    best = tours[int(np.argmin(lengths))] if tours else None
    if ask.how.improve == "search":
        share = SEARCHED if ask.certify else 1.0
        limits: dict[str, Any] = {"iterations": ask.iterations}
        limits["seconds"] = ask.seconds and share * ask.seconds
        best = search(costs, **ends, tour=best, seed=ask.seed, **limits).tour
    if best is None:
        raise ValueError(f"{problem.name}: no tour was decoded")
    log_p = given[int(np.argmin(lengths))][1] if given else None
    left = ask.seconds and max(ask.seconds - (time.perf_counter() - began), 0.0)
    return measured(problem, costs, best, **ends, certify=ask.certify, seconds=left, log_p=log_p)


def measured(
    problem: Problem,
    costs: Costs,
    tour: np.ndarray,
    *,
    closed: bool,
    start: int | None,
    end: int | None,
    certify: bool,
    seconds: float | None = None,
    log_p: float | None = None,
) -> Tour:
    """A tour (n,) of the problem with its length and, where asked for, its certificate."""
    length = costs.length(tour, closed=closed)
    if not certify:
        return Tour(problem.name, tour, length, None, None, None, log_p)
    sure = certified(costs, length, closed=closed, start=start, end=end, seconds=seconds)
    if length == 0.0:  # all in one place, and no distance is below 0
        return Tour(problem.name, tour, length, 0.0, 0.0, True, log_p)
    bound = max(sure.lower_bound, 0.0)
    return Tour(problem.name, tour, length, bound, sure.gap, sure.proved_optimal, log_p)


def _told(costs: Costs, tour: np.ndarray, closed: bool, start: int | None, end: int | None) -> np.ndarray:
    """A decoded tour (n,) as it is asked for: from its start; of a path with a free end, a closed tour cut open."""
    n = len(tour)
    if n < 2 or (not closed and start is not None and end is not None):
        return tour
    if closed:
        return tour if start is None else np.roll(tour, -int(np.flatnonzero(tour == start)[0]))
    around = costs.edges(tour, np.roll(tour, -1))  # (n,) from each place of the tour to the next
    if start is None and end is None:
        return np.roll(tour, -1 - int(around.argmax()))
    fixed = start if start is not None else end
    at = int(np.flatnonzero(tour == fixed)[0])
    # the fixed end keeps the shorter of its two edges
    path = np.roll(tour, -at) if around[at - 1] >= around[at] else np.roll(tour, -at - 1)[::-1]
    return np.ascontiguousarray(path if start is not None else path[::-1])

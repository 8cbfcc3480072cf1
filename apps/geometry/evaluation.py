"""A bundle on instances with known answers, or with those of our own search and of exact arithmetic, beside the simple
ways to answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull, Delaunay, QhullError

from ...data.geometry.construct import farthest_insertion, nearest_neighbour
from ...data.geometry.costs import Costs
from ...data.geometry.delaunay import (
    delaunay_triangles,
    same_triangles,
    triangle_coverage,
    triangle_precision,
)
from ...data.geometry.hull import area_ratio, canonical_polygon, convex_hull, same_place
from ...data.geometry.instances import check_tour
from ...data.geometry.lawson import flip_to_delaunay
from ...data.geometry.routes import edge_agreement
from ...data.geometry.search import search
from ...data.geometry.tsplib import Problem
from ...serving.geometry.following import RouteFollower
from ...serving.geometry.hulls import HullPredictor
from ...serving.geometry.tours import TourPredictor
from ...serving.geometry.triangles import DelaunayPredictor
from .files import Labels
from .inputs import points_of

Row = dict[str, object]

OPTIMAL = 1e-9
"""A tour is as short as the reference up to this share."""
SEARCH = "search"
"""The row that is the reference where there are no labels."""


def evaluate_tours(
    predictor: TourPredictor,
    problems: Sequence[Problem],
    labels: Labels,
    method: str,
    picture: Path | None = None,
) -> tuple[str, list[Row]]:
    """What lengths are compared with, and rows of mean and worst gap (%), share as short as the reference, and CPU ms.

    Where every instance has a label, gaps are to these; else to the search, whose own row then is 0. The gaps of all
    instances are drawn into the file `picture`, where it is given.

    Raises:
        ValueError: a label is no tour.
    """
    ways: dict[str, Callable[[], Sequence[np.ndarray]]] = {
        name: lambda name=name: [one.tour for one in predictor.solve(problems, name, certify=False)]  # type: ignore[misc]
        for name in dict.fromkeys((method, "greedy"))
    }
    classical: dict[str, Callable[[Costs], np.ndarray]] = {
        SEARCH: lambda costs: search(costs).tour,
        "farthest insertion": farthest_insertion,
        "nearest neighbour": nearest_neighbour,
    }
    for name, way in classical.items():
        ways[name] = lambda way=way: [way(Costs.of_problem(problem)) for problem in problems]  # type: ignore[misc]
    small = Problem("", np.random.default_rng(0).random((8, 2)), None, "euclidean")
    for warm in classical.values():  # what is compiled or opened on first use is not timed
        warm(Costs.of_problem(small))
    predictor.solve([small], method, certify=False)
    found = {name: _timed(way) for name, way in ways.items()}
    lengths = {
        name: np.array([p.length(tour) for p, tour in zip(problems, tours, strict=True)])
        for name, (tours, _) in found.items()
    }
    known = [label for label in labels if label is not None]
    if len(known) == len(problems):
        named = zip(problems, known, strict=True)
        best = np.array([p.length(check_tour(label, p.n, f"instance {p.name}: tour")) for p, label in named])
        told = "labels"
    else:
        best, told = lengths[SEARCH], SEARCH
    rows: list[Row] = []
    gaps: dict[str, np.ndarray] = {}
    for name, (_, ms) in found.items():
        gap = np.where(best > 0, lengths[name] / np.where(best > 0, best, 1.0) - 1, 0.0)
        model = name if name in classical else f"bundle, {name}"
        gaps[model] = gap
        rows.append(
            {
                "model": model,
                "gap_pct": 100 * float(gap.mean()),
                "worst_pct": 100 * float(gap.max()),
                "optimal": float((gap <= OPTIMAL).mean()),
                "length": float(lengths[name].mean()),
                "cpu_ms": ms / len(problems),
                "n": len(problems),
            }
        )
    if picture is not None:
        from .plots import plot_gaps  # noqa: PLC0415  (matplotlib takes half a second)

        picture.parent.mkdir(parents=True, exist_ok=True)
        plot_gaps({name: gap.tolist() for name, gap in gaps.items()}).savefig(picture, dpi=130)
    return told, rows


def evaluate_routes(
    predictor: RouteFollower, problems: Sequence[Problem], labels: Labels
) -> tuple[str, list[Row]]:
    """Rows of what follows the routes and of the shortest tours: agreement (mean share of a route's edges that the tour
    has), directed (in the same direction), longer_pct (than the shortest, on the map), CPU ms.

    Raises:
        ValueError: an instance has no route.
    """
    missing = [p.name for p, label in zip(problems, labels, strict=True) if label is None]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(problems)} instances have no observed route, first {missing[0]}; wanted a column "
            "tour of lists: this bundle is judged by the routes that were driven"
        )
    routes = [
        check_tour(label, problem.n, f"instance {problem.name}: tour")
        for problem, label in zip(problems, labels, strict=True)
    ]
    found, ms = _timed(lambda: [one.tour for one in predictor.solve(problems, certify=False)])
    short, short_ms = _timed(lambda: [search(Costs.of_problem(problem)).tour for problem in problems])
    least = np.array([p.length(tour) for p, tour in zip(problems, short, strict=True)])
    rows: list[Row] = []
    for name, tours, spent in (
        ("bundle", found, ms),
        ("shortest", short, short_ms),
        ("observed", routes, None),
    ):
        pairs = list(zip(tours, routes, strict=True))
        length = np.array([p.length(tour) for p, tour in zip(problems, tours, strict=True)])
        rows.append(
            {
                "model": name,
                "agreement": float(np.mean([edge_agreement(*pair) for pair in pairs])),
                "directed": float(np.mean([edge_agreement(*pair, directed=True) for pair in pairs])),
                "longer_pct": 100 * float((length / np.where(least > 0, least, 1.0) - 1)[least > 0].mean()),
                "cpu_ms": None if spent is None else spent / len(problems),
                "n": len(problems),
            }
        )
    return "observed routes", rows


def evaluate_hulls(
    predictor: HullPredictor, problems: Sequence[Problem], labels: Labels
) -> tuple[str, list[Row]]:
    """What hulls are compared with, and rows: exact (share of instances with every corner right), area (mean share of
    the true area), repaired (share of answers that were mended), CPU ms."""
    points = _points(problems)
    truth, told = _truth(points, labels, convex_hull)
    truth = [canonical_polygon(xy, hull) for xy, hull in zip(points, truth, strict=True)]
    answers, ms = _timed(lambda: predictor.answer(points))
    qhull, qhull_ms = _timed(lambda: [_qhull(xy) for xy in points])
    given = {"bundle": ([one.hull for one in answers], ms), "qhull": (qhull, qhull_ms)}
    rows: list[Row] = []
    for name, (hulls, spent) in given.items():
        three = list(zip(points, hulls, truth, strict=True))
        rows.append(
            {
                "model": name,
                "exact": float(np.mean([same_place(xy, h, t) for xy, h, t in three])),
                "area": float(np.nanmean([area_ratio(xy, h, t) for xy, h, t in three])),
                "repaired": float(np.mean([one.repaired for one in answers])) if name == "bundle" else None,
                "cpu_ms": spent / len(points),
                "n": len(points),
            }
        )
    return told, rows


def evaluate_triangulations(
    predictor: DelaunayPredictor, problems: Sequence[Problem], labels: Labels
) -> tuple[str, list[Row]]:
    """What triangles are compared with, and rows: exact (share of instances with every triangle right), coverage (mean
    share of the true triangles found), precision (mean share of those found that are true), repaired, CPU ms."""
    points = _points(problems)
    flat = [None if label is None else label.reshape(-1, 3) for label in labels]
    truth, told = _truth(points, flat, delaunay_triangles)
    answers, ms = _timed(lambda: predictor.answer(points))
    plain = [one.triangles for one in answers]
    flipped, flips_ms = _timed(lambda: [flip_to_delaunay(xy, t) for xy, t in zip(points, plain, strict=True)])
    qhull, qhull_ms = _timed(lambda: [_qhull_triangles(xy) for xy in points])
    given = {"bundle": (plain, ms), "bundle, flips": (flipped, ms + flips_ms), "qhull": (qhull, qhull_ms)}
    rows: list[Row] = []
    for name, (triangles, spent) in given.items():
        pairs = list(zip(triangles, truth, strict=True))
        rows.append(
            {
                "model": name,
                "exact": float(np.mean([same_triangles(*pair) for pair in pairs])),
                "coverage": float(np.mean([triangle_coverage(*pair) for pair in pairs])),
                "precision": float(np.mean([triangle_precision(*pair) for pair in pairs])),
                "repaired": float(np.mean([one.repaired for one in answers])) if name == "bundle" else None,
                "cpu_ms": spent / len(points),
                "n": len(points),
            }
        )
    return told, rows


def _points(problems: Sequence[Problem]) -> list[np.ndarray]:
    return [problem.xy for problem in points_of(list(problems), "INPUT")[0] if problem.xy is not None]


def _truth(
    points: Sequence[np.ndarray], labels: Labels, exact: Callable[[np.ndarray], np.ndarray]
) -> tuple[list[np.ndarray], str]:
    known = [label for label in labels if label is not None]
    if len(known) == len(points):
        return known, "labels"
    return [exact(xy) for xy in points], "exact arithmetic"


def _qhull(xy: np.ndarray) -> np.ndarray:
    """scipy's hull, empty where it gives up."""
    try:
        return canonical_polygon(xy, ConvexHull(xy).vertices.astype(np.int64))
    except (QhullError, ValueError):
        return np.zeros(0, np.int64)


def _qhull_triangles(xy: np.ndarray) -> np.ndarray:
    try:
        return Delaunay(xy).simplices
    except (QhullError, ValueError):
        return np.zeros((0, 3), np.int64)


def _timed(way: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the CPU ms it took."""
    began = time.process_time()
    found = way()
    return found, 1000 * (time.process_time() - began)

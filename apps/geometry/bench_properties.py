"""`remem bench geometry-properties`: thousands of cases, and how many answers lack a property that all must have.

Tours are permutations with the ends asked for and the length told; bounds are never above a tour, nor above the
shortest one where that is known; learned hulls are strictly convex polygons, learned triangles triangulations of all
points; what is unsound raises ValueError. No failure is let pass: the rows hold their number and the first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ...data.geometry.bound import Certificate, certify
from ...data.geometry.costs import Costs
from ...data.geometry.exact import exact_tour
from ...data.geometry.hull import canonical_polygon, polygon_fault
from ...data.geometry.lawson import flip_to_delaunay
from ...data.geometry.search import search
from ...data.geometry.triangulation import triangulation_fault
from ...serving.bundle import SHIPPED
from .delaunay import DelaunaySolver
from .hull import ConvexHullSolver
from .property_cases import Case, broken_matrices, broken_points, cases
from .tsp import TSPSolver

PER_SEED = 2000
"""Cases for each seed; with the default of five seeds, 10,000."""
EXACT = 10
"""Nodes up to which the shortest tour is looked up."""
ROUNDED = 1e-13
"""Two sums of the same lengths differ by no more than this share."""
BATCH = 50
"""Cases that a network sees at once."""
BROKEN_EVERY = 20
"""One case in so many is broken in all ways, too."""

Fault = tuple[str, str]
"""Name of the case, and what is wrong with the answer; "" where nothing is."""

Check = Callable[[Sequence[Case]], Sequence[Fault]]


def geometry_properties(
    *, seeds: int = 5, root: str | None = None, quick: bool = False
) -> list[dict[str, object]]:
    """Rows `answer, cases, failures, first`, of networks only where their bundles are shipped.

    Args:
        seeds: sets of `PER_SEED` cases.
        root: not used; every case is made up.
        quick: 60 cases of at most 60 points.
    """
    rows: dict[str, dict[str, Any]] = {}
    for seed in range(1 if quick else seeds):
        drawn = list(cases(60 if quick else PER_SEED, seed, 60 if quick else 1000))
        for answer, every, check in [*SEARCHED, *_learned()]:
            row = rows.setdefault(answer, {"answer": answer, "cases": 0, "failures": 0, "first": None})
            asked = drawn[::every]
            for first in range(0, len(asked), BATCH):
                for name, fault in _guarded(check, asked[first : first + BATCH]):
                    row["cases"] += 1
                    if fault:
                        row["failures"] += 1
                        row["first"] = row["first"] or f"{name}: {fault}"
            print(f"seed {seed}: {row}", file=sys.stderr)
    return list(rows.values())


def _guarded(check: Check, some: Sequence[Case]) -> list[Fault]:
    """As `check`; where it raises, the cases one by one, and the error is the fault."""
    try:
        return list(check(some))
    except Exception as error:  # whatever it is, it must not have been raised
        if len(some) == 1:
            return [(some[0].name, f"raised {error!r}")]
        return [fault for case in some for fault in _guarded(check, [case])]


def _search(some: Sequence[Case]) -> list[Fault]:
    faults = []
    for case in some:
        costs = Costs.of_points(case.given)
        faults.append((case.name, _tour_fault(case, costs, _matrix(case) if len(case.xy) <= EXACT else None)))
    return faults


def _search_of_matrix(some: Sequence[Case]) -> list[Fault]:
    """The same on distances that need not be those of a plane."""
    faults = []
    for case in some:
        n = len(case.xy)
        if n > 300:
            continue
        matrix = _matrix(case) * case.rng.uniform(0.1, 0.3, (n, n))  # huge ones stay below 1e300
        matrix = np.minimum(matrix, matrix.T)
        faults.append((case.name, _tour_fault(case, Costs.of_matrix(matrix), matrix if n <= EXACT else None)))
    return faults


def _matrix(case: Case) -> np.ndarray:
    d = case.xy[:, None] - case.xy
    return np.hypot(d[..., 0], d[..., 1])


def _tour_fault(case: Case, costs: Costs, exact: np.ndarray | None) -> str:
    """What is wrong with the search and the bound. exact: (n, n) distances where the shortest tour is looked up."""
    n = len(case.xy)
    found = search(costs, **case.ends, iterations=min(n, 200), seed=int(case.rng.integers(100)))
    sure = certify(costs, found.length, **case.ends, steps=300 if n <= 60 else 30)
    fault = _permutation_fault(case, found.tour)
    if fault:
        return fault
    told = costs.length(found.tour, closed=case.closed)
    if not (np.isfinite(told) and found.length == told <= found.start_length * (1 + ROUNDED)):
        return f"length {found.length}, begun with {found.start_length}, of the tour {told}"
    if not (sure.lower_bound <= found.length and sure.gap >= 0):
        return f"bound {sure.lower_bound} above the length {found.length}"
    return "" if exact is None else _exact_fault(exact_tour(exact, **case.ends)[1], found.length, sure)


def _exact_fault(best: float, length: float, sure: Certificate) -> str:
    if not sure.lower_bound <= best * (1 + ROUNDED):
        return f"bound {sure.lower_bound} above the shortest tour {best}"
    if not length >= best * (1 - ROUNDED):
        return f"length {length} below the shortest tour {best}"
    if sure.proved_optimal and length > best * (1 + 1e-8):
        return f"length {length} proved, but the shortest tour has {best}"
    return ""


def _permutation_fault(case: Case, tour: np.ndarray) -> str:
    if not np.array_equal(np.sort(tour), np.arange(len(case.xy))):
        return f"no permutation: {tour[:8]}..."
    if case.start is not None and tour[0] != case.start:
        return f"starts at {tour[0]}, not {case.start}"
    if case.end is not None and tour[-1] != case.end:
        return f"ends at {tour[-1]}, not {case.end}"
    return ""


def _refused(some: Sequence[Case]) -> list[Fault]:
    """What is unsound must raise ValueError, whoever is asked."""
    tours = TSPSolver(method="search", iterations=0)
    matrices = TSPSolver(method="search", iterations=0, metric="precomputed")
    hulls, triangles = ConvexHullSolver(method="exact"), DelaunaySolver(method="exact")
    faults = []
    for case in some[::BROKEN_EVERY]:
        asked: list[tuple[str, Any, tuple[Any, ...]]]
        asked = [(say, bad, (tours, hulls, triangles)) for say, bad in broken_points(case)]
        asked += [(say, bad, (matrices,)) for say, bad in broken_matrices(case)]
        for say, bad, solvers in asked:
            for solver in solvers:
                name = f"{case.name}: {say} for {type(solver).__name__}"
                try:
                    solver.predict(bad)
                except ValueError:
                    faults.append((name, ""))
                except Exception as error:
                    faults.append((name, f"raised {error!r}"))
                else:
                    faults.append((name, "was taken"))
    return faults


SEARCHED: list[tuple[str, int, Check]] = [
    ("search and bound, points", 1, _search),
    ("search and bound, matrix", 1, _search_of_matrix),
    ("unsound input", 1, _refused),
]
"""Answers, one case in how many is asked for them, and the check."""


def _learned() -> Iterator[tuple[str, int, Check]]:
    """Of the shipped networks; decoding a tour takes far longer than the rest, so that not all cases are decoded."""
    if (SHIPPED / "hull").is_dir():
        yield "hull", 1, _hulls
    if (SHIPPED / "delaunay").is_dir():
        yield "triangles", 1, _triangles
        yield "triangles after flips", 1, _flipped
    if (SHIPPED / "tsp").is_dir():
        yield "tour, greedy", 5, _tours_by("greedy")
        yield "tour, x8+local", 50, _tours_by("x8+local")
        yield "tour, beam", 50, _tours_by("beam")


def _tours_by(method: str) -> Check:
    def check(some: Sequence[Case]) -> list[Fault]:
        faults = []
        for (closed, start, end), group in _by_ends(some).items():
            solver = TSPSolver(method=method, closed=closed, start=start, end=end)
            for case, tour in zip(group, solver.predict([case.given for case in group]), strict=True):
                faults.append((case.name, _permutation_fault(case, tour)))
        return faults

    return check


def _by_ends(some: Sequence[Case]) -> dict[tuple[bool, int | None, int | None], list[Case]]:
    groups: dict[tuple[bool, int | None, int | None], list[Case]] = {}
    for case in some:
        groups.setdefault((case.closed, case.start, case.end), []).append(case)
    return groups


def _hulls(some: Sequence[Case]) -> list[Fault]:
    answers = ConvexHullSolver().predict([case.given for case in some])
    return [(case.name, hull_fault(case.xy, hull)) for case, hull in zip(some, answers, strict=True)]


def hull_fault(xy: np.ndarray, hull: np.ndarray) -> str:
    """What keeps `hull` (h,) from being a strictly convex, counter-clockwise polygon of points of xy (n, 2)."""
    if len(hull) < 3:  # only what is flat has such a hull
        return polygon_fault(xy, hull)
    fault = polygon_fault(xy[hull], np.arange(len(hull)))
    if not fault and canonical_polygon(xy, hull)[0] != hull[0]:
        return f"begins with {hull[0]}, which is not the leftmost, then lowest corner"
    return fault


def _triangles(some: Sequence[Case]) -> list[Fault]:
    answers = DelaunaySolver().predict([case.given for case in some])
    return [
        (case.name, triangulation_fault(case.xy, triangles))
        for case, triangles in zip(some, answers, strict=True)
    ]


def _flipped(some: Sequence[Case]) -> list[Fault]:
    """Triangulations in which no edge is left to flip: that is what Delaunay means."""
    faults = []
    answers = DelaunaySolver(flips=True).predict([case.given for case in some])
    for case, triangles in zip(some, answers, strict=True):
        fault = triangulation_fault(case.xy, triangles)
        if not fault and not np.array_equal(flip_to_delaunay(case.xy, triangles), triangles):
            fault = "an edge is not Delaunay"
        faults.append((case.name, fault))
    return faults

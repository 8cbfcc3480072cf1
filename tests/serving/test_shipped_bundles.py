"""The bundles in the package: there, small, and as good as the guide says, on instances that nothing was trained on."""

import numpy as np
import pytest

from remem.data.geometry.costs import Costs
from remem.data.geometry.delaunay import delaunay_triangles, triangle_coverage
from remem.data.geometry.distances import tour_length
from remem.data.geometry.hull import convex_hull, same_place
from remem.data.geometry.instances import generate
from remem.data.geometry.search import search
from remem.data.geometry.tsplib import Problem
from remem.serving.bundle import SHIPPED, open_bundle, shipped
from remem.serving.geometry.hulls import HullPredictor
from remem.serving.geometry.tours import TourPredictor
from remem.serving.geometry.triangles import DelaunayPredictor

SEED = 20_270_101


def fresh(n, count):
    return [generate("uniform", n, [SEED, n, i]) for i in range(count)]


@pytest.fixture(scope="module")
def tours():
    return TourPredictor(device="cpu", threads=1)


def test_they_are_there_whole_and_small():
    assert shipped() == ["delaunay", "hull", "tsp"]
    for name in shipped():
        bundle = open_bundle(SHIPPED / name)
        assert (bundle.app, bundle.task) == ("geometry", name)
        assert sum(file.stat().st_size for file in bundle.path.iterdir()) < 2.5e6


@pytest.mark.parametrize(("n", "count", "worst"), [(20, 48, 0.015), (50, 16, 0.03)])
def test_greedy_tours_are_short(tours, n, count, worst, record_property):
    points = fresh(n, count)
    best = np.array([search(Costs.of_points(xy)).length for xy in points])
    gaps = {}
    for method in ("greedy", "greedy+local"):
        found = [tour_length(t, xy) for t, xy in zip(tours.predict(points, method), points, strict=True)]
        gaps[method] = float(np.mean(np.array(found) / best - 1))
    record_property("told", f"shipped tours, n = {n}: " + ", ".join(f"{k} {v:.2%}" for k, v in gaps.items()))
    assert gaps["greedy+local"] <= gaps["greedy"] < worst


def test_sizes_never_trained_on_and_paths_are_tours_too(tours):
    (large,) = fresh(230, 1)
    (tour,) = tours.predict([large])
    assert sorted(tour.tolist()) == list(range(230))
    # farther from its sizes the network is worse, but no stranger: a random tour is ten times as long
    assert tour_length(tour, large) < 1.15 * search(Costs.of_points(large)).length
    problems = [Problem(str(n), fresh(n, 1)[0], None, "euclidean") for n in (4, 7, 42, 43)]
    for problem, one in zip(problems, tours.solve(problems, closed=False, start=2, end=0), strict=True):
        assert sorted(one.tour.tolist()) == list(range(problem.n))
        assert (one.tour[0], one.tour[-1]) == (2, 0)
        assert one.gap < 0.15


def test_hulls_and_triangles_are_nearly_always_right():
    points = fresh(60, 12)
    hulls = HullPredictor(device="cpu", threads=1).predict(points)
    assert np.mean([same_place(xy, h, convex_hull(xy)) for xy, h in zip(points, hulls, strict=True)]) > 0.9
    triangles = DelaunayPredictor(device="cpu", threads=1).predict(points)
    found = [triangle_coverage(t, delaunay_triangles(xy)) for xy, t in zip(points, triangles, strict=True)]
    assert np.mean(found) > 0.98

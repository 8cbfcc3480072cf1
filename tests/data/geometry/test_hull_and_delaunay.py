"""Hulls and triangulations of any points: valid by exact predicates, and qhull's where nothing is degenerate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull, Delaunay

from remem.data.geometry.delaunay import delaunay_triangles, same_triangles, triangle_coverage
from remem.data.geometry.hull import area_ratio, canonical_polygon, convex_hull, polygon_fault
from remem.data.geometry.lawson import flip_to_delaunay
from remem.data.geometry.triangulation import canonical_triangles, sweep_triangulation, triangulation_fault


def drawn(kind: str, n: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    xy = random.random((n, 2))
    if kind == "grid":
        xy = np.floor(4 * xy)  # many twins, many on a line
    elif kind == "line":
        xy[:, 1] = 2 * np.round(xy[:, 0], 3)
    elif kind == "clustered":
        xy = random.random((3, 2))[random.integers(0, 3, n)] + 1e-3 * xy
    elif kind == "huge":
        xy = 1e150 * (xy - 0.5)
    elif kind == "tiny":
        xy = 1e-150 * xy
    return xy


KINDS = ("uniform", "grid", "line", "clustered", "huge", "tiny")


@pytest.mark.parametrize("kind", KINDS)
def test_every_hull_and_triangulation_is_valid(kind):
    for seed in range(60):
        n = 1 + seed % 30 if seed < 55 else 200
        xy = drawn(kind, n, seed)
        hull = convex_hull(xy)
        assert polygon_fault(xy, hull) == "", (kind, n, seed)
        assert np.array_equal(canonical_polygon(xy, hull), hull)
        triangles = delaunay_triangles(xy)
        assert triangulation_fault(xy, triangles) == "", (kind, n, seed)
        assert np.array_equal(canonical_triangles(xy, triangles), triangles)


@pytest.mark.parametrize("n", [5, 10, 50, 300])
def test_qhull_s_answers_where_points_lie_in_general_position(n):
    for seed in range(20):
        xy = drawn("uniform", n, seed)
        assert np.array_equal(convex_hull(xy), canonical_polygon(xy, ConvexHull(xy).vertices))
        triangles = delaunay_triangles(xy)
        assert same_triangles(triangles, Delaunay(xy).simplices)
        assert triangle_coverage(triangles, Delaunay(xy).simplices) == 1.0


def test_flips_turn_any_triangulation_into_that_of_delaunay():
    changed = 0
    for seed in range(40):
        xy = drawn("uniform", 4 + seed, seed)
        swept = sweep_triangulation(xy)
        assert triangulation_fault(xy, swept) == ""
        wanted = delaunay_triangles(xy)
        changed += not same_triangles(swept, wanted)
        assert same_triangles(flip_to_delaunay(xy, swept), wanted), seed
    assert changed > 20  # else nothing was flipped


def test_faults_are_named():
    xy = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0], [1.0, 1.0]])
    assert convex_hull(xy).tolist() == [0, 1, 2, 3]
    assert polygon_fault(xy, [0, 1, 2]) != ""  # a corner outside
    assert polygon_fault(xy, [0, 3, 2, 1]) != ""  # clockwise
    assert area_ratio(xy, [0, 1, 2], [0, 1, 2, 3]) == pytest.approx(0.5)
    assert triangulation_fault(xy, [[0, 1, 4], [1, 2, 4], [2, 3, 4]]) != ""  # a hole
    assert triangulation_fault(xy, [[0, 1, 4], [1, 2, 4], [2, 3, 4], [0, 4, 3]]) == ""

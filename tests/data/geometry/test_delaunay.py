"""Triangulations: scipy's where scipy is sure, and right for every input by their definition; flips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from remem.data.geometry.delaunay import (
    delaunay_triangles,
    same_triangles,
    triangle_coverage,
    triangle_precision,
)
from remem.data.geometry.instances import KINDS, generate
from remem.data.geometry.lawson import flip_to_delaunay
from remem.data.geometry.predicates import Predicates
from remem.data.geometry.triangulation import (
    canonical_triangles,
    sweep_triangulation,
    triangulation_fault,
)

SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.4]])
FAN = [[0, 1, 4], [0, 4, 3], [1, 2, 4], [2, 3, 4]]


@pytest.mark.parametrize("n", [3, 4, 5, 10, 50, 300])
def test_scipys_triangles_of_random_points_also_by_flips(n: int):
    for seed in range(15):
        xy = generate("uniform", n, seed)
        truth = canonical_triangles(xy, Delaunay(xy).simplices)
        np.testing.assert_array_equal(delaunay_triangles(xy), truth)
        np.testing.assert_array_equal(flip_to_delaunay(xy, sweep_triangulation(xy)), truth)


def not_delaunay(xy: np.ndarray, triangles: np.ndarray) -> int:
    """Edges whose far point is inside the circle through the other three."""
    apex = {}
    for a, b, c in triangles.tolist():
        apex |= {(a, b): c, (b, c): a, (c, a): b}
    inside = Predicates(xy).in_circle
    return sum((b, a) in apex and inside(a, b, c, apex[b, a]) > 0 for (a, b), c in apex.items())


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    n=st.one_of(st.integers(1, 12), st.integers(1, 200)),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1.0, 1e-160, 1e-300, 1e9, 1e150, 1e295]),
    shift=st.sampled_from([0.0, 1.0, 1e7]),
)
def test_triangulations_hold_by_definition(kind: str, n: int, seed: int, scale: float, shift: float):
    xy = generate(kind, n, seed) * (scale / 100) + shift * scale / 1e9
    triangles = delaunay_triangles(xy)
    assert triangulation_fault(xy, triangles) == ""
    assert not_delaunay(xy, triangles) == 0
    np.testing.assert_array_equal(canonical_triangles(xy, triangles[::-1, [1, 0, 2]]), triangles)
    swept = sweep_triangulation(xy)
    assert triangulation_fault(xy, swept) == ""
    flipped = flip_to_delaunay(xy, swept)
    assert triangulation_fault(xy, flipped) == ""
    assert not_delaunay(xy, flipped) == 0
    if len(triangles) > 1:
        assert triangulation_fault(xy, triangles[1:]) != ""
        assert triangulation_fault(xy, np.concatenate([triangles, triangles[:1]])) != ""


def test_a_thousand_points():
    xy = generate("clustered", 1000, 0)
    truth = delaunay_triangles(xy)
    assert triangulation_fault(xy, truth) == ""
    assert same_triangles(flip_to_delaunay(xy, sweep_triangulation(xy)), truth)


def test_canonical_form_and_flat_lists():
    flat = np.array(FAN)[::-1, [2, 1, 0]].ravel()
    assert canonical_triangles(SQUARE, flat).tolist() == [[0, 1, 4], [0, 4, 3], [1, 2, 4], [2, 3, 4]]
    assert delaunay_triangles(SQUARE).tolist() == FAN


@pytest.mark.parametrize("xy", [[[1, 2]], [[1, 2], [3, 4]], [[0, 0], [1, 1], [3, 3]], [[1, 1]] * 5])
def test_nothing_to_triangulate(xy: list):
    assert delaunay_triangles(xy).shape == (0, 3)
    assert sweep_triangulation(xy).shape == (0, 3)
    assert flip_to_delaunay(xy, []).shape == (0, 3)
    assert triangulation_fault(xy, []) == ""
    assert triangle_coverage([], []) == 1.0


def test_duplicates_count_once():
    xy = np.concatenate([SQUARE, SQUARE])
    assert delaunay_triangles(xy).tolist() == FAN
    other = np.array(FAN)
    other[other == 4] = 9
    assert triangulation_fault(xy, other) == ""
    other[0, other[0] == 9] = 4
    assert "one at each of 5 places" in triangulation_fault(xy, other)


@pytest.mark.parametrize(
    ("triangles", "fault"),
    [
        ([], "0 points"),
        ([[0, 1, 2], [0, 2, 3]], "4 points"),
        (FAN[:3], "border"),
        ([*FAN, [0, 1, 2]], "same side"),
        ([[0, 1, 4], [0, 4, 3], [1, 2, 4], [1, 2, 3]], "same side"),
        ([[0, 0, 1]], "flat"),
    ],
)
def test_faults_of_triangles(triangles: list, fault: str):
    assert fault in triangulation_fault(SQUARE, triangles)


def test_a_hole_and_a_skipped_point_on_the_border_are_found():
    ring = [[0, 0], [4, 0], [2, 4], [1.5, 1], [2.5, 1], [2, 2]]
    whole = delaunay_triangles(ring)
    hole = [t for t in whole.tolist() if t != [3, 4, 5]]
    assert len(hole) == len(whole) - 1
    assert triangulation_fault(ring, hole) != ""
    xy = [[0, 0], [2, 0], [1, 0], [1, 1], [1, 0.5]]
    assert triangulation_fault(xy, [[0, 1, 4], [1, 3, 4], [0, 4, 3]]) != ""
    assert triangulation_fault(xy, delaunay_triangles(xy)) == ""


def test_shares():
    truth = np.array(FAN)
    assert triangle_coverage([[4, 1, 0], [1, 2, 3]], truth) == 0.25
    assert triangle_precision([[4, 1, 0], [1, 2, 3]], truth) == 0.5
    assert triangle_precision([], truth) == 1.0
    assert same_triangles(truth[::-1, [2, 1, 0]].ravel(), truth)
    assert not same_triangles(truth[1:], truth)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: flip_to_delaunay(SQUARE, FAN[1:]), "no triangulation|not a triangulation"),
        (lambda: canonical_triangles(SQUARE, [[0, 1, 5]]), "wanted 0 to 4"),
        (lambda: canonical_triangles(SQUARE, [0, 1]), r"\(m, 3\)"),
        (lambda: canonical_triangles(SQUARE, [[0.5, 1, 2]]), "whole numbers"),
        (lambda: delaunay_triangles([[0, np.inf]]), "inf in row 0"),
    ],
)
def test_refusals(call, says: str):
    with pytest.raises(ValueError, match=says):
        call()

"""Hulls: scipy's where scipy is sure, and right for every input by their definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from remem.data.geometry import hull as h
from remem.data.geometry.instances import KINDS, generate
from remem.data.geometry.predicates import Predicates

SQUARE = np.array([[1, 1], [0, 1], [0, 0], [1, 0], [0.5, 0.5], [0.5, 0]], float)


@pytest.mark.parametrize("n", [3, 5, 10, 50, 200, 1000])
def test_scipys_hull_of_random_points(n: int):
    for seed in range(20):
        xy = generate("uniform", n, seed)
        np.testing.assert_array_equal(h.convex_hull(xy), h.canonical_polygon(xy, ConvexHull(xy).vertices))


@pytest.mark.parametrize(
    ("xy", "hull"),
    [
        (SQUARE, [2, 3, 0, 1]),
        ([[5, 5]], [0]),
        ([[5, 5], [5, 5]], [0]),
        ([[1, 2], [1, 1]], [1, 0]),
        ([[2, 2], [0, 0], [1, 1], [3, 3], [0, 0]], [1, 3]),
        ([[0, 0], [1, 0], [0, 0], [0, 1], [1, 0]], [0, 1, 3]),
    ],
)
def test_canonical_form_by_hand(xy: list, hull: list[int]):
    assert h.convex_hull(xy).tolist() == hull


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    n=st.one_of(st.integers(1, 12), st.integers(1, 1000)),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1.0, 1e-160, 1e-300, 1e9, 1e150, 1e295]),
    shift=st.sampled_from([0.0, 1.0, 1e7]),
)
def test_hulls_hold_by_definition(kind: str, n: int, seed: int, scale: float, shift: float):
    xy = generate(kind, n, seed) * (scale / 100) + shift * scale / 1e9
    hull = h.convex_hull(xy)
    assert h.polygon_fault(xy, hull) == ""
    assert h.polygon_fault(xy, np.roll(hull, 1)) == ""
    np.testing.assert_array_equal(h.canonical_polygon(xy, np.roll(hull, 1)), hull)
    assert h.area_ratio(xy, hull, hull) == pytest.approx(1.0)
    if len(hull) > 2:
        assert h.polygon_fault(xy, hull[::-1]) != ""
        assert h.polygon_fault(xy, hull[1:]) != ""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=12))
def test_small_lattices(rows: list):
    assert h.polygon_fault(rows, h.convex_hull(rows)) == ""


@pytest.mark.parametrize(
    ("polygon", "fault"),
    [
        ([2, 3, 0, 1], ""),
        ([0, 1, 2, 3], ""),
        ([], "no corner"),
        ([2, 3, 0, 1, 2], "twice"),
        ([1, 0, 3, 2], "turn to the left"),
        ([2, 5, 3, 0, 1], "turn to the left"),
        ([2, 3, 0], "outside"),
        ([2, 0], "ends"),
    ],
)
def test_faults_of_a_polygon(polygon: list[int], fault: str):
    assert fault in h.polygon_fault(SQUARE, polygon)
    assert bool(h.polygon_fault(SQUARE, polygon)) == bool(fault)


def test_a_star_goes_round_twice():
    angle = 2 * np.pi * np.arange(5) * 2 / 5
    star = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert h.polygon_fault(star, range(5)) == "goes round more than once"
    assert not h.is_simple(star, range(5))
    assert np.isnan(h.area_ratio(star, range(5), h.convex_hull(star)))


def test_areas():
    truth = h.convex_hull(SQUARE)
    assert h.polygon_area(SQUARE, truth) == 1
    assert h.polygon_area(SQUARE, truth[::-1]) == -1
    assert h.polygon_area(SQUARE, truth[:2]) == 0
    assert h.area_ratio(SQUARE, [2, 3, 0], truth) == 0.5
    assert h.area_ratio(SQUARE, [2, 3, 4, 0, 1], truth) == 0.75  # bent inwards, does not cross itself
    for crossing in ([2, 0, 3, 1], [1, 0, 3, 2], [2, 3, 2], [2, 3], [2, 5, 3, 5]):
        assert np.isnan(h.area_ratio(SQUARE, crossing, truth)), crossing
    far = SQUARE * 1e-3 + 1e9
    assert h.polygon_area(far, truth) == pytest.approx(1e-6, rel=1e-3)
    assert h.area_ratio([[0, 0], [1, 1]], [0], [0, 1]) == 1.0


def test_another_point_at_the_same_place():
    xy = np.array([[0, 0], [1, 0], [0, 1], [1, 0]], float)
    assert h.same_place(xy, [0, 1, 2], [0, 3, 2])
    assert not h.same_place(xy, [0, 1, 2], [1, 2, 0])
    assert not h.same_place(xy, [0, 1, 2], [0, 1])


def test_points_nearly_on_a_line_are_told_apart():
    xy = np.array([[0.5, 0.5], [12.0, 12.0], [24.0, 24.0]])
    assert Predicates(xy).side(0, 1, 2) == 0
    for step in (-1, 1):
        moved = xy.copy()
        moved[2, 1] = np.nextafter(24.0, 24.0 + step)
        assert Predicates(moved).side(0, 1, 2) == step
    circle = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], float)
    assert Predicates(circle).in_circle(0, 1, 2, 3) == 0
    for step in (-1, 1):
        circle[3, 1] = np.nextafter(-1.0, -1.0 + step)
        assert (
            Predicates(circle * 1e-90).in_circle(0, 1, 2, 3)
            == Predicates(circle).in_circle(0, 1, 2, 3)
            == step
        )


@pytest.mark.parametrize(
    ("xy", "polygon", "says"),
    [
        ([[0, np.nan]], [0], "nan in row 0, column 1"),
        ([[0, 0, 0]], [0], "shape"),
        ([[0, 0]], [1], "wanted 0 to 0"),
        ([[0, 0]], [0.5], "whole numbers"),
    ],
)
def test_refusals(xy: list, polygon: list, says: str):
    with pytest.raises(ValueError, match=says):
        h.polygon_fault(xy, polygon)

"""Edge lengths: values computed by hand, published optima, and the same numbers from matrix and coordinates."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from remem.data.geometry.distances import KINDS, dimensions, distance_matrix, edge_lengths, tour_length

COORDINATES = [kind for kind in KINDS if kind != "EXPLICIT"]


def points(kind: str, n: int = 9) -> np.ndarray:
    return np.random.default_rng(0).uniform(-80, 80, (n, dimensions(kind)))


@pytest.mark.parametrize(
    ("kind", "a", "b", "length"),
    [
        ("EUC_2D", (0, 0), (1, 1), 1),  # 1.41
        ("EUC_2D", (0, 0), (1.5, 2), 3),  # 2.5 goes up, not to the even number
        ("EUC_3D", (0, 0, 0), (1, 2, 2.1), 3),
        ("CEIL_2D", (0, 0), (1, 1), 2),
        ("CEIL_2D", (0, 0), (3, 4), 5),
        ("MAN_2D", (0, 0), (1.25, -2.25), 4),  # 3.5
        ("MAN_3D", (0, 0, 0), (1, 2, -3), 6),
        ("MAX_2D", (0, 0), (1, -2.5), 3),
        ("MAX_3D", (0, 0, 0), (1, 2, -7), 7),
        ("ATT", (0, 0), (10, 0), 4),  # sqrt(10) = 3.16 rounds to 3, which is below it
        ("ATT", (0, 0), (0, 11.5), 4),  # 3.64 rounds to 4
        ("ATT", (0, 0), (30, 10), 10),  # exactly 10
        # 1 degree of latitude: int(6378.388 * 3.141592 / 180 + 1) = int(112.32)
        ("GEO", (0, 0), (1, 0), 112),
        # 30 minutes: int(55.66 + 1)
        ("GEO", (0, 0), (0.30, 0), 56),
        ("GEO", (0, -0.30), (0, 0.30), 112),
        ("euclidean", (0, 0), (3e200, 4e200), 5e200),
        ("euclidean", (0, 0), (3e-200, 4e-200), 5e-200),
        ("haversine", (0, 0), (0, 180), np.pi * 6371.0088),
        ("haversine", (90, 12), (-90, 80), np.pi * 6371.0088),
        ("haversine", (60, 0), (60, 0), 0),
    ],
)
def test_values_by_hand(kind: str, a: tuple, b: tuple, length: float):
    assert edge_lengths(np.array(a), np.array(b), kind) == pytest.approx(length, rel=1e-12)


def test_haversine_from_paris_to_new_york():
    assert edge_lengths([48.8566, 2.3522], [40.7128, -74.0060], "haversine") == pytest.approx(5837, abs=2)


@pytest.mark.parametrize("kind", COORDINATES)
def test_matrix_and_coordinates_agree(kind: str):
    xy = points(kind)
    matrix = distance_matrix(xy, kind)
    assert matrix.dtype == np.float64
    assert (matrix == matrix.T).all()
    assert (np.diag(matrix) == 0).all()
    for i, j in itertools.permutations(range(len(xy)), 2):
        assert matrix[i, j] == edge_lengths(xy[i], xy[j], kind)
    tour = np.random.default_rng(1).permutation(len(xy))
    closed, opened = (tour_length(tour, xy, kind, closed=way) for way in (True, False))
    assert closed == pytest.approx(tour_length(tour, matrix, "EXPLICIT"))
    assert closed - opened == pytest.approx(matrix[tour[-1], tour[0]])


@pytest.mark.parametrize("kind", ["EUC_2D", "GEO", "haversine"])
def test_a_matrix_in_blocks_is_the_same(kind: str, monkeypatch: pytest.MonkeyPatch):
    xy = points(kind, 30)
    whole = distance_matrix(xy, kind)
    monkeypatch.setattr("remem.data.geometry.distances._BLOCK", 70)
    np.testing.assert_array_equal(distance_matrix(xy, kind), whole)


def test_small_tours():
    assert tour_length(np.array([], int), np.zeros((0, 2))) == 0
    assert tour_length([], np.zeros((0, 2))) == 0
    assert tour_length([0], np.zeros((1, 2))) == 0
    assert tour_length([0, 1], np.array([[0, 0], [3, 4]])) == 10
    assert tour_length([0, 1], np.array([[0, 0], [3, 4]]), closed=False) == 5
    assert distance_matrix(np.zeros((0, 2))).shape == (0, 0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: distance_matrix(np.zeros((3, 2)), "EUC2D"), "no kind 'EUC2D'.*EUC_2D"),
        (lambda: distance_matrix(np.zeros((3, 3)), "EUC_2D"), "wanted 2 coordinates"),
        (lambda: distance_matrix(np.zeros(3)), "shape"),
        (lambda: distance_matrix(np.zeros((3, 2)), "EXPLICIT"), r"wanted \(n, n\)"),
        (lambda: distance_matrix(np.zeros((30_000, 2))), "7 GB.*coordinates"),
        (lambda: tour_length([0, 3], np.zeros((3, 2))), "wanted 0 to 2"),
        (lambda: tour_length([-1, 0], np.zeros((3, 2))), "wanted 0 to 2"),
        (lambda: tour_length([0.5, 1], np.zeros((3, 2))), "whole numbers"),
        (lambda: tour_length([[0, 1]], np.zeros((3, 2))), "whole numbers"),
    ],
)
def test_refusals(call, says: str):
    with pytest.raises(ValueError, match=says):
        call()

"""Dynamic programming against trying every order, and published optima of small TSPLIB instances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from remem.data.geometry.distances import distance_matrix, tour_length
from remem.data.geometry.exact import exact_tour
from remem.data.geometry.instances import check_tour

BURMA14 = """16.47 96.10 16.47 94.44 20.09 92.54 22.39 93.37 25.23 97.24 22.00 96.05 20.47 97.02 17.20 96.29
16.30 97.38 14.05 98.12 16.53 97.38 21.52 95.59 19.41 97.13 20.09 94.55"""
ULYSSES16 = """38.24 20.42 39.57 26.15 40.56 25.32 36.26 23.12 33.48 10.54 37.56 12.19 38.42 13.11 37.52 20.44
41.23 9.10 41.17 13.05 36.08 -5.21 38.47 15.13 38.15 15.35 37.51 15.17 35.49 14.32 39.36 19.56"""


@pytest.mark.parametrize(("text", "optimum"), [(BURMA14, 3323), (ULYSSES16, 6859)])
def test_published_optima_of_geo_instances(text: str, optimum: int):
    xy = np.array(text.split(), float).reshape(-1, 2)
    tour, length = exact_tour(distance_matrix(xy, "GEO"))
    assert length == optimum
    assert tour_length(tour, xy, "GEO") == optimum


def best_of_all(d: np.ndarray, closed: bool, start: int | None, end: int | None) -> float:
    return min(
        tour_length(np.array(order), d, "EXPLICIT", closed=closed)
        for order in itertools.permutations(range(len(d)))
        if start in (None, order[0]) and end in (None, order[-1])
    )


@pytest.mark.parametrize("n", range(2, 8))
@pytest.mark.parametrize(
    ("closed", "start", "end"),
    [
        (True, None, None),
        (True, 1, None),
        (False, None, None),
        (False, 1, None),
        (False, None, 0),
        (False, 1, 0),
    ],
)
@pytest.mark.parametrize("symmetric", [True, False])
def test_no_order_is_shorter(n: int, closed: bool, start: int | None, end: int | None, symmetric: bool):
    d = np.random.default_rng(n).random((n, n))
    d = d + d.T if symmetric else d
    tour, length = exact_tour(d, closed=closed, start=start, end=end)
    check_tour(tour, n)
    assert start in (None, tour[0])
    assert end in (None, tour[-1])
    assert length == pytest.approx(best_of_all(d, closed, start, end), rel=1e-12)
    assert length == pytest.approx(tour_length(tour, d, "EXPLICIT", closed=closed), rel=1e-12)


def test_eight_nodes_and_nodes_at_one_place():
    xy = np.random.default_rng(0).integers(0, 3, (8, 2)).astype(float)
    d = distance_matrix(xy)
    assert exact_tour(d)[1] == pytest.approx(best_of_all(d, True, 0, None))
    assert exact_tour(np.zeros((6, 6)))[1] == 0


def test_one_node():
    tour, length = exact_tour([[0.0]])
    assert tour.tolist() == [0]
    assert length == 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: exact_tour(np.zeros((17, 17))), "1 to 16 nodes"),
        (lambda: exact_tour(np.zeros((0, 0))), "1 to 16 nodes"),
        (lambda: exact_tour(np.zeros((3, 4))), "shape"),
        (lambda: exact_tour(np.full((3, 3), np.nan)), "NaN"),
        (lambda: exact_tour(np.zeros((3, 3)), start=3), "start is 3"),
        (lambda: exact_tour(np.zeros((3, 3)), end=1), "closed=False"),
        (lambda: exact_tour(np.zeros((3, 3)), closed=False, start=1, end=1), "two nodes"),
    ],
)
def test_refusals(call, says: str):
    with pytest.raises(ValueError, match=says):
        call()

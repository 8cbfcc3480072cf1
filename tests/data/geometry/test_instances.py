"""Makers of instances, and the checks of what comes from outside."""

from __future__ import annotations

from itertools import islice

import numpy as np
import polars as pl
import pytest

from remem.data.geometry.hull import convex_hull
from remem.data.geometry.instances import KINDS, check_matrix, check_points, check_tour, generate, stream


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3, 17, 1000])
def test_makers_depend_on_the_seed_alone(kind: str, n: int):
    xy = generate(kind, n, 5)
    assert xy.shape == (n, 2)
    assert xy.dtype == np.float64
    np.testing.assert_array_equal(check_points(xy), xy)
    np.testing.assert_array_equal(generate(kind, n, 5), xy)
    if n > 3:
        assert (generate(kind, n, 6) != xy).any()


def test_makers_make_what_they_say():
    assert len(convex_hull(generate("collinear", 50, 0))) == 2
    assert len(np.unique(generate("duplicates", 90, 0), axis=0)) <= 30
    assert len(np.unique(generate("grid", 49, 0), axis=0)) == 49
    assert len(convex_hull(generate("circle", 60, 0))) == 60


def test_a_stream_is_the_same_again():
    first = list(islice(stream(KINDS, (5, 9), 3), 20))
    second = list(islice(stream(KINDS, (5, 9), 3), 20))
    assert {len(xy) for _, xy in first} <= set(range(5, 10))
    assert len({kind for kind, _ in first}) > 2
    for (kind, xy), (other, again) in zip(first, second, strict=True):
        assert kind == other
        np.testing.assert_array_equal(xy, again)
    assert next(stream("grid", 4, 0))[1].shape == (4, 2)


def test_points_of_any_type():
    rows = [[1, 2], [3, 4]]
    frame = pl.DataFrame({"id": [7, 8], "y": [2, 4], "x": [1, 3]})
    for points in (
        rows,
        np.array(rows, np.float32),
        np.array(rows).T.copy().T,
        frame,
        tuple(map(tuple, rows)),
    ):
        xy = check_points(points)
        assert xy.tolist() == rows
        assert xy.flags.c_contiguous
    given = np.zeros((1, 2))
    check_points(given)[0, 0] = 1
    assert given[0, 0] == 0


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([[0, np.nan], [1, 1]], r"cities: nan in row 0, column 1 \(from 0\), 1 such"),
        ([[0, 0], [-np.inf, 1]], "-inf in row 1"),
        ([[1e301, 0]], "1e\\+301"),
        ([[0, 0, 0]], r"shape \(1, 3\)"),
        ([0, 1], "shape"),
        ([], "shape"),
        (np.zeros((0, 2)), "no points"),
        ([[0, 1], [2]], "not a table of numbers"),
        ([["a", "b"]], "not a table of numbers"),
        (np.zeros((2, 2), complex), "complex"),
        (None, "not a table|shape"),
    ],
)
def test_bad_points(points, says: str):
    with pytest.raises(ValueError, match=says) as error:
        check_points(points, "cities")
    assert str(error.value).startswith("cities")


def test_matrices():
    assert check_matrix([[9, 2], [2, np.nan]]).tolist() == [[0, 2], [2, 0]]
    nearly = np.array([[0, 1], [1 + 1e-13, 0]])
    assert (check_matrix(nearly) == check_matrix(nearly).T).all()
    for bad, says in [
        ([[0, 1], [2, 0]], "not symmetric: 1 from 0 to 1, 2 back"),
        ([[0, -1], [-1, 0]], "from 0 to 1 is -1"),
        ([[0, np.nan], [1, 0]], "nan in row 0"),
        ([[0, 1, 2], [1, 0, 3]], "shape"),
        ([], "shape"),
    ]:
        with pytest.raises(ValueError, match=says):
            check_matrix(bad)


def test_tours():
    assert check_tour([2.0, 0, 1], 3).tolist() == [2, 0, 1]
    for bad, says in [
        ([0, 1, 1], "node 1 comes 2 times and node 2 never"),
        ([0, 1], r"wanted \(3,\)"),
        ([1, 2, 3], "node 3 at place 2.*count from 1"),
        ([0, 1, -1], "node -1"),
        ([0, 1, 1.5], "node 1.5"),
        ([0, 1, np.nan], "node nan"),
    ]:
        with pytest.raises(ValueError, match=says):
            check_tour(bad, 3)


def test_unknown_kinds_and_sizes():
    with pytest.raises(ValueError, match="wanted one of uniform"):
        generate("spiral", 3, 0)
    with pytest.raises(ValueError, match="1 or more"):
        generate("uniform", 0, 0)

"""The search: a permutation always, never longer than its start, the shortest where that is known."""

import itertools
import math
import time

import numpy as np
import pytest

from remem.data.geometry.construct import farthest_insertion, greedy, hilbert, nearest_neighbour, start_tour
from remem.data.geometry.costs import Costs
from remem.data.geometry.instances import KINDS, generate
from remem.data.geometry.search import search


def shortest(costs, n, *, closed=True, start=None, end=None):
    """By brute force."""
    d = np.array([[costs.length([i, j], closed=False) for j in range(n)] for i in range(n)])
    best = math.inf
    free = [i for i in range(n) if i not in (start, end) and not (closed and i == 0)]
    for middle in itertools.permutations(free):
        path = [*([0] if closed else []), *middle]
        path = [start, *path] if start is not None and not closed else path
        path = [*path, end] if end is not None else path
        length = float(d[path[:-1], path[1:]].sum()) + (float(d[path[-1], path[0]]) if closed else 0.0)
        best = min(best, length)
    return best


def assert_tour(found, n):
    assert np.array_equal(np.sort(found.tour), np.arange(n))
    assert found.length <= found.start_length


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_a_permutation_never_longer_than_its_start(kind, scale):
    random = np.random.default_rng(0)
    for case in range(90):
        n = int(random.integers(1, 30)) if case % 10 else int(random.integers(30, 301))
        xy = generate(kind, n, case) * scale
        costs = Costs.of_points(xy)
        ends = random.permutation(n)[:2].tolist()
        for options in (
            {},
            {"tour": random.permutation(n)},
            {"closed": False, "start": ends[0]},
            {"closed": False, "start": ends[0], "end": ends[1] if n > 1 else None},
        ):
            found = search(costs, iterations=n, seed=case, **options)
            assert_tour(found, n)
            assert found.length == costs.length(found.tour, closed=options.get("closed", True))
            assert np.isfinite(found.length)
            if "start" in options:
                assert found.tour[0] == ends[0]
            if options.get("end") is not None:
                assert found.tour[-1] == ends[1]


def test_points_and_their_matrix_are_the_same_problem(monkeypatch):
    xy = np.random.default_rng(1).random((200, 2))
    dense = search(Costs.of_points(xy), iterations=300)
    monkeypatch.setattr("remem.data.geometry.costs.DENSE", 0)
    sparse = search(Costs.of_points(xy), iterations=300)
    assert np.array_equal(dense.tour, sparse.tour)
    for options in ({"closed": False}, {"closed": False, "start": 3, "end": 7}):
        assert_tour(search(Costs.of_points(xy), iterations=300, **options), 200)


@pytest.mark.parametrize("closed", [True, False])
def test_the_shortest_of_few(closed):
    missed = 0
    for seed in range(60):
        n = 3 + seed % 5
        costs = Costs.of_points(np.random.default_rng(seed).random((n, 2)))
        found = search(costs, closed=closed)
        best = shortest(costs, n, closed=closed)
        assert found.length >= best - 1e-12
        missed += found.length > best + 1e-12
    assert missed == 0


@pytest.mark.parametrize("ends", [(2, None), (None, 1), (2, 1)])
def test_the_shortest_path_between_ends(ends):
    missed = 0
    for seed in range(40):
        n = 3 + seed % 5
        costs = Costs.of_points(np.random.default_rng(seed).random((n, 2)))
        found = search(costs, closed=False, start=ends[0], end=ends[1])
        assert ends[0] is None or found.tour[0] == ends[0]
        assert ends[1] is None or found.tour[-1] == ends[1]
        best = shortest(costs, n, closed=False, start=ends[0], end=ends[1])
        assert found.length >= best - 1e-12
        missed += found.length > best + 1e-12
    assert missed == 0


def test_the_shortest_of_nine():
    missed = 0
    for seed in range(3):
        costs = Costs.of_points(np.random.default_rng(seed).random((9, 2)))
        missed += search(costs).length > shortest(costs, 9) + 1e-12
    assert missed == 0


def test_a_matrix_without_a_plane():
    random = np.random.default_rng(2)
    for case in range(30):
        d = random.integers(0, 100, (8, 8)).astype(float)
        costs = Costs.of_matrix(d + d.T)
        found = search(costs, seed=case)
        assert_tour(found, 8)
        assert found.length == shortest(costs, 8) or found.length < 1.1 * shortest(costs, 8)


def test_a_seed_and_a_limit_give_one_tour():
    costs = Costs.of_points(np.random.default_rng(3).random((150, 2)))
    first, second = (search(costs, iterations=200, seed=5) for _ in range(2))
    assert np.array_equal(first.tour, second.tour)
    assert first.iterations == 200


def test_without_numba_the_same_tour(monkeypatch):
    from remem.data.geometry import construct, moves
    from remem.data.geometry import search as module

    costs = Costs.of_points(np.random.default_rng(4).random((25, 2)))
    fast = search(costs, iterations=20)
    for place in (moves, module, construct):
        for name in dir(place):
            plain = getattr(getattr(place, name), "py_func", None)
            if plain is not None:
                monkeypatch.setattr(place, name, plain)
    slow = search(costs, iterations=20)
    assert np.array_equal(fast.tour, slow.tour)


def test_time_is_kept():
    costs = Costs.of_points(np.random.default_rng(5).random((3000, 2)))
    search(costs, iterations=1)  # compiles
    began = time.perf_counter()
    found = search(costs, seconds=1.5)
    assert time.perf_counter() - began < 6.0  # other processes run too
    assert found.iterations > 0
    assert_tour(search(costs, seconds=0.0), 3000)


def test_more_iterations_are_no_worse():
    costs = Costs.of_points(np.random.default_rng(6).random((200, 2)))
    lengths = [search(costs, iterations=k).length for k in (0, 100, 1000)]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("kind", KINDS)
def test_constructors_visit_every_node_once(kind):
    for n in (1, 2, 3, 10, 200):
        xy = generate(kind, n, n)
        costs = Costs.of_points(xy)
        for tour in (nearest_neighbour(costs), farthest_insertion(costs), greedy(costs), hilbert(xy)):
            assert np.array_equal(np.sort(tour), np.arange(n))


def test_cheapest_edges_first():
    """The shortest edges that fit, found by hand on a line: 1-2, 4-5, 0-1, 3-4, and the pieces joined."""
    line = np.array([[0, 0], [3, 0], [4, 0], [11, 0], [13, 0], [14, 0]], float)
    tour = greedy(Costs.of_points(line)).tolist()
    assert tour in ([0, 1, 2, 3, 4, 5], [2, 1, 0, 3, 4, 5])
    costs = Costs.of_points(np.random.default_rng(0).random((2000, 2)))
    assert costs.length(greedy(costs)) < 0.95 * costs.length(nearest_neighbour(costs))


def test_many_nodes_start_on_cheap_edges_and_more_on_the_curve(monkeypatch):
    xy = np.random.default_rng(0).random((300, 2))
    costs = Costs.of_points(xy)
    at = int(np.flatnonzero(greedy(costs) == 7)[0])
    assert np.array_equal(start_tour(costs, 7), np.roll(greedy(costs), -at))
    monkeypatch.setattr("remem.data.geometry.construct.CURVE", 200)
    at = int(np.flatnonzero(hilbert(costs.xy) == 7)[0])
    assert np.array_equal(start_tour(costs, 7)[:5], np.roll(hilbert(costs.xy), -at)[:5]) == bool(
        len(costs.xy)
    )


def test_the_curve_goes_from_cell_to_the_next():
    cells = np.argwhere(np.ones((16, 16))).astype(float)
    assert np.abs(np.diff(cells[hilbert(cells, 4)], axis=0)).sum(1).max() == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start": 5}, "start is 5; give a node from 0 to 4"),
        ({"end": 1}, "closed=False"),
        ({"closed": False, "start": 1, "end": 1}, "both 1"),
        ({"tour": [0, 1, 2, 3, 3]}, "each once"),
        ({"tour": [0, 1]}, "each of 5 nodes once"),
        ({"closed": False, "start": 1, "tour": [0, 1, 2, 3, 4]}, "start 1 should be"),
        ({"seconds": -1.0}, "seconds is -1"),
        ({"iterations": -1}, "iterations is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"seconds": math.nan}, "seconds is nan"),
    ],
)
def test_what_is_refused(options, said):
    costs = Costs.of_points(np.random.default_rng(0).random((5, 2)))
    with pytest.raises(ValueError, match=said):
        search(costs, **options)


@pytest.mark.parametrize("xy", [[[0, math.nan]], [[0, math.inf]], [[1, 2, 3]], []])
def test_points_that_are_none(xy):
    with pytest.raises(ValueError, match="points"):
        Costs.of_points(xy)

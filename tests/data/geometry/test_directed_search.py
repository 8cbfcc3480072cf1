"""Searches where directions, or times, cost something else: never better than exact, and nearly always as good."""

import itertools

import numpy as np
import pytest

from remem.data.geometry.alternatives import alternatives
from remem.data.geometry.costs import Costs
from remem.data.geometry.directed import directed_length, directed_search
from remem.data.geometry.exact import exact_tour
from remem.data.geometry.search import search
from remem.data.geometry.timed import timed_length, timed_search


def matrix(kind, n, rng):
    xy = rng.random((n, 2))
    d = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
    if kind == "directed":
        return d * (1 + rng.random((n, n)))
    return d if kind == "both ways" else rng.random((n, n)) - 0.5


@pytest.mark.parametrize("kind", ["both ways", "directed", "negative"])
def test_the_shortest_of_few(kind):
    rng = np.random.default_rng(0)
    missed = total = 0
    for _ in range(60):
        n = int(rng.integers(1, 11))
        d, first = matrix(kind, n, rng), int(rng.integers(n))
        ends = [{}, {"start": first}, {"closed": False}, {"closed": False, "end": first}]
        if n > 1:
            ends.append({"closed": False, "start": first, "end": (first + 1) % n})
        for options in ends:
            tour, length = directed_search(d, **options)
            best = exact_tour(d, **options)[1]
            assert np.array_equal(np.sort(tour), np.arange(n))
            assert length == directed_length(d, tour, closed=options.get("closed", True))
            assert tour[0] == options.get("start", 0 if options.get("closed", True) else tour[0])
            assert tour[-1] == options.get("end", tour[-1])
            assert length >= best - 1e-9
            missed, total = missed + (length > best + 1e-9), total + 1
    assert missed <= 0.01 * total


def test_as_good_as_the_search_for_symmetric_costs():
    gaps = []
    for seed in range(10):
        xy = np.random.default_rng(seed).random((60, 2))
        d = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
        gaps.append(directed_search(d)[1] / search(Costs.of_points(xy), iterations=3000).length - 1)
    assert np.mean(gaps) < 0.003


def test_a_given_tour_is_never_made_longer_and_a_seed_decides():
    rng = np.random.default_rng(1)
    for n in (2, 3, 5, 40, 150):
        d, given = matrix("directed", n, rng), rng.permutation(n)
        tour, length = directed_search(d, tour=given, iterations=20, seed=3)
        assert length <= directed_length(d, given) + 1e-12
        assert np.array_equal(tour, directed_search(d, tour=given, iterations=20, seed=3)[0])
        path, length = directed_search(
            d, closed=False, start=given[0], end=given[-1], tour=given, iterations=5
        )
        assert (path[0], path[-1]) == (given[0], given[-1])
        assert length <= directed_length(d, given, closed=False) + 1e-12


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"matrix": np.ones((3, 2))}, "wanted \\(n, n\\)"),
        ({"matrix": np.array([[0, np.nan], [1, 0]])}, "from 0 to 1 is nan"),
        ({"start": 5}, "start is 5"),
        ({"end": 1}, "closed=False"),
        ({"closed": False, "start": 1, "end": 1}, "both 1"),
        ({"tour": [0, 1, 1, 2]}, "comes 2 times"),
        ({"tour": [0, 1, 2, 3], "closed": False, "start": 2}, "where start 2 should be"),
        ({"seed": -1}, "0 or more"),
    ],
)
def test_refused(options, told):
    with pytest.raises(ValueError, match=told):
        directed_search(**{"matrix": np.ones((4, 4))} | options)


def test_costs_that_change_along_the_tour():
    rng = np.random.default_rng(2)
    for _ in range(40):
        n, slots = int(rng.integers(1, 7)), int(rng.integers(1, 5))
        costs = rng.random((slots, n, n))
        tour, length = timed_search(costs)
        best = min(timed_length(costs, np.array([0, *rest])) for rest in itertools.permutations(range(1, n)))
        assert np.array_equal(np.sort(tour), np.arange(n))
        assert tour[0] == 0
        assert length == pytest.approx(best)
    with pytest.raises(ValueError, match="wanted \\(T, n, n\\)"):
        timed_search(np.ones((3, 3)))


def neighbours(tour):
    """Every tour that a path turned round, a short path moved, or two paths swapped make of it, by slices."""
    n, t = len(tour), list(tour)
    out = set()
    for i, j in itertools.combinations(range(1, n + 1), 2):
        out.add((*t[:i], *t[i:j][::-1], *t[j:]))
        for k in range(j + 1, n + 1):
            a, b = t[i:j], t[j:k]
            out.add((*t[:i], *b, *a, *t[k:]))
            if len(a) <= 3:
                out.add((*t[:i], *b, *a[::-1], *t[k:]))
            if len(b) <= 3:
                out.add((*t[:i], *b[::-1], *a, *t[k:]))
    return out - {tuple(t)}


@pytest.mark.parametrize("n", [3, 4, 7, 9])
def test_the_cheapest_alternatives_of_all(n):
    rng = np.random.default_rng(n)
    d, tour = rng.random((n, n)), rng.permutation(n)
    wanted = neighbours(tour)
    every = alternatives(d, tour, 10_000)
    assert {tuple(one) for one in every.tolist()} == wanted
    lengths = [directed_length(d, one) for one in every]
    assert np.allclose(lengths, sorted(lengths))
    few = alternatives(d, tour, 5)
    assert np.allclose([directed_length(d, one) for one in few], lengths[: len(few)])

"""The bound is never above the optimum: exact for a few nodes, known for TSPLIB."""

import csv
import math
import time

import numpy as np
import pytest

from remem.data.files import data_root
from remem.data.geometry.bound import _one_tree, certify, lower_bound
from remem.data.geometry.costs import Costs
from remem.data.geometry.instances import KINDS, generate
from remem.data.geometry.near_tree import near_edges, near_tree, with_edges
from remem.data.geometry.search import search
from remem.data.geometry.tsplib import read_tsp

TSPLIB = data_root() / "tsplib"


def optimum(costs, n):
    """Shortest closed tour, by dynamic programming over sets (Held and Karp 1962)."""
    d = np.array([[costs.length([i, j], closed=False) for j in range(n)] for i in range(n)])
    if n < 3:
        return 2 * float(d[0, -1])
    best = np.full((1 << (n - 1), n - 1), np.inf)
    best[1 << np.arange(n - 1), np.arange(n - 1)] = d[0, 1:]
    for held in range(1, 1 << (n - 1)):
        inside = [i for i in range(n - 1) if held >> i & 1]
        if len(inside) > 1:
            for last in inside:
                best[held, last] = (best[held ^ 1 << last] + d[1:, last + 1]).min()
    return float((best[-1] + d[1:, 0]).min())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e150])
def test_never_above_the_optimum(kind, scale):
    for seed in range(12):
        n = 1 + seed % 10
        costs = Costs.of_points(generate(kind, n, seed) * scale)
        best = optimum(costs, n)
        for aim in (best, 1.3 * best, 0.5 * best):  # whatever the ascent aims at
            assert lower_bound(costs, aim) <= best * (1 + 1e-15)


def test_never_above_the_optimum_of_twelve():
    for seed in range(3):
        costs = Costs.of_points(np.random.default_rng(seed).random((12, 2)))
        best = optimum(costs, 12)
        assert lower_bound(costs, best) <= best


def test_whole_numbers_are_bounded_exactly():
    random = np.random.default_rng(0)
    proved = 0
    for _ in range(60):
        n = int(random.integers(3, 10))
        d = random.integers(0, 60, (n, n)).astype(float)
        costs = Costs.of_matrix(d + d.T)
        best = optimum(costs, n)
        bound = lower_bound(costs, best)
        assert bound <= best
        assert bound == math.floor(bound)
        proved += bound == best
    assert proved > 40


def test_paths_are_bounded_too():
    for seed in range(60):
        n = 3 + seed % 6
        xy = np.random.default_rng(seed).integers(0, 50, (n, 2)).astype(float)
        for kind in ("euclidean", "EUC_2D"):
            costs = Costs.of_points(xy, kind)
            for options in ({}, {"start": 0}, {"start": 0, "end": n - 1}, {"end": 1}):
                found = search(costs, closed=False, iterations=100, **options)  # the shortest, nearly always
                sure = certify(costs, found.length, closed=False, **options)
                assert lower_bound(costs, found.length, closed=False, **options) <= found.length * (1 + 1e-12)
                assert sure.gap >= 0


def test_points_and_their_matrix_have_one_bound(monkeypatch):
    xy = np.random.default_rng(1).random((60, 2))
    dense = lower_bound(Costs.of_points(xy), 7.0)
    opened = lower_bound(Costs.of_points(xy), 7.0, closed=False, start=3)
    monkeypatch.setattr("remem.data.geometry.costs.DENSE", 0)
    assert lower_bound(Costs.of_points(xy), 7.0) == pytest.approx(dense, rel=1e-9)
    assert lower_bound(Costs.of_points(xy), 7.0, closed=False, start=3) == pytest.approx(opened, rel=1e-6)


def test_most_of_twenty_are_proved_and_a_hundred_are_near(record_property):
    proved, gaps = 0, []
    for seed in range(200):
        costs = Costs.of_points(np.random.default_rng(5000 + seed).random((20, 2)))
        proved += certify(costs, search(costs).length).proved_optimal
    for seed in range(10):
        costs = Costs.of_points(np.random.default_rng(seed).random((100, 2)))
        gaps.append(certify(costs, search(costs).length).gap)
    record_property("told", f"bound: {proved / 200:.0%} of n = 20 proved, gap at n = 100 {np.mean(gaps):.2%}")
    assert proved >= 0.95 * 200
    assert np.mean(gaps) <= 0.012


def test_cases_close_what_the_ascent_leaves_open():
    left = 0
    for seed in range(40):
        n = 6 + seed % 5
        xy = np.random.default_rng(seed).random((n, 2))
        for costs in (Costs.of_points(xy), Costs.of_points(np.rint(xy * 200), "EUC_2D")):
            best = optimum(costs, n)
            bound = lower_bound(costs, best)
            assert bound <= best * (1 + 1e-15)
            assert lower_bound(costs, 1.2 * best) <= best * (1 + 1e-15)
            left += bound < best * (1 - 1e-9)
    assert left <= 1


def test_seconds_prove_more():
    costs = Costs.of_points(np.random.default_rng(5003).random((40, 2)))
    length = search(costs, iterations=2000).length
    assert certify(costs, length, seconds=0.5).lower_bound >= certify(costs, length).lower_bound


def test_a_longer_tour_is_never_proved():
    costs = Costs.of_points(np.random.default_rng(4).random((20, 2)))
    best = search(costs, iterations=1000).length
    assert not certify(costs, best * 1.0001).proved_optimal


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_few_places(n):
    costs = Costs.of_points(np.random.default_rng(0).random((n, 2)))
    for closed in (True, False):
        sure = certify(costs, search(costs, closed=closed).length, closed=closed)
        assert sure.proved_optimal
        assert sure.gap == pytest.approx(0.0, abs=1e-9)


def test_all_places_in_one():
    costs = Costs.of_points(np.ones((9, 2)))
    assert certify(costs, 0.0).gap == 0.0


@pytest.mark.skipif(not TSPLIB.is_dir(), reason="no TSPLIB files under the data root")
def test_tsplib(record_property):
    with (TSPLIB / "optimal_lengths.csv").open() as file:
        known = {row["name"]: float(row["optimal_length"]) for row in csv.DictReader(file)}
    gaps = []
    for name, best in known.items():
        problem = read_tsp(TSPLIB / f"{name}.tsp")
        costs = Costs.of_problem(problem)
        found = search(costs)
        sure = certify(costs, found.length)
        assert found.length == problem.length(found.tour)
        assert sure.lower_bound <= best <= found.length
        assert sure.proved_optimal <= (found.length == best)
        gaps.append(found.length / best - 1)
    record_property("told", f"search: {np.mean(gaps):.2%} above the optimum on {len(gaps)} TSPLIB files")
    assert np.mean(gaps) <= 0.007


@pytest.mark.parametrize("kind", KINDS)
def test_trees_of_a_list_of_edges(kind):
    for seed in range(6):
        n = 4 + 9 * seed
        costs = Costs.of_points(generate(kind, n, seed))
        price = np.random.default_rng(seed).normal(scale=0.1, size=n)
        least = _one_tree(n, price, costs.net)[0]
        every = np.stack(np.triu_indices(n, 1), axis=1)
        every = with_edges(every, every, n)
        assert len(every) == (n - 1) * (n - 2) // 2
        for ends, all_there in ((every, True), (near_edges(costs), False)):
            total, size, degree = near_tree(n, price, costs.net, ends, costs.edges(*ends.T))
            assert total >= least - 1e-12 * size
            assert not all_there or total == pytest.approx(least, rel=1e-12)
            assert degree.sum() == 2 * n
            assert degree[0] == 2
            assert degree.min() >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_prices_from_near_edges_bound_too(kind, monkeypatch):
    monkeypatch.setattr("remem.data.geometry.bound.NEAR", 3)
    monkeypatch.setattr("remem.data.geometry.near_tree.NEIGHBOURS", 2)  # lists that lack what trees need
    for seed in range(12):
        n = 4 + seed % 7
        for costs in (
            Costs.of_points(generate(kind, n, seed)),
            Costs.of_points(np.rint(100 * generate(kind, n, seed)), "EUC_2D"),
        ):
            best = optimum(costs, n)
            for aim in (best, 1.3 * best):
                assert lower_bound(costs, aim) <= best * (1 + 1e-15)
            for options in ({}, {"start": 0}, {"start": 0, "end": n - 1}):
                length = search(costs, closed=False, iterations=50, **options).length
                assert lower_bound(costs, length, closed=False, **options) <= length * (1 + 1e-12)


def test_near_edges_lose_little(monkeypatch):
    costs = Costs.of_points(np.random.default_rng(7).random((200, 2)))
    length = search(costs).length
    near = certify(costs, length).gap
    monkeypatch.setattr("remem.data.geometry.bound.NEAR", 200)
    every = certify(costs, length).gap
    assert every - 1e-12 <= near <= every + 2e-4  # the two may sum the same tree in another order


def test_thousands_of_places_are_bounded_in_time():
    costs = Costs.of_points(np.random.default_rng(8).random((5000, 2)))
    length = search(costs, iterations=5000).length
    began = time.process_time()
    assert certify(costs, length, steps=100).gap < 0.04
    assert time.process_time() - began < 5
    assert 0 < certify(costs, length, seconds=0.05).lower_bound < length

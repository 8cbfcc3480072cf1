"""Observed routes: the truth is the best tour under the hidden cost, and the hidden cost is what its rule says."""

import itertools

import numpy as np
import pytest

from remem.data.geometry.costs import Costs
from remem.data.geometry.directed import directed_length
from remem.data.geometry.exact import exact_tour
from remem.data.geometry.routes import CITIES, DEPOT_KM, edge_agreement, hidden_cost, observed_routes
from remem.data.geometry.search import search
from remem.data.geometry.timed import timed_length


def cost_of(costs, tour):
    return timed_length(costs, tour) if costs.ndim == 3 else directed_length(costs, tour)


@pytest.mark.parametrize("city", CITIES)
def test_no_other_order_is_cheaper(city):
    for route in observed_routes(city, 4, (5, 7), 0):
        costs = hidden_cost(city)(route.xy)
        n = len(route.tour)
        best = min(cost_of(costs, np.array([0, *rest])) for rest in itertools.permutations(range(1, n)))
        assert route.tour[0] == 0
        assert tuple(route.xy[0]) == DEPOT_KM
        assert cost_of(costs, route.tour) == pytest.approx(best)


@pytest.mark.parametrize("city", [city for city in CITIES if city != "rush_hour"])
def test_exact_solutions_of_more_places(city):
    for route in observed_routes(city, 3, 12, 1):
        costs = hidden_cost(city)(route.xy)
        assert directed_length(costs, route.tour) == pytest.approx(exact_tour(costs)[1])


def test_a_route_depends_on_its_seed_and_number_alone():
    many, few = observed_routes("zones", 5, (6, 9), 4), observed_routes("zones", 2, (6, 9), 4)
    for a, b in zip(many, few, strict=False):
        assert np.array_equal(a.xy, b.xy)
        assert np.array_equal(a.tour, b.tour)
    assert not np.array_equal(many[1].xy, observed_routes("zones", 2, (6, 9), 5)[1].xy)


def test_the_river_is_crossed_where_the_bridges_are():
    south, island, north = (5.0, 1.0), (5.0, 5.0), (5.0, 9.0)
    d = hidden_cost("river")(np.array([south, island, north, (1.0, 2.0)]))
    west, east = [(1.0, 2.7), (1.0, 6.2)], [(9.0, 4.3), (9.0, 7.8)]

    def way(*stops):
        return sum(np.hypot(*np.subtract(a, b)) for a, b in itertools.pairwise(stops))

    assert d[0, 1] == pytest.approx(way(south, west[0], island))
    assert d[1, 0] == pytest.approx(way(island, east[0], south))
    assert d[1, 2] == pytest.approx(way(island, west[1], north))
    assert d[0, 2] == pytest.approx(way(south, *west, north))
    assert d[2, 0] == pytest.approx(way(north, *east[::-1], south))
    assert d[0, 3] == d[3, 0] == pytest.approx(way(south, (1.0, 2.0)))


def test_avenues_by_small_steps():
    rng = np.random.default_rng(3)
    xy = rng.random((12, 2)) * 10
    xy[1, 0] = xy[0, 0]  # straight up one avenue
    d = hidden_cost("one_way")(xy)
    steps = (np.arange(20_000) + 0.5) / 20_000
    for i, j in itertools.permutations(range(12), 2):
        up = xy[j, 1] - xy[i, 1]
        avenue = np.floor(xy[i, 0] + steps * (xy[j, 0] - xy[i, 0])).astype(int)
        leads_north = avenue % 2 == 0
        against = np.mean((up > 0) != leads_north)
        assert d[i, j] == pytest.approx(np.hypot(*(xy[j] - xy[i])) + 2 * abs(up) * against, abs=5e-3)


def test_districts_are_served_whole_and_in_order():
    order = [[0, 3, 1], [5, 2, 4]]
    for route in observed_routes("zones", 5, 30, 2):
        zone = [order[int(y > 5)][min(int(x * 3 / 10), 2)] for x, y in route.xy[route.tour]]
        changes = [(b - a) % 6 for a, b in zip(zone, zone[1:] + zone[:1], strict=True) if a != b]
        assert sum(changes) == 6


def test_the_rush_ends_after_two_fifths():
    xy = np.array([[5.0, 5.0], [1.0, 1.0], [9.0, 9.0]])
    costs = hidden_cost("rush_hour")(xy)
    away = np.hypot(4, 4)
    assert costs[:, 0, 1] == pytest.approx(away * np.array([3, 3, 1, 1, 1]))
    assert costs[:, 1, 2] == pytest.approx(np.full(5, np.hypot(8, 8)))


@pytest.mark.parametrize("city", ["river", "one_way", "zones"])
def test_the_shortest_tour_cannot_know(city):
    routes = observed_routes(city, 30, (20, 40), 5)
    shares = [edge_agreement(search(Costs.of_points(route.xy)).tour, route.tour) for route in routes]
    assert np.mean(shares) <= 0.8


def test_agreement():
    truth = [0, 1, 2, 3, 4]
    assert edge_agreement([2, 3, 4, 0, 1], truth, directed=True) == 1
    assert edge_agreement([4, 3, 2, 1, 0], truth) == 1
    assert edge_agreement([4, 3, 2, 1, 0], truth, directed=True) == 0
    assert edge_agreement([0, 2, 1, 3, 4], truth) == pytest.approx(3 / 5)
    assert edge_agreement([0, 2, 1, 3, 4], truth, directed=True) == pytest.approx(2 / 5)
    assert edge_agreement([4, 0, 1, 2, 3], truth, closed=False) == pytest.approx(3 / 4)
    assert edge_agreement([0], [0]) == 1
    with pytest.raises(ValueError, match="wanted the same nodes"):
        edge_agreement([0, 1], truth)


def test_refused():
    with pytest.raises(ValueError, match="no city 'paris'"):
        observed_routes("paris", 1, 5, 0)
    with pytest.raises(ValueError, match="wanted 4 or more"):
        observed_routes("river", 1, (3, 5), 0)

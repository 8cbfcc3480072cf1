"""What observed routes cost their drivers: learned from few of them, exported; wrong routes are refused."""

import numpy as np
import pytest
import torch

from remem.apps.geometry.route_fitting import fit_routes, shortest_tour
from remem.apps.geometry.route_module import RouteModule
from remem.core.route_cost import RouteCost
from remem.data.geometry.directed import directed_length
from remem.data.geometry.routes import edge_agreement, observed_routes
from remem.serving.geometry.routes import RoutePredictor

PLACES = (8, 14)


@pytest.fixture(scope="module")
def fitted():
    torch.set_num_threads(1)
    routes = observed_routes("zones", 240, PLACES, 0, iterations=100)
    # far from the origin and in another unit: a fit finds its own
    return fit_routes(
        [1000 * route.xy + 50_000 for route in routes],
        [np.roll(route.tour, k) for k, route in enumerate(routes)],  # a round trip may be told from anywhere
        max_epochs=25,
        seed=0,
    )


@pytest.fixture(scope="module")
def held_back():
    return observed_routes("zones", 60, PLACES, 1, iterations=100)


def agreement(tours, routes, **options):
    return np.mean([edge_agreement(a, b.tour, **options) for a, b in zip(tours, routes, strict=True)])


def test_knows_more_than_the_map(fitted, held_back):
    module, record = fitted
    ours = agreement([module.predict(1000 * route.xy + 50_000) for route in held_back], held_back)
    shortest = agreement([shortest_tour(route.xy) for route in held_back], held_back)
    assert ours > shortest + 0.1, (ours, shortest)
    assert record["training"]["routes"] == 192
    assert record["training"]["valid_agreement"] > record["baselines"]["shortest_tour_agreement"]


def test_the_bundle_gives_torchs_costs_and_routes(fitted, held_back, tmp_path):
    module, record = fitted
    module.write_bundle(tmp_path / "bundle")
    predictor = RoutePredictor(tmp_path / "bundle")
    assert predictor.bundle.manifest["training"] == record["training"]
    assert sum(file.stat().st_size for file in (tmp_path / "bundle").iterdir()) < 2.5e6
    places = [1000 * route.xy + 50_000 for route in held_back[:10]]
    for xy in places:
        wanted = module.costs(xy)
        np.fill_diagonal(wanted, 0.0)
        assert np.allclose(predictor.cost(xy), wanted, rtol=1e-5, atol=1e-4)
    tours, costs = predictor.predict(places)
    for xy, tour, cost in zip(places, tours, costs, strict=True):
        assert np.array_equal(tour, module.predict(xy))
        assert cost == pytest.approx(directed_length(predictor.cost(xy), tour))
    (path,), _ = predictor.predict(places[:1], closed=False, start=3, end=1)
    assert (path[0], path[-1]) == (3, 1)
    assert np.array_equal(np.sort(path), np.arange(len(places[0])))
    (alone,), (nothing,) = predictor.predict([places[0][:1]])
    assert (alone.tolist(), nothing) == ([0], 0.0)
    with pytest.raises(ValueError, match="start is 99"):
        predictor.predict(places, start=99)
    with pytest.raises(ValueError, match="RoutePredictor: nan"):
        predictor.cost([[0.0, np.nan]])


def test_before_training_the_cost_is_the_distance():
    cost = RouteCost()
    xy = torch.rand(2, 6, 2) * 50
    cost.fit_units(xy.flatten(0, 1), 7.0)
    away = torch.cdist(xy, xy)
    apart = away > 0
    assert torch.allclose(cost(xy)[apart], 4 / 7 * away[apart], rtol=1e-4)
    ways = torch.tensor([[1.0, 0.0]]).expand(6, 2)
    assert torch.allclose(cost.slowness(xy[0], ways), torch.ones(6))


def test_the_loss_of_the_best_route_falls_below_that_of_others():
    torch.manual_seed(0)
    module, rng = RouteModule(), np.random.default_rng(0)
    xy = rng.random((1, 9, 2))
    module.cost.fit_units(torch.from_numpy(xy[0]).float(), 0.2)
    shortest = shortest_tour(xy[0])
    x = torch.from_numpy(xy).float()

    def loss(tour):
        return module.loss({"x": x, "label": torch.from_numpy(tour[None].astype(np.int64))}).item()

    assert loss(shortest) < loss(rng.permutation(9))
    # padding changes nothing
    padded = torch.nn.functional.pad(x, (0, 0, 0, 3))
    label = torch.from_numpy(np.append(shortest, [-1, -1, -1])[None])
    assert module.loss({"x": padded, "label": label}).item() == pytest.approx(loss(shortest), rel=1e-4)


def test_paths_are_learned_too():
    routes = observed_routes("zones", 24, (5, 7), 2, iterations=50)
    module, record = fit_routes(
        [route.xy for route in routes], [route.tour for route in routes], closed=False, max_epochs=1
    )
    assert record["training"]["closed"] is False
    assert np.array_equal(np.sort(module.predict(routes[0].xy)), np.arange(len(routes[0].tour)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda xy, tours: (xy[:-1], tours), "29 sets of places and 30 tours"),
        (lambda xy, tours: (xy[:5], tours[:5]), "got 5 routes; wanted 20 or more"),
        (
            lambda xy, tours: (xy, [*tours[:7], [0, 1, 1, 2, 3], *tours[8:]]),
            "tours\\[7\\]: node 1 comes 2 times",
        ),
        (lambda xy, tours: (xy, [*tours[:7], [0, 1, 2], *tours[8:]]), "tours\\[7\\]: got shape"),
        (lambda xy, tours: ([*xy[:3], np.full((5, 2), np.nan), *xy[4:]], tours), "coords\\[3\\]: nan"),
    ],
)
def test_refused(change, told):
    coords, tours = [np.random.default_rng(0).random((5, 2))] * 30, [list(range(5))] * 30
    with pytest.raises(ValueError, match=told):
        fit_routes(*change(coords, tours))


@pytest.mark.parametrize("options", [{"valid_share": 0}, {"valid_share": 1.0}, {"max_epochs": 0}])
def test_refused_options(options):
    coords, tours = [np.random.default_rng(0).random((5, 2))] * 30, [list(range(5))] * 30
    with pytest.raises(ValueError, match=next(iter(options))):
        fit_routes(coords, tours, **options)

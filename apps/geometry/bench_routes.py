"""`remem bench tsp-routes`: routes whose drivers know a cost that the map does not show, and who finds it out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ...data.geometry.construct import nearest_neighbour
from ...data.geometry.costs import Costs
from ...data.geometry.routes import Route, best_route, edge_agreement, hidden_cost, observed_routes
from .route_fitting import fit_routes, shortest_tour

NUMBERS = {
    "river": (500, 2000, 125),
    "zones": (500, 2000, 125),
    "one_way": (500, 2000),
    "two_bridges": (500,),
    "rush_hour": (500,),
}
"""Training routes of each city."""
PLACES = (20, 40)
HELD_BACK = 200
TRAIN, TEST = 1, 3
"""Seeds of routes; 2 was for choosing how to learn."""
CELLS = 5
"""A side of the squares that the Markov baseline counts passages between."""

Solver = Callable[[np.ndarray], np.ndarray]


def tsp_routes(*, seeds: int, root: str | None, quick: bool) -> list[dict[str, object]]:
    """Rows of city, solver and training routes: mean share of the edges of held-back routes, in % and either
    direction; the same in the driven direction (of solvers without one, the better direction of every route); CPU."""
    torch.set_num_threads(1)
    cities = ("river", "zones") if quick else tuple(NUMBERS)
    return [row for city in cities for row in city_rows(city, seeds, quick)]


def city_rows(city: str, seeds: int, quick: bool) -> list[dict[str, object]]:
    """Rows of one city."""
    rows: list[dict[str, object]] = []
    numbers = (60,) if quick else NUMBERS[city]
    kicks = 5 if city == "rush_hour" else 60  # a search with times of day takes a hundred times as long
    test = _routes(city, 20 if quick else HELD_BACK, TEST, kicks)
    train = _routes(city, max(numbers), TRAIN, kicks)
    rows.append(
        _row(
            city,
            "nearest neighbour",
            0,
            None,
            test,
            lambda xy: nearest_neighbour(Costs.of_points(xy)),
            directed=False,
        )
    )
    rows.append(_row(city, "shortest tour", 0, None, test, shortest_tour, directed=False))
    hidden = hidden_cost(city)
    rows.append(_row(city, "search, true cost", 0, None, test, lambda xy: best_route(hidden(xy), seed=1)))
    for number in numbers:
        part = train[:number]
        since = time.process_time()
        solver = _markov(_passages(part))
        rows.append(_row(city, "passages between squares", number, time.process_time() - since, test, solver))
        for seed in range(seeds):
            rows.append(_fitted(city, part, test, seed, quick))
    return rows


def _fitted(
    city: str, train: Sequence[Route], test: Sequence[Route], seed: int, quick: bool
) -> dict[str, object]:
    since = time.process_time()
    module, _ = fit_routes(
        [route.xy for route in train],
        [route.tour for route in train],
        seed=seed,
        max_epochs=2 if quick else None,
    )
    seconds = time.process_time() - since
    return _row(city, "remem fit", len(train), seconds, test, module.predict, seed=seed)


def _routes(city: str, number: int, seed: int, kicks: int) -> list[Route]:
    return observed_routes(city, number, PLACES, seed, iterations=kicks * PLACES[1] * 3 // 4)


def _row(
    city: str,
    name: str,
    number: int,
    fit_seconds: float | None,
    test: Sequence[Route],
    solver: Solver,
    *,
    directed: bool = True,
    seed: int = 0,
) -> dict[str, object]:
    either, driven = [], []
    solver(test[0].xy)  # compiles
    since = time.process_time()
    found = [solver(route.xy) for route in test]
    spent = time.process_time() - since
    for tour, route in zip(found, test, strict=True):
        either.append(edge_agreement(tour, route.tour))
        ways = [tour] if directed else [tour, tour[::-1]]
        driven.append(max(edge_agreement(way, route.tour, directed=True) for way in ways))
    row: dict[str, object] = {
        "city": city,
        "solver": name,
        "routes": number or None,
        "seed": seed,
        "agreement_pct": round(100 * float(np.mean(either)), 1),
        "directed_pct": round(100 * float(np.mean(driven)), 1),
        "same_route_pct": round(100 * float(np.mean(np.array(either) == 1)), 1),
        "fit_cpu_s": None if fit_seconds is None else round(fit_seconds, 1),
        "cpu_ms": round(1e3 * spent / len(test), 2),
    }
    print(row, file=sys.stderr, flush=True)
    return row


def _square(xy: np.ndarray) -> np.ndarray:
    """(n,) the square of a place in a city of 10 km."""
    column, row = np.clip((xy * CELLS / 10.0).astype(int), 0, CELLS - 1).T
    return row * CELLS + column


def _passages(routes: Sequence[Route]) -> np.ndarray:
    """Log chances of passing from one square to the next (as the drivers did, with one passage added to each)."""
    counts = np.ones((CELLS**2, CELLS**2))
    for route in routes:
        square = _square(route.xy)[route.tour]
        np.add.at(counts, (square, np.roll(square, -1)), 1)
    return np.log(counts / counts.sum(1, keepdims=True))


def _markov(log_p: np.ndarray) -> Solver:
    """The tour of the least distance, with a kilometre for each unit that a passage is less likely."""

    def solve(xy: np.ndarray) -> np.ndarray:
        square = _square(xy)
        away = xy[:, None] - xy[None]
        return best_route(np.hypot(away[..., 0], away[..., 1]) - log_p[np.ix_(square, square)])

    return solve

"""Observed routes of one made-up city, driven by somebody who knows a cost that the map does not show.

Every kind of city has its own hidden rule, in the absolute places of a square of `CITY_KM` a side; places are drawn
anew for every route, but for the depot, where all begin. A route is the best closed tour under the hidden cost that a
long search finds (tests prove it best where exact solutions are possible). What a fit on routes should learn, and how
far it got, is therefore known.

Kinds:
    river       two arms of a river and an island between them; each arm has a bridge north in the west of the town
                and a bridge south in the east.
    two_bridges one arm, its bridges for both directions.
    one_way     avenues a kilometre wide, alternately one-way north and south: whoever goes against the traffic makes
                a detour of twice as far.
    zones       six districts served one after the other in a fixed order, each completely.
    rush_hour   whatever touches the centre costs three times as much in the first two fifths of a route.

Names: T times of day (slots) of a route, equal shares of its n edges in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .directed import directed_search
from .timed import timed_search

CITY_KM = 10.0
DEPOT_KM = (5.0, 5.0)
LONG = 60
"""Kicks a node in the search for the route, six times the default."""

Hidden = Callable[[np.ndarray], np.ndarray]
"""Places (n, 2) in km -> costs (n, n), or (T, n, n) where they change along the route."""


@dataclass(frozen=True, eq=False)
class Route:
    """A route as it was driven.

    xy: (n, 2) places in km, the depot first. tour: (n,) their order, from the depot; it ends there too.
    """

    xy: np.ndarray
    tour: np.ndarray


def observed_routes(
    kind: str, number: int, n: int | tuple[int, int], seed: int, *, iterations: int | None = None
) -> list[Route]:
    """Routes of a city of one of `CITIES`; the same for a seed, whatever their number.

    Args:
        n: places of a route, the depot included: one number, or the least and the most.
        iterations: kicks of the search; None: `LONG` a node.

    Raises:
        ValueError: unknown kind; fewer than 4 places.
    """
    hidden = hidden_cost(kind)
    least, most = (n, n) if isinstance(n, int) else n
    if not 4 <= least <= most:
        raise ValueError(f"observed routes: n is {n}; wanted 4 or more, or (least, most)")
    routes = []
    for index in range(number):
        rng = np.random.default_rng((seed, index))
        places = int(rng.integers(least, most + 1))
        xy = rng.random((places, 2)) * CITY_KM
        xy[0] = DEPOT_KM
        kicks = LONG * places if iterations is None else iterations
        routes.append(Route(xy, best_route(hidden(xy), iterations=kicks)))
    return routes


def best_route(costs: np.ndarray, *, iterations: int | None = None, seed: int = 0) -> np.ndarray:
    """(n,) a short closed tour from node 0 under costs (n, n), or (T, n, n) that change along it."""
    if costs.ndim == 3 and len(costs) > 1:
        return timed_search(costs, iterations=iterations, seed=seed)[0]
    return directed_search(costs.reshape(costs.shape[-2:]), iterations=iterations, seed=seed)[0]


def hidden_cost(kind: str) -> Hidden:
    """The rule of a city.

    Raises:
        ValueError: unknown kind.
    """
    if kind not in _HIDDEN:
        raise ValueError(f"observed routes: no city {kind!r}; wanted one of {', '.join(CITIES)}")
    return _HIDDEN[kind]


def edge_agreement(
    tour: Sequence[int] | np.ndarray,
    truth: Sequence[int] | np.ndarray,
    *,
    directed: bool = False,
    closed: bool = True,
) -> float:
    """Share of the edges of `truth` that `tour` has too, in the same direction where that is asked for.

    Raises:
        ValueError: tours of different lengths.
    """
    a, b = (_edges(np.asarray(one, np.int64), directed, closed) for one in (tour, truth))
    if len(tour) != len(truth):
        raise ValueError(
            f"edge agreement: tours of {len(tour)} and {len(truth)} nodes; wanted the same nodes"
        )
    return len(a & b) / len(b) if b else 1.0


def _edges(tour: np.ndarray, directed: bool, closed: bool) -> set[tuple[int, int]]:
    after = np.roll(tour, -1)
    pairs = np.stack([tour, after], 1)[: None if closed else -1]
    if not directed:
        pairs = np.sort(pairs, axis=1)
    return {(int(i), int(j)) for i, j in pairs if i != j}


def straight(xy: np.ndarray) -> np.ndarray:
    """(n, n) distances in the plane."""
    away = xy[:, None] - xy[None]
    return np.hypot(away[..., 0], away[..., 1])


_WEST, _EAST = 1.0, 9.0
_ARMS = (2.5, 6.0)


def _banks(xy: np.ndarray, arm: float) -> tuple[np.ndarray, np.ndarray]:
    """Who lives north of an arm of the river, (n,), and kilometres to its western and its eastern bridge (n, 2)."""
    bridges = np.array([[x, arm + 0.2 * x] for x in (_WEST, _EAST)])
    return xy[:, 1] > arm + 0.2 * xy[:, 0], np.hypot(*(xy[:, None] - bridges[None]).transpose(2, 0, 1))


def _river(xy: np.ndarray) -> np.ndarray:
    """From bank to bank over the bridge that leads there: north in the west, south in the east; the island between
    the two arms is crossed from bridge to bridge."""
    (north_1, to_1), (north_2, to_2) = (_banks(xy, arm) for arm in _ARMS)
    region = north_1.astype(int) + north_2  # 0 south, 1 island, 2 north
    island_km = np.hypot(0, _ARMS[1] - _ARMS[0])
    cost = straight(xy)
    for start in range(3):
        for end in range(3):
            if start == end:
                continue
            bridge = 0 if end > start else 1
            near, far = (to_1, to_2) if end > start else (to_2, to_1)
            if start + end == 1:
                way = to_1[:, None, bridge] + to_1[None, :, bridge]
            elif start + end == 3:
                way = to_2[:, None, bridge] + to_2[None, :, bridge]
            else:
                way = near[:, None, bridge] + island_km + far[None, :, bridge]
            cost = np.where((region[:, None] == start) & (region[None] == end), way, cost)
    return cost


def _two_bridges(xy: np.ndarray) -> np.ndarray:
    north, to_bridge = _banks(xy, 4.0)
    over = (to_bridge[:, None] + to_bridge[None]).min(-1)
    return np.where(north[:, None] == north[None], straight(xy), over)


def _one_way(xy: np.ndarray) -> np.ndarray:
    """Kilometres north in avenues that lead south count three times, and the other way round, on the straight line."""
    avenue = np.arange(int(CITY_KM))
    low, high = (part(xy[:, None, 0], xy[None, :, 0])[..., None] for part in (np.minimum, np.maximum))
    shared = np.clip(np.minimum(high, avenue + 1) - np.maximum(low, avenue), 0, None)
    across = high - low
    inside = (low >= avenue) & (low < avenue + 1)
    share = np.where(
        across > 0, shared / np.where(across > 0, across, 1.0), inside
    )  # of the way in each avenue
    up = xy[None, :, 1] - xy[:, None, 1]
    against = (share * ((up > 0)[..., None] != (avenue % 2 == 0))).sum(-1)
    return straight(xy) + 2.0 * against * np.abs(up)


def _zones(xy: np.ndarray) -> np.ndarray:
    """Going k districts on in the order costs 20 km for each: every round trip goes on by six at least."""
    order = np.array([[0, 3, 1], [5, 2, 4]])  # districts of the south and of the north, from the west
    column = np.clip((xy[:, 0] * 3 / CITY_KM).astype(int), 0, 2)
    zone = order[(xy[:, 1] > CITY_KM / 2).astype(int), column]
    return straight(xy) + 20.0 * ((zone[None] - zone[:, None]) % 6)


def _rush_hour(xy: np.ndarray) -> np.ndarray:
    centre = np.hypot(*(xy - CITY_KM / 2).T) < 3.0
    touched = centre[:, None] | centre[None]
    d = straight(xy)
    return np.stack([d * (1.0 + 2.0 * touched)] * 2 + [d] * 3)


_HIDDEN: dict[str, Hidden] = {
    "river": _river,
    "two_bridges": _two_bridges,
    "one_way": _one_way,
    "zones": _zones,
    "rush_hour": _rush_hour,
}
CITIES = tuple(_HIDDEN)

"""Tours to start from: nearest neighbour, farthest insertion, a space-filling curve."""

from __future__ import annotations

import numpy as np

from .compiled import compiled
from .costs import Costs
from .moves import cost

CURVE = 20_000
"""Nodes from which a search starts on the curve: nearest neighbour takes n^2 steps."""


def nearest_neighbour(costs: Costs, first: int = 0) -> np.ndarray:
    """(m,) tour that always goes to the nearest node left; the lower index where two are."""
    return _nearest(len(costs), first, costs.net)


def farthest_insertion(costs: Costs, first: int = 0) -> np.ndarray:
    """(m,) tour that grows by the node farthest from it, put in where that costs least."""
    return _farthest(len(costs), first, costs.net)


def hilbert(xy: np.ndarray, order: int = 16) -> np.ndarray:
    """(n,) tour of points (n, 2) along Hilbert's curve of 2^order cells a side: a third too long, in no time."""
    span = float(np.ptp(xy, axis=0).max(initial=0.0)) or 1.0
    cells = ((xy - xy.min(axis=0)) / span * (2**order - 1)).astype(np.int64)
    x, y = cells.T.copy()
    along = np.zeros(len(xy), np.int64)
    for bit in range(order - 1, -1, -1):
        side = 1 << bit
        right, up = (x & side) > 0, (y & side) > 0
        along += side * side * ((3 * right) ^ up)
        turned = ~up & right  # these quarters are run through mirrored, then all lower ones transposed
        x[turned], y[turned] = side - 1 - (x[turned] & (side - 1)), side - 1 - (y[turned] & (side - 1))
        swapped = ~up
        x[swapped], y[swapped] = y[swapped], x[swapped]
    return np.argsort(along, kind="stable")


def start_tour(costs: Costs, first: int = 0) -> np.ndarray:
    """(n,) tour from node `first`: nearest neighbour, or the curve where there are too many points for it."""
    if len(costs) <= CURVE or not len(costs.xy):
        return nearest_neighbour(costs, first)
    tour = hilbert(costs.xy)
    return np.roll(tour, -int(np.flatnonzero(tour == first)[0]))


@compiled
def _nearest(m, first, net):  # type: ignore[no-untyped-def]
    left = np.arange(m)
    left[first], left[m - 1] = left[m - 1], left[first]
    tour = np.empty(m, np.int64)
    tour[0] = first
    for filled in range(1, m):
        at = tour[filled - 1]
        best, place = np.inf, 0
        for k in range(m - filled):
            c = cost(at, left[k], net)
            if c < best or (c == best and left[k] < left[place]):
                best, place = c, k
        tour[filled] = left[place]
        left[place] = left[m - filled - 1]
    return tour


@compiled
def _farthest(m, first, net):  # type: ignore[no-untyped-def]
    after = np.full(m, -1)
    after[first] = first
    away = np.array([cost(first, i, net) for i in range(m)])
    for _ in range(m - 1):
        new, most = -1, -np.inf
        for i in range(m):
            if after[i] < 0 and away[i] > most:
                new, most = i, away[i]
        place, least = first, np.inf
        i = first
        while True:
            extra = cost(i, new, net) + cost(new, after[i], net) - cost(i, after[i], net)
            if extra < least:
                place, least = i, extra
            i = after[i]
            if i == first:
                break
        after[new] = after[place]
        after[place] = new
        for k in range(m):
            if after[k] < 0:
                away[k] = min(away[k], cost(new, k, net))
    tour = np.empty(m, np.int64)
    tour[0] = first
    for k in range(1, m):
        tour[k] = after[tour[k - 1]]
    return tour

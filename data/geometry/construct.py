"""Tours to start from: nearest neighbour, the cheapest edges first, farthest insertion, a space-filling curve."""

from __future__ import annotations

import numpy as np

from .compiled import compiled
from .costs import Costs
from .moves import cost

GREEDY = 150
"""Nodes from which a search starts with the cheapest edges: kicks close by do not get clusters out of a bad order."""
CURVE = 200_000
"""Nodes from which it starts on the curve: to join the pieces of the former takes a few n^2 / 1000 steps."""


def nearest_neighbour(costs: Costs, first: int = 0) -> np.ndarray:
    """(m,) tour that always goes to the nearest node left; the lower index where two are."""
    return _nearest(len(costs), first, costs.net)


def farthest_insertion(costs: Costs, first: int = 0) -> np.ndarray:
    """(m,) tour that grows by the node farthest from it, put in where that costs least."""
    return _farthest(len(costs), first, costs.net)


def greedy(costs: Costs, near: np.ndarray | None = None) -> np.ndarray:
    """(m,) tour of the cheapest edges between near nodes that fit, whose pieces are then joined, nearest end next.

    Args:
        near: (m, K) neighbours, where they are known already.
    """
    m = len(costs)
    if m < 3:
        return np.arange(m)
    near = costs.neighbours(10)[0] if near is None else near
    i, j = np.repeat(np.arange(m), near.shape[1]), near.ravel()
    keys = np.unique(np.minimum(i, j) * m + np.maximum(i, j))
    i, j = keys // m, keys % m
    order = np.argsort(costs.edges(i, j), kind="stable")
    return _greedy(m, np.ascontiguousarray(np.stack([i, j], axis=1)[order]), costs.net)


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


def start_tour(costs: Costs, first: int = 0, near: np.ndarray | None = None) -> np.ndarray:
    """(n,) tour from node `first`: nearest neighbour, from `GREEDY` nodes on the cheapest edges, and the curve where
    there are too many points for that. near: as `greedy` takes it."""
    n = len(costs)
    if n < GREEDY:
        return nearest_neighbour(costs, first)
    tour = hilbert(costs.xy) if n > CURVE and len(costs.xy) else greedy(costs, near)
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
def _greedy(m, edges, net):  # type: ignore[no-untyped-def]
    """edges: (E, 2), the cheapest first."""
    link, degree, part = np.full((m, 2), -1), np.zeros(m, np.int64), np.arange(m)
    for e in range(len(edges)):
        a, b = edges[e, 0], edges[e, 1]
        if degree[a] == 2 or degree[b] == 2:
            continue
        x, y = a, b
        while part[x] != x:
            part[x] = part[part[x]]
            x = part[x]
        while part[y] != y:
            part[y] = part[part[y]]
            y = part[y]
        if x != y:
            part[x] = y
            link[a, degree[a]], link[b, degree[b]] = b, a
            degree[a] += 1
            degree[b] += 1
    return _joined(m, link, np.flatnonzero(degree < 2), net)


@compiled
def _joined(m, link, ends, net):  # type: ignore[no-untyped-def]
    """(m,) tour through paths given by the links (m, 2) of their nodes, -1 for none, and their ends."""
    tour, seen = np.empty(m, np.int64), np.zeros(m, np.bool_)
    at, filled, number = ends[0], 0, len(ends)
    while True:
        before = -1
        while at >= 0:
            tour[filled] = at
            seen[at] = True
            filled += 1
            after = link[at, 0] if link[at, 0] != before else link[at, 1]
            before, at = at, after
        if filled == m:
            return tour
        best, kept = np.inf, 0
        for k in range(number):
            node = ends[k]
            if seen[node]:
                continue
            ends[kept] = node
            kept += 1
            c = cost(before, node, net)
            if c < best or at < 0:
                best, at = c, node
        number = kept


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

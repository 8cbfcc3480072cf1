"""Minimum 1-trees over a list of edges: far cheaper than over all, and never below what all edges would give.

What it says is therefore no bound. It finds prices; the bound at those prices is that of the tree over all edges.

Source: O. Boruvka 1926.
Shape legend: m nodes, E edges.
"""

from __future__ import annotations

import numpy as np

from .compiled import compiled
from .costs import Costs
from .moves import cost

NEIGHBOURS = 10


def near_edges(costs: Costs) -> np.ndarray:
    """(E, 2) int64 edges between near nodes, as `with_edges` orders them. They join all nodes."""
    m = len(costs)
    near, _ = costs.neighbours(NEIGHBOURS)
    near_ends = np.stack([np.repeat(np.arange(m), near.shape[1]), near.ravel()], axis=1)
    chain = np.stack([np.arange(1, m - 1), np.arange(2, m)], axis=1)  # no node is left alone
    return with_edges(chain, near_ends, m)


def with_edges(ends: np.ndarray, more: np.ndarray, m: int) -> np.ndarray:
    """(E, 2) all of these edges once, lower node first, in order, without those at node 0."""
    both = np.sort(np.concatenate([ends, more]), axis=1)
    keys = np.unique(both[:, 0] * m + both[:, 1])
    both = np.stack([keys // m, keys % m], axis=1)
    return np.ascontiguousarray(both[both[:, 0] > 0])


@compiled
def _look(part, ends, weight, left, number, cheapest):  # type: ignore[no-untyped-def]
    """Write the cheapest edge out of each part, -1 for none, and keep the edges between parts in front: their number.

    Of equal ones the first in the list is taken, so that no ring closes."""
    cheapest[:] = -1
    kept = 0
    for k in range(number):
        e = left[k]
        a, b = part[ends[e, 0]], part[ends[e, 1]]
        if a == b:
            continue
        left[kept] = e
        kept += 1
        if cheapest[a] < 0 or weight[e] < weight[cheapest[a]]:
            cheapest[a] = e
        if cheapest[b] < 0 or weight[e] < weight[cheapest[b]]:
            cheapest[b] = e
    return kept


@compiled
def near_tree(m, price, net, ends, costs):  # type: ignore[no-untyped-def]
    """Minimum 1-tree, node 0 apart, whose other edges are among `ends` (E, 2) of costs (E,): its cost at these prices,
    the sum of |costs|, degrees (m,)."""
    number = len(ends)
    weight = np.empty(number)
    left = np.arange(number)
    for e in range(number):
        weight[e] = costs[e] + price[ends[e, 0]] + price[ends[e, 1]]
    part, cheapest = np.arange(m), np.empty(m, np.int64)
    degree = np.zeros(m, np.float64)
    total, size = 0.0, 0.0
    while number > 0:
        number = _look(part, ends, weight, left, number, cheapest)
        root = np.arange(m)
        for r in range(m):
            e = cheapest[r]
            if e < 0:
                continue
            a, b = part[ends[e, 0]], part[ends[e, 1]]
            other = b if a == r else a
            if cheapest[other] == e and other < r:  # both chose it, and the lower goes to the higher
                continue
            total += weight[e]
            size += abs(weight[e])
            degree[ends[e, 0]] += 1.0
            degree[ends[e, 1]] += 1.0
            root[r] = other
        for i in range(m):
            top = part[i]
            while root[top] != top:
                root[top] = root[root[top]]
                top = root[top]
            part[i] = top
    one, two, first, second = np.inf, np.inf, 0, 0
    for j in range(1, m):
        c = cost(0, j, net) + price[0] + price[j]
        if c < one:
            one, two, first, second = c, one, j, first
        elif c < two:
            two, second = c, j
    degree[0] = 2.0
    degree[first] += 1.0
    degree[second] += 1.0
    return total + one + two, size + abs(one) + abs(two), degree

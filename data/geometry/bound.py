"""A length that no tour goes below: the minimum 1-tree, raised by subgradient ascent (Held and Karp).

A 1-tree is a spanning tree of all nodes but one, and the two cheapest edges of that one; every tour is one. With a
price p_i at each node an edge costs c_ij + p_i + p_j and every tour 2 sum(p) more, so

    bound(p) = cost of the minimum 1-tree at prices p - 2 sum(p) <= length of every tour,          for any prices.

The tree of a bound is always the minimum over all edges, never over a list of candidates, for which this would not
hold; where there are many nodes such a list finds the prices (`near_tree`). Prices are whole multiples of a power of
two: where costs are whole numbers nothing is rounded and the bound may be rounded up; else what sums can have lost is
taken off. What stays open for a few nodes is divided into cases (`branch`).

Source: Held and Karp 1971, "The traveling-salesman problem and minimum spanning trees: part II".
Shape legend: m nodes, with the open end of a path.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .branch import branch
from .compiled import compiled
from .costs import Costs
from .moves import MATRIX, cost
from .near_tree import near_edges, near_tree, with_edges

STEPS = 300
"""Trees at most."""
NEAR = 150
"""Nodes up to which every tree is one of all edges, n^2 steps each; beyond, prices are looked for among near edges."""
WORK = 3_000_000
"""Nodes to look at in all trees of near edges together, where the time is not limited."""
ALL = 400_000_000
"""Edges to look at in trees of all edges, unless one tree takes more; three trees at most."""
BRANCHED = 30
"""Nodes up to which cases are told apart where the time is not limited, and so many cases at most:"""
CASES = 100
GRID = 2.0**-10
"""Step of prices where costs are whole numbers."""
CLOSED = 1e-9
"""Two lengths that are no whole numbers are one where they differ by less than this share."""


@dataclass(frozen=True)
class Certificate:
    """How far a tour can be from the shortest.

    length: of the tour. lower_bound: of every tour, never above the optimum. gap: length / lower_bound - 1; inf where
    the bound is not positive and the length is. proved_optimal: the bound reaches the length, exactly for whole
    numbers, else to 1e-9 of it.
    """

    length: float
    lower_bound: float
    gap: float
    proved_optimal: bool


def certify(
    costs: Costs,
    length: float,
    *,
    closed: bool = True,
    start: int | None = None,
    end: int | None = None,
    steps: int | None = None,
    seconds: float | None = None,
) -> Certificate:
    """The certificate of a tour, or path, that has this length.

    Args:
        costs, closed, start, end: as for `search`.
        length: of the tour; the ascent aims at it.
        steps: trees at most; None for 300, fewer beyond 10,000 nodes.
        seconds: limit of wall time, looked at after every tree.
    """
    bound = lower_bound(costs, length, closed=closed, start=start, end=end, steps=steps, seconds=seconds)
    near = 0.0 if costs.whole else CLOSED * abs(length)
    proved = bound >= length - near
    bound = min(bound, length)
    behind = length / bound - 1 if bound > 0 else math.inf
    gap = 0.0 if length == bound else behind
    return Certificate(length, bound, gap, proved)


def lower_bound(
    costs: Costs,
    length: float,
    *,
    closed: bool = True,
    start: int | None = None,
    end: int | None = None,
    steps: int | None = None,
    seconds: float | None = None,
) -> float:
    """A length that no tour, or path, goes below; `length` of some tour is what the ascent aims at."""
    deadline = math.inf if seconds is None else time.perf_counter() + seconds
    n = len(costs)
    if n < 2 or (n == 2 and not closed):
        return costs.length(np.arange(n), closed=closed)
    if n == 2 or (n == 3 and closed):
        return costs.length(np.arange(n))
    whole = costs if closed else costs.opened(start, end)
    m = len(whole)
    if steps is None:
        steps = STEPS if seconds is not None else max(30, min(STEPS, WORK // m))
    aim = length / costs.scale - whole.bonus
    ascend = _ascend if m <= NEAR else _ascend_near
    best, price = ascend(whole, aim, steps, deadline)
    close = aim - 1 + GRID if costs.whole else aim - 0.1 * CLOSED * abs(length / costs.scale)
    cases = (CASES if m <= BRANCHED else 0) if seconds is None else 1_000_000
    if best < close and whole.rule == MATRIX and cases:
        best = branch(whole, best, price, close, cases=cases, deadline=deadline, ascend=_ascend, tree=_edges)
    if costs.whole:
        return float(math.ceil(best + whole.bonus))
    return (best + whole.bonus) * costs.scale - 1e-14 * abs(length)


def _ascend_near(costs: Costs, aim: float, steps: int, deadline: float) -> tuple[float, np.ndarray]:
    """As `_ascend`, by trees of near edges, and at most three of all edges, which give the bound."""
    m, price = len(costs), np.zeros(len(costs))
    ends = near_edges(costs)
    best, best_price = -math.inf, price
    for last in range(max(1, min(3, ALL // (m * m))) - 1, -1, -1):
        listed = costs.edges(ends[:, 0], ends[:, 1])
        now = time.perf_counter()
        found, price = _ascend(
            costs,
            aim,
            steps,
            now + 0.8 * (deadline - now),
            price,
            lambda price, ends=ends, listed=listed: near_tree(m, price, costs.net, ends, listed),  # type: ignore[misc]
        )
        bound, _ = _ascend(costs, aim, 1, deadline, price)
        if bound > best:
            best, best_price = bound, price
        if not last or found - bound <= 1e-6 * abs(bound) or time.perf_counter() >= deadline:
            break
        ends = with_edges(ends, np.array(_edges(costs, price)), m)  # what the list lacked
        steps = max(1, steps // 10)
    return best, best_price


def _ascend(
    costs: Costs,
    aim: float,
    steps: int,
    deadline: float,
    price: np.ndarray | None = None,
    tree_at: Callable[[np.ndarray], tuple[float, float, np.ndarray]] | None = None,
) -> tuple[float, np.ndarray]:
    """The best bound of at most `steps` trees, at least one, in units of `costs.net`, and its prices (m,).

    tree_at: prices -> cost of a tree, sum of |costs|, degrees (m,); None for the tree of all edges, the only bound.
    """
    m = len(costs)
    exact = costs.whole and m * costs.largest < 2.0**38  # sums of prices, in steps of the grid, fit 53 bits
    price = np.zeros(m) if price is None else price
    before = np.zeros(m)
    best, best_price, stride, stale = -math.inf, price, 1.0, 0
    for _ in range(max(steps, 1)):
        tree, size, degree = tree_at(price) if tree_at else _one_tree(m, price, costs.net)[:3]
        # each of m sums of m terms loses at most this
        lost = 0.0 if exact else 4e-16 * m * (size + 2 * float(np.abs(price).sum()))
        bound = tree - 2 * math.fsum(price) - lost
        if bound > best:
            best, best_price, stale = bound, price, 0
        else:
            stale += 1
        slope = degree - 2.0
        square = float(slope @ slope)
        if square == 0.0 or best >= aim or time.perf_counter() >= deadline:
            break
        if stale >= max(5, min(20, m // 5)):  # too far: go back to the best prices with half the stride
            stride, stale, price = stride / 2, 0, best_price
        way = 0.7 * slope + 0.3 * before
        before = slope
        raised = price + stride * max(aim - bound, 1e-12 * abs(aim)) / square * way
        price = np.rint(raised / GRID) * GRID if costs.whole else raised
    return best, best_price


def _edges(costs: Costs, price: np.ndarray) -> list[tuple[int, int]]:
    """Edges of the minimum 1-tree, lower node first."""
    m = len(costs)
    *_, nearest, pair = _one_tree(m, price, costs.net)
    tree = [(min(i, j), max(i, j)) for i, j in enumerate(nearest.tolist()) if i and j]
    return [*tree, *((0, j) for j in pair)]


@compiled
def _one_tree(m, price, net):  # type: ignore[no-untyped-def]
    """Minimum 1-tree over all edges, node 0 apart (Prim): its cost, the sum of |costs|, degrees (m,),
    the node (m,) through which each joined the tree, 0 for none, and the two neighbours of node 0."""
    left = np.arange(1, m)
    number = m - 1
    away = np.full(m, np.inf)
    nearest = np.zeros(m, np.int64)
    degree = np.zeros(m, np.float64)
    total, size = 0.0, 0.0
    at = left[number - 1]
    number -= 1
    while number > 0:
        best, place = np.inf, 0
        for k in range(number):
            j = left[k]
            c = cost(at, j, net) + price[at] + price[j]
            if c < away[j]:
                away[j] = c
                nearest[j] = at
            if away[j] < best:
                best, place = away[j], k
        at = left[place]
        left[place] = left[number - 1]
        number -= 1
        total += best
        size += abs(best)
        degree[at] += 1.0
        degree[nearest[at]] += 1.0
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
    return total + one + two, size + abs(one) + abs(two), degree, nearest, (first, second)

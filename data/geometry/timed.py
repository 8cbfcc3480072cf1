"""Short closed tours where an edge costs more or less by when on the tour it is driven.

The n edges of a tour fall into T slots of equal shares: edge k from the start has the costs of slot k T // n. A move
shifts what lies between its ends in time, so every candidate is summed over the places that it changes: for up to
about a hundred nodes. 2-opt, moves of 1 to 3 nodes, turned round or not; kicks as in `directed`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .compiled import compiled
from .directed import _draw, _nearest, check_directed

PER_NODE = 10
MAX_NODES = 200


def timed_search(
    costs: Any, *, tour: np.ndarray | None = None, seed: int = 0, iterations: int | None = None
) -> tuple[np.ndarray, float]:
    """A short closed tour from node 0: (n,) int64, and its cost.

    Args:
        costs: (T, n, n) of going from the row's node to the column's in each slot.
        tour: (n,) where to begin, node 0 first. None: the nearest next.
        iterations: kicks. None: `PER_NODE` a node.

    Raises:
        ValueError: not (T, n, n), not finite, or more than `MAX_NODES` nodes.
    """
    given = np.asarray(costs, np.float64)
    if given.ndim != 3 or not len(given):
        raise ValueError(f"timed search: got costs of shape {given.shape}; wanted (T, n, n)")
    c = np.stack([check_directed(slot, "timed search") for slot in given])
    n = c.shape[1]
    if n > MAX_NODES:
        raise ValueError(f"timed search: {n} nodes; wanted at most {MAX_NODES}")
    first = _nearest(c.mean(0), 0) if tour is None else np.array(tour, np.int64)
    if n < 3:
        return first, timed_length(c, first)
    state = np.array([(seed * 2654435761 + 12345) % 2147483646 + 1], np.int64)
    tiny = 1e-12 * max(float(np.abs(c).max()), 1e-300)
    best = _iterate(c, first, PER_NODE * n if iterations is None else iterations, state, tiny)
    return best, timed_length(c, best)


def timed_length(costs: np.ndarray, tour: np.ndarray) -> float:
    """Cost of a closed tour from its first node on."""
    n = len(tour)
    if n < 2:
        return 0.0
    slot = np.arange(n) * len(costs) // n
    return math.fsum(costs[slot, tour, np.roll(tour, -1)])


@compiled
def _part(costs, slot, tour, low, high):  # type: ignore[no-untyped-def]
    """Cost of the edges low..high - 1, edge k from place k to the next."""
    n, total = len(tour), 0.0
    for k in range(low, high):
        total += costs[slot[k], tour[k], tour[k + 1 if k + 1 < n else 0]]
    return total


@compiled
def _descend(costs, slot, tour, trial, tiny):  # type: ignore[no-untyped-def]  # noqa: PLR0912  (kinds of moves)
    """Best 2-opt and Or-opt moves of one place after the other until no place has one; the start stays first."""
    n = len(tour)
    upto = np.zeros(n + 1)
    for k in range(n):
        upto[k + 1] = upto[k] + costs[slot[k], tour[k], tour[k + 1 if k + 1 < n else 0]]
    idle, i = 0, 1
    while idle < n:
        best, kind, to, number = tiny, -1, 0, 0
        for j in range(i + 1, n):  # i..j turned round
            new, most = 0.0, upto[j + 1] - upto[i - 1] - best
            new += costs[slot[i - 1], tour[i - 1], tour[j]]
            for k in range(i, j):
                new += costs[slot[k], tour[i + j - k], tour[i + j - k - 1]]
            new += costs[slot[j], tour[i], tour[j + 1 if j + 1 < n else 0]]
            if new < most:
                best, kind, to = upto[j + 1] - upto[i - 1] - new, 0, j
        for size in range(1, 4):
            if i + size > n:
                break
            for j in range(
                1, n - size + 1
            ):  # i..i + size - 1 taken out, and put so that it begins at place j
                if j == i:
                    continue
                low, high = min(i, j), max(i, j) + size  # places that change
                for turned in range(2 if size > 1 else 1):
                    new, most = 0.0, upto[high] - upto[low - 1] - best
                    before = tour[low - 1]
                    for k in range(low, high + 1):
                        if k == high:
                            node = tour[high if high < n else 0]
                        elif j <= k < j + size:
                            node = tour[i + size - 1 - (k - j)] if turned else tour[i + k - j]
                        else:
                            node = tour[k + size] if j > i else tour[k - size]
                        new += costs[slot[k - 1], before, node]
                        before = node
                    if new < most:
                        best, kind, to, number = upto[high] - upto[low - 1] - new, 1 + turned, j, size
        if kind < 0:
            idle += 1
        else:
            idle = 0
            trial[:] = tour
            if kind == 0:
                for k in range(i, to + 1):
                    tour[k] = trial[i + to - k]
            else:
                for k in range(min(i, to), max(i, to) + number):
                    if to <= k < to + number:
                        tour[k] = trial[i + number - 1 - (k - to)] if kind == 2 else trial[i + k - to]
                    else:
                        tour[k] = trial[k + number] if to > i else trial[k - number]
            for k in range(n):
                upto[k + 1] = upto[k] + costs[slot[k], tour[k], tour[k + 1 if k + 1 < n else 0]]
        i = i + 1 if i + 1 < n else 1


@compiled
def _iterate(costs, first, iterations, state, tiny):  # type: ignore[no-untyped-def]
    n = len(first)
    slot = np.arange(n) * len(costs) // n
    tour, trial = first.copy(), first.copy()
    _descend(costs, slot, tour, trial, tiny)
    length, kept = _part(costs, slot, tour, 0, n), tour.copy()
    if n < 4:
        return kept
    for _ in range(iterations):
        # three cuts after the start: two adjoining paths change places
        a, b, c = 1 + _draw(n - 1, state), 1 + _draw(n - 1, state), 1 + _draw(n, state)
        low, high = min(a, b, c), max(a, b, c)
        middle = a + b + c - low - high
        for k in range(high - middle):
            tour[low + k] = kept[middle + k]
        for k in range(middle - low):
            tour[low + high - middle + k] = kept[low + k]
        _descend(costs, slot, tour, trial, tiny)
        new = _part(costs, slot, tour, 0, n)
        if new <= length + tiny:
            length = new
            kept[:] = tour
        else:
            tour[:] = kept
    return kept

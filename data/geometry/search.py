"""Iterated local search for short tours: 2-opt and Or-opt, kicked by double bridges close by, never restarted.

A kick is kept where the descent after it ends no longer than before. A seed and an iteration limit give the same tour
on every machine and with or without numba; a time limit gives what that time allows.

Sources: Johnson and McGeoch 1997 (neighbour lists, don't-look bits); Martin, Otto, Felten 1991 (double bridge).
Shape legend: n nodes, m nodes with the open end of a path.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .construct import start_tour
from .costs import Costs
from .instances import check_tour
from .moves import descend, iterate, workspace

NEIGHBOURS = 10
REACH = 50
"""Nodes in each of the two paths that a kick swaps, at most."""
PER_NODE = 5
SPARED = 500
"""Iterations where neither they nor seconds are limited: 5 n - 500, at least 5 n / 2."""
NO_LOG = np.zeros((0, 2), np.int64)


@dataclass(frozen=True, eq=False)
class Found:
    """A tour and how it was found.

    tour: (n,) int64, every node once; of a path, from its start to its end.
    length: of the tour. start_length: of the tour that the search began with. iterations: kicks. seconds: wall time.
    """

    tour: np.ndarray
    length: float
    start_length: float
    iterations: int
    seconds: float


def search(
    costs: Costs,
    *,
    closed: bool = True,
    start: int | None = None,
    end: int | None = None,
    tour: Sequence[int] | np.ndarray | None = None,
    seed: int = 0,
    iterations: int | None = None,
    seconds: float | None = None,
) -> Found:
    """A short tour, or path where `closed` is false.

    Args:
        costs: of the edges between n nodes.
        closed: whether it comes back to where it began.
        start: the node it begins with; of a closed tour, only the one it is told from.
        end: the node a path ends with.
        tour: (n,) where to begin the search, e.g. what a model decoded; the result is never longer.
        seed: >= 0.
        iterations: limit; none where `seconds` is given, else some per node, about 12 ms at n = 100.
        seconds: limit of wall time, looked at about every hundredth second.

    Raises:
        ValueError: where the ends are no nodes, or the given tour is not a permutation that has these ends.
    """
    began = time.perf_counter()
    n = len(costs)
    _check_ends(n, closed, start, end)
    _check_limits(seed, iterations, seconds)
    given = None if tour is None else _as_tour(tour, n, closed, start, end)
    whole = costs if closed else costs.opened(start, end)
    near = whole.neighbours(NEIGHBOURS) if len(whole) > 3 else (NO_LOG, np.zeros((0, 2)))
    first = _start(costs, start, end, near[0] if closed else None) if given is None else given
    first_length = costs.length(first, closed=closed)
    if iterations is None and seconds is None:
        iterations = max(PER_NODE * n - SPARED, PER_NODE * n // 2)
    deadline = None if seconds is None else began + seconds
    best, done = _improve(whole, near, first if closed else np.append(first, n), seed, iterations, deadline)
    best = _path(best, n, closed, start, end)
    length = costs.length(best, closed=closed)
    if length >= first_length:  # sums of differences round; the tour itself decides
        best, length = first, first_length
    return Found(best, length, first_length, done, time.perf_counter() - began)


def _start(costs: Costs, start: int | None, end: int | None, near: np.ndarray | None) -> np.ndarray:
    """(n,) a tour to begin with, from `start` to `end` where they are given."""
    if start is None and end is not None:
        return np.ascontiguousarray(start_tour(costs, end, near)[::-1])
    tour = start_tour(costs, start or 0, near)
    return tour if end is None else np.append(tour[tour != end], end)


def _improve(
    costs: Costs,
    neighbours: tuple[np.ndarray, np.ndarray],
    tour: np.ndarray,
    seed: int,
    iterations: int | None,
    deadline: float | None,
) -> tuple[np.ndarray, int]:
    """The closed tour (m,) after the search, and the number of kicks."""
    m = len(tour)
    if m < 4:
        return tour, 0
    tour = np.array(tour, np.int64)
    pos = np.empty(m, np.int64)
    pos[tour] = np.arange(m)
    near, near_cost = neighbours
    stack, waiting, log, counts = workspace(m, seed)
    stack[:] = tour[::-1]
    net, tiny, done = costs.net, costs.tiny, 0
    while counts[0] and not _late(deadline):
        descend(tour, pos, near, near_cost, net, tiny, (stack, waiting, NO_LOG, counts), 1000)
    reach = max(1, min(REACH, (m - 2) // 2, max(m // 3, 3)))
    work, rounds = (stack, waiting, log, counts), 10
    while not _late(deadline) and (iterations is None or done < iterations) and not counts[0]:
        if iterations is not None:
            rounds = min(rounds, iterations - done)
        since = time.perf_counter()
        iterate(tour, pos, near, near_cost, net, tiny, reach, work, rounds)
        done += rounds
        if time.perf_counter() - since < 0.01:
            rounds *= 2
    return tour, done


def _late(deadline: float | None) -> bool:
    return deadline is not None and time.perf_counter() >= deadline


def _path(tour: np.ndarray, n: int, closed: bool, start: int | None, end: int | None) -> np.ndarray:
    """The tour (m,) as it is told: from `start`, of a path without the open end, in the direction of its ends."""
    if closed:
        if start is None:
            return tour
        return np.roll(tour, -int(np.flatnonzero(tour == start)[0]))
    path = np.roll(tour, -int(np.flatnonzero(tour == n)[0]))[1:]
    backwards = (start is not None and path[0] != start) or (end is not None and path[-1] != end)
    return np.ascontiguousarray(path[::-1]) if backwards else path


def _check_ends(n: int, closed: bool, start: int | None, end: int | None) -> None:
    for name, node in (("start", start), ("end", end)):
        if node is not None and not 0 <= node < n:
            raise ValueError(f"search: {name} is {node}; give a node from 0 to {n - 1}")
    if closed and end is not None:
        raise ValueError(f"search: a closed tour ends where it starts, but end is {end}; pass closed=False")
    if start is not None and start == end and n > 1:
        raise ValueError(
            f"search: start and end are both {start}; leave end away and pass closed=True to come back"
        )


def _check_limits(seed: int, iterations: int | None, seconds: float | None) -> None:
    for name, limit in (("seed", seed), ("iterations", iterations), ("seconds", seconds)):
        if limit is not None and not limit >= 0:
            raise ValueError(f"search: {name} is {limit}; give 0 or more")


def _as_tour(
    tour: Sequence[int] | np.ndarray, n: int, closed: bool, start: int | None, end: int | None
) -> np.ndarray:
    """(n,) int64, from `start`."""
    given = check_tour(tour, n, "search: tour")
    if closed:
        return _path(given, n, closed, start, end)
    for name, node, place in (("start", start, 0), ("end", end, -1)):
        if node is not None and given[place] != node:
            raise ValueError(
                f"search: tour has {given[place]} where {name} {node} should be; give a tour with these ends"
            )
    return given

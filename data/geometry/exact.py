"""Shortest tours by dynamic programming over sets of nodes (R. Bellman 1962, M. Held and R. M. Karp 1962).

For n nodes 2^n n^2 steps and 2^n n numbers: labels and the truth of tests.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiled import compiled

MAX_NODES = 16
"""Most nodes: 17 million steps, 8 MB."""


def exact_tour(
    matrix: Any, *, closed: bool = True, start: int | None = None, end: int | None = None
) -> tuple[np.ndarray, float]:
    """A shortest tour through all nodes: (n,) int64 nodes, and its length.

    Args:
        matrix: (n, n) distances, n up to `MAX_NODES`; they may differ between the two ways and be negative.
        closed: with the edge back to the start; else a path.
        start: first node. None: 0 of a closed tour, the best one of a path.
        end: last node of a path. None: the best one.

    Raises:
        ValueError: not square, not finite, too many nodes, nodes that are not there, an end of a closed tour, or one
            node for both ends of a path of several.
    """
    d = np.ascontiguousarray(matrix, np.float64)
    n = len(d) if d.ndim else 0
    if d.ndim != 2 or d.shape != (n, n) or not 1 <= n <= MAX_NODES:
        raise ValueError(
            f"exact tour: got a matrix of shape {d.shape}; wanted (n, n) of 1 to {MAX_NODES} nodes; larger ones are "
            "for the search"
        )
    _check_ends(n, closed, start, end)
    if n == 1:
        return np.zeros(1, np.int64), 0.0
    if not np.isfinite(d[~np.eye(n, dtype=bool)]).all():
        raise ValueError("exact tour: the matrix has NaN or infinite distances; wanted finite ones")
    if closed:
        start = 0 if start is None else start
    tour = np.empty(n, np.int64)
    first, last = (-1 if node is None else node for node in (start, end))
    best = _shortest_paths(d, first)
    return tour, float(_trace(d, best, closed, first, last, tour))


def _check_ends(n: int, closed: bool, start: int | None, end: int | None) -> None:
    for name, node in (("start", start), ("end", end)):
        if node is not None and not 0 <= node < n:
            raise ValueError(f"exact tour: {name} is {node}; wanted a node from 0 to {n - 1}")
    if closed and end is not None:
        raise ValueError(f"exact tour: end is {end} of a closed tour; wanted None, or closed=False")
    if n > 1 and start is not None and start == end:
        raise ValueError(
            f"exact tour: start and end of a path are both {start}; wanted two nodes, or closed=True"
        )


@compiled
def _shortest_paths(d, start):  # type: ignore[no-untyped-def]
    """(2^n, n): shortest path through the nodes of a set, given by its bits, that ends in a node; start -1 is free."""
    n = len(d)
    full = (1 << n) - 1
    best = np.full((full + 1, n), np.inf)
    for j in range(n):
        if start in (-1, j):
            best[1 << j, j] = 0.0
    for mask in range(1, full):
        for j in range(n):
            here = best[mask, j]
            if here == np.inf:
                continue
            for k in range(n):
                if not mask >> k & 1:
                    best[mask | 1 << k, k] = min(best[mask | 1 << k, k], here + d[j, k])
    return best


@compiled
def _trace(d, best, closed, start, end, tour):  # type: ignore[no-untyped-def]
    """Writes the tour, returns its length. An end of -1 is free."""
    n = len(d)
    mask = (1 << n) - 1
    length, last = np.inf, 0
    for j in range(n):
        if end in (-1, j):
            total = best[mask, j] + (d[j, start] if closed else 0.0)
            if total < length:
                length, last = total, j
    # back through the sets: each step is found again by the sum that made it
    for place in range(n - 1, -1, -1):
        tour[place] = last
        rest = mask ^ (1 << last)
        for i in range(n):
            if rest >> i & 1 and best[rest, i] + d[i, last] == best[mask, last]:
                last = i
                break
        mask = rest
    return length

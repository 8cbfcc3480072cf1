"""Short tours where the way back costs something else: iterated local search on a matrix of directed costs.

For up to a few hundred nodes. Every move begins with a new edge a -> c to one of the cheapest successors of a:
the path c..e moves between a and its successor, forwards (a pure 3-opt move: two adjoining paths change places) or
backwards, or the path from a's successor to c is turned round. What turning a path round costs is read from sums
along the tour in both directions. Kicks swap two adjoining paths; a kick is kept where the descent after it ends no
longer than before. Costs may be negative. A seed and an iteration limit give the same tour on every machine.

Sources: Kanellakis and Papadimitriou 1980 (local search for the asymmetric problem); Johnson and McGeoch 1997.
Shape legend: n nodes, m nodes with the open end of a path, K successors looked at.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .compiled import compiled
from .instances import check_tour

SUCCESSORS = 10
"""Successors that a node looks at."""
LONGEST = 50
"""Nodes of a path that is moved, at most; a path turned round on its way has 3 at most."""
PER_NODE = 10
"""Kicks per node where no limit is given."""
MAX_NODES = 2000
"""Most nodes: costs are a matrix, and every move rewrites the tour."""


def directed_search(
    matrix: Any,
    *,
    closed: bool = True,
    start: int | None = None,
    end: int | None = None,
    tour: Any = None,
    seed: int = 0,
    iterations: int | None = None,
) -> tuple[np.ndarray, float]:
    """A short tour, or path where `closed` is false: (n,) int64 nodes, and its length.

    Args:
        matrix: (n, n) cost of going from the row's node to the column's; the diagonal is not read.
        closed: whether it comes back to where it began.
        start: the node it begins with. None: 0 of a closed tour, the best found of a path.
        end: the node a path ends with.
        tour: (n,) where to begin the search; the result is never longer.
        seed: >= 0.
        iterations: kicks; None: `PER_NODE` a node.

    Raises:
        ValueError: the matrix is not square and finite, or has too many nodes; the ends are no nodes, or one node; the
            tour is no permutation, or has other ends.
    """
    d = check_directed(matrix)
    n = len(d)
    _check_ends(n, closed, start, end)
    if seed < 0 or (iterations is not None and iterations < 0):
        raise ValueError(f"directed search: seed {seed}, iterations {iterations}; wanted 0 or more")
    whole = d if closed else _opened(d, start, end)
    first = None
    if tour is not None:
        first = check_tour(tour, n, "directed search: tour")
        _check_given(first, closed, start, end)
    begin = n if not closed else (0 if start is None else start)
    path = _nearest(whole, begin) if first is None else _closed_form(first, n, closed)
    found = improve(whole, path, PER_NODE * len(whole) if iterations is None else iterations, seed)
    found = np.roll(found, -int(np.flatnonzero(found == begin)[0]))
    best = found if closed else found[1:]
    length = directed_length(d, best, closed=closed)
    if first is not None and length >= directed_length(d, first, closed=closed):
        best = np.roll(first, -int(np.flatnonzero(first == begin)[0])) if closed else first
        length = directed_length(d, best, closed=closed)
    return best, length


def directed_length(matrix: np.ndarray, tour: np.ndarray, *, closed: bool = True) -> float:
    """Cost of a tour, or of a path, in the direction in which it is given."""
    edges = matrix[tour, np.roll(tour, -1)] if len(tour) > 1 else np.zeros(1)
    return math.fsum(edges if closed else edges[:-1])


def improve(matrix: np.ndarray, tour: np.ndarray, iterations: int, seed: int) -> np.ndarray:
    """The closed tour (m,) after so many kicks, from a checked matrix (m, m) of float64."""
    m = len(tour)
    if m < 4:
        return _of_few(matrix, tour)
    walled = matrix.copy()
    np.fill_diagonal(walled, np.inf)
    k = min(SUCCESSORS, m - 1)
    near = np.argpartition(walled, k - 1, axis=1)[:, :k]
    order = np.argsort(np.take_along_axis(walled, near, 1), axis=1, kind="stable")
    near = np.ascontiguousarray(np.take_along_axis(near, order, 1), dtype=np.int64)
    state = np.array([(seed * 2654435761 + 12345) % 2147483646 + 1], np.int64)
    tiny = 1e-12 * max(float(np.abs(matrix).max()), 1e-300)
    return _iterate(matrix, near, np.array(tour, np.int64), iterations, state, tiny)


def check_directed(matrix: Any, place: str = "directed search") -> np.ndarray:
    """`matrix` as (n, n) float64, C order, 0 on the diagonal.

    Raises:
        ValueError: not square, not finite, or more than `MAX_NODES` nodes.
    """
    d = np.array(matrix, np.float64, order="C")
    if d.ndim != 2 or d.shape[0] != d.shape[1] or not 1 <= len(d) <= MAX_NODES:
        raise ValueError(f"{place}: got a matrix of shape {d.shape}; wanted (n, n), n from 1 to {MAX_NODES}")
    np.fill_diagonal(d, 0.0)
    if not np.isfinite(d).all():
        i, j = np.argwhere(~np.isfinite(d))[0]
        raise ValueError(f"{place}: the cost from {i} to {j} is {d[i, j]}; wanted finite costs")
    return d


def _check_ends(n: int, closed: bool, start: int | None, end: int | None) -> None:
    for name, node in (("start", start), ("end", end)):
        if node is not None and not 0 <= node < n:
            raise ValueError(f"directed search: {name} is {node}; give a node from 0 to {n - 1}")
    if closed and end is not None:
        raise ValueError(
            f"directed search: a closed tour ends where it starts, but end is {end}; pass closed=False"
        )
    if n > 1 and start is not None and start == end:
        raise ValueError(f"directed search: start and end are both {start}; pass closed=True to come back")


def _check_given(tour: np.ndarray, closed: bool, start: int | None, end: int | None) -> None:
    for name, node, place in (("start", start, 0), ("end", end, -1)):
        if not closed and node is not None and tour[place] != node:
            raise ValueError(
                f"directed search: tour has {tour[place]} where {name} {node} should be; give a tour with these ends"
            )


def _opened(d: np.ndarray, start: int | None, end: int | None) -> np.ndarray:
    """(n + 1, n + 1) with an open end, which costs nothing but where it would join another node than a fixed end."""
    n = len(d)
    outbid = 4.0 * (n + 1) * max(float(np.abs(d).max()), 1e-300)
    out = np.zeros((n + 1, n + 1))
    out[:n, :n] = d
    if start is not None:
        out[n, :n] = outbid
        out[n, start] = 0.0
    if end is not None:
        out[:n, n] = outbid
        out[end, n] = 0.0
    return out


def _closed_form(tour: np.ndarray, n: int, closed: bool) -> np.ndarray:
    return tour if closed else np.concatenate([[n], tour])


def _of_few(matrix: np.ndarray, tour: np.ndarray) -> np.ndarray:
    """Up to three nodes have two tours at most."""
    back = np.ascontiguousarray(tour[::-1])
    return back if directed_length(matrix, back) < directed_length(matrix, tour) else tour


@compiled
def _nearest(matrix, first):  # type: ignore[no-untyped-def]
    m = len(matrix)
    left = np.ones(m, np.bool_)
    tour = np.empty(m, np.int64)
    tour[0] = first
    left[first] = False
    for filled in range(1, m):
        at, best, place = tour[filled - 1], np.inf, -1
        for k in range(m):
            if left[k] and matrix[at, k] < best:
                best, place = matrix[at, k], k
        tour[filled] = place
        left[place] = False
    return tour


@compiled
def _draw(below, state):  # type: ignore[no-untyped-def]
    state[0] = state[0] * 48271 % 2147483647
    return (state[0] * below) // 2147483647


@compiled
def _sums(matrix, tour, pos, twice, ahead, back):  # type: ignore[no-untyped-def]
    """The tour run through twice (2 m,), and what it costs up to each of its places, there (ahead) and back."""
    m = len(tour)
    for k in range(m):
        pos[tour[k]] = k
        twice[k] = twice[k + m] = tour[k]
    ahead[0] = back[0] = 0.0
    for k in range(2 * m - 1):
        ahead[k + 1] = ahead[k] + matrix[twice[k], twice[k + 1]]
        back[k + 1] = back[k] + matrix[twice[k + 1], twice[k]]


@compiled
def _best_move(a, matrix, near, pos, twice, ahead, back, move):  # type: ignore[no-untyped-def]
    """The move at node a that gains most: its gain, and in `move` its kind and the places of its path in `twice`."""
    m = len(pos)
    i = pos[a]
    b = twice[i + 1]
    from_a = matrix[a, b]
    best = 0.0
    for k in range(near.shape[1]):
        c = near[a, k]
        first = from_a - matrix[a, c]
        if first <= 0.0:
            break
        p = pos[c] if pos[c] > i else pos[c] + m
        # 2-opt: b..c turned round
        gain = first + matrix[c, twice[p + 1]] - matrix[b, twice[p + 1]]
        gain += (ahead[p] - ahead[i + 1]) - (back[p] - back[i + 1])
        if gain > best:
            best = gain
            move[0], move[1], move[2] = 0, i, p
        # c..e between a and b
        into_c = matrix[twice[p - 1], c]
        for q in range(p, min(p + LONGEST, i + m)):
            e, f = twice[q], twice[q + 1]
            gain = first + into_c + matrix[e, f] - matrix[e, b] - matrix[twice[p - 1], f]
            if gain > best:
                best = gain
                move[0], move[1], move[2], move[3] = 1, i, p, q
        # e..c turned round between a and b
        after = twice[p + 1]
        for q in range(p, max(p - 3, i + 1), -1):
            e, f = twice[q], twice[q - 1]
            gain = first + matrix[f, e] + matrix[c, after] - matrix[e, b] - matrix[f, after]
            gain += (ahead[p] - ahead[q]) - (back[p] - back[q])
            if gain > best:
                best = gain
                move[0], move[1], move[2], move[3] = 2, i, q, p
    return best


@compiled
def _apply(tour, twice, move):  # type: ignore[no-untyped-def]
    """Write the tour after the move, from the node after a on; only places change, and the sums are stale then."""
    m = len(tour)
    kind, i, p, q = move[0], move[1], move[2], move[3]
    at = i + 1
    if kind == 0:
        for k in range(p, i, -1):
            tour[at % m] = twice[k]
            at += 1
        return
    if kind == 1:
        for k in range(p, q + 1):
            tour[at % m] = twice[k]
            at += 1
    else:
        for k in range(q, p - 1, -1):
            tour[at % m] = twice[k]
            at += 1
    for k in range(i + 1, p):
        tour[at % m] = twice[k]
        at += 1


@compiled
def _descend(matrix, near, tour, tiny, waiting, stack, number, work):  # type: ignore[no-untyped-def]
    """Improve at the nodes that wait until none does."""
    pos, twice, ahead, back, move = work
    m = len(tour)
    _sums(matrix, tour, pos, twice, ahead, back)
    while number > 0:
        number -= 1
        a = stack[number]
        waiting[a] = False
        while _best_move(a, matrix, near, pos, twice, ahead, back, move) > tiny:
            i, p, q = move[1], move[2], move[3]
            if move[0] == 0:
                q = p
            for k in (i, i + 1, p - 1, p, q, q + 1):
                node = twice[k % m]
                if not waiting[node]:
                    waiting[node] = True
                    stack[number] = node
                    number += 1
            _apply(tour, twice, move)
            _sums(matrix, tour, pos, twice, ahead, back)


@compiled
def _iterate(matrix, near, tour, iterations, state, tiny):  # type: ignore[no-untyped-def]
    m = len(tour)
    waiting, stack = np.ones(m, np.bool_), np.arange(m)[::-1].copy()
    work = (
        np.empty(m, np.int64),
        np.empty(2 * m, np.int64),
        np.empty(2 * m),
        np.empty(2 * m),
        np.zeros(4, np.int64),
    )
    ahead = work[2]
    _descend(matrix, near, tour, tiny, waiting, stack, m, work)
    length = ahead[m]
    kept = tour.copy()
    reach = max(1, min(LONGEST, (m - 2) // 2))
    for _ in range(iterations):
        at, first, second = _draw(m, state), 1 + _draw(reach, state), 1 + _draw(reach, state)
        for k in range(second):  # p [a1..a2] [b1..b2] q -> p [b1..b2] [a1..a2] q
            tour[(at + 1 + k) % m] = kept[(at + 1 + first + k) % m]
        for k in range(first):
            tour[(at + 1 + second + k) % m] = kept[(at + 1 + k) % m]
        number = 0
        for k in (at, at + 1, at + first, at + first + 1, at + first + second, at + first + second + 1):
            node = kept[k % m]
            if not waiting[node]:
                waiting[node] = True
                stack[number] = node
                number += 1
        _descend(matrix, near, tour, tiny, waiting, stack, number, work)
        if ahead[m] <= length + tiny:
            length = ahead[m]
            kept[:] = tour
        else:
            tour[:] = kept
    return kept

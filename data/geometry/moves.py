"""2-opt and Or-opt moves on a tour held as an array, kicks, and the way back from a kick that did not pay.

Every change of a tour is a `flip`, the reversal of a path; a flip turns the shorter side round, is logged, and is its
own inverse, so an iteration costs what it touches, whatever n. A gain up to `tiny` is rounding and none.

Names: tour (n,) node at each position, pos (n,) position of each node, near (n, K) neighbours, nearest first,
near_cost (n, K); net = (rule, xy, matrix, ends), see `cost`; work = (stack, waiting, log, counts).
Random numbers are Park and Miller's minimal standard generator: the same with and without numba.
"""

from __future__ import annotations

import math

import numpy as np

from .compiled import compiled, inlined

MATRIX, EUCLIDEAN, ROUNDED, CEILED = 0, 1, 2, 3
"""Rules of `cost`."""

STACKED, LOGGED, RANDOM = 0, 1, 2
"""Places in counts: nodes to look at, flips in the log, state of the generator."""


@inlined
def cost(i, j, net):  # type: ignore[no-untyped-def]
    """Cost of the edge i, j: from the matrix, or from the plane, where the node len(xy) stands for the open end."""
    rule, xy, matrix, ends = net
    if rule == 0:
        return matrix[i, j]
    n = len(xy)
    if i == n:
        return ends[j]
    if j == n:
        return ends[i]
    dx, dy = xy[i, 0] - xy[j, 0], xy[i, 1] - xy[j, 1]
    length = math.sqrt(dx * dx + dy * dy)
    if rule == 1:
        return length
    return float(math.floor(length + 0.5)) if rule == 2 else float(math.ceil(length))


@compiled
def beside(tour, pos, a, way):  # type: ignore[no-untyped-def]
    """The node after (way = 1) or before (way = -1) node a."""
    i = pos[a] + way
    if i == len(tour):
        i = 0
    elif i < 0:
        i = len(tour) - 1
    return tour[i]


@compiled
def ahead(pos, a, c, way):  # type: ignore[no-untyped-def]
    """Steps from node a to node c."""
    steps = (pos[c] - pos[a]) * way
    return steps + len(pos) if steps < 0 else steps


@compiled
def turn(tour, pos, first, number):  # type: ignore[no-untyped-def]
    """Reverse `number` positions from `first` on, round the end of the array."""
    n = len(tour)
    i, j = first, first + number - 1
    if j >= n:
        j -= n
    for _ in range(number // 2):
        a, b = tour[i], tour[j]
        tour[i], tour[j] = b, a
        pos[b], pos[a] = i, j
        i += 1
        if i == n:
            i = 0
        j -= 1
        if j < 0:
            j = n - 1


@compiled
def flip(tour, pos, x, y, mirrored, log, counts):  # type: ignore[no-untyped-def]
    """Reverse the path x..y; returns whether the array now reads backwards from where the caller began."""
    n = len(tour)
    i, j = pos[x], pos[y]
    if mirrored:
        i, j = j, i
    number = j - i + 1
    if number <= 0:
        number += n
    if 2 * number > n:
        i, number = (j + 1) % n, n - number
        mirrored = not mirrored
    if number > 1:
        turn(tour, pos, i, number)
        if len(log) > 0:  # without one nobody will go back
            log[counts[1], 0], log[counts[1], 1] = i, number
            counts[1] += 1
    return mirrored


@compiled
def wake(node, stack, waiting, counts):  # type: ignore[no-untyped-def]
    if not waiting[node]:
        waiting[node] = True
        stack[counts[0]] = node
        counts[0] += 1


@compiled
def two_opt(a, tour, pos, near, near_cost, net, tiny, work):  # type: ignore[no-untyped-def]
    """The first 2-opt move at node a that pays: its gain, or 0."""
    stack, waiting, log, counts = work
    for way in (1, -1):
        b = beside(tour, pos, a, way)
        from_b = cost(a, b, net)
        for k in range(near.shape[1]):
            to_c = near_cost[a, k]
            if to_c >= from_b:
                break
            c = near[a, k]
            d = beside(tour, pos, c, way)
            if c == b or d == a:
                continue
            gain = from_b + cost(c, d, net) - to_c - cost(b, d, net)
            if gain > tiny:
                if way == 1:  # a b .. c d
                    flip(tour, pos, b, c, False, log, counts)
                else:  # d c .. b a
                    flip(tour, pos, c, b, False, log, counts)
                for node in (a, b, c, d):
                    wake(node, stack, waiting, counts)
                return gain
    return 0.0


@compiled
def or_opt(a, tour, pos, near, near_cost, net, tiny, work):  # type: ignore[no-untyped-def]
    """The first move of 1 to 3 nodes, a at one end, to beside a neighbour of a that pays: its gain, or 0."""
    stack, waiting, log, counts = work
    longest = min(3, len(tour) - 3)
    for way in (1, -1):
        before = beside(tour, pos, a, -way)
        to_before = cost(before, a, net)
        after = a
        for number in range(1, longest + 1):
            e = after
            after = beside(tour, pos, e, way)
            freed = to_before + cost(e, after, net) - cost(before, after, net)
            if freed <= tiny:
                continue
            for k in range(near.shape[1]):
                to_c = near_cost[a, k]
                if to_c >= freed:
                    break
                c = near[a, k]
                if ahead(pos, a, c, way) < number:  # c is on the path itself
                    continue
                for side in (1, -1):
                    x = beside(tour, pos, c, side)
                    if ahead(pos, a, x, way) < number:
                        continue
                    gain = freed + cost(c, x, net) - to_c - cost(e, x, net)
                    if gain > tiny:
                        # forwards: .. p [s1 .. s2] q .. cc dd ..
                        s1, s2 = (a, e) if way == 1 else (e, a)
                        cc = c if side == 1 else x
                        q = beside(tour, pos, s2, 1)
                        mirrored = flip(tour, pos, s1, cc, False, log, counts)
                        mirrored = flip(tour, pos, cc, q, mirrored, log, counts)
                        if number > 1 and (c == cc) == (a == s1):  # cc s1 .. s2 dd, not turned round
                            flip(tour, pos, s2, s1, mirrored, log, counts)
                        for node in (a, e, c, x, before, after):
                            wake(node, stack, waiting, counts)
                        return gain
    return 0.0


@compiled
def descend(tour, pos, near, near_cost, net, tiny, work, looks):  # type: ignore[no-untyped-def]
    """Improve at the nodes that wait until none does, `looks` were taken or the log is full: the gain."""
    stack, waiting, log, counts = work
    gained = 0.0
    for _ in range(looks):
        if counts[0] == 0:
            break
        counts[0] -= 1
        a = stack[counts[0]]
        waiting[a] = False
        while len(log) == 0 or counts[1] < len(log) - 3:
            gain = two_opt(a, tour, pos, near, near_cost, net, tiny, work)
            if gain == 0.0:
                gain = or_opt(a, tour, pos, near, near_cost, net, tiny, work)
            if gain == 0.0:
                break
            gained += gain
    return gained


@compiled
def draw(below, counts):  # type: ignore[no-untyped-def]
    """A whole number in [0, below)."""
    counts[2] = counts[2] * 48271 % 2147483647
    return (counts[2] * below) // 2147483647


@compiled
def kick(tour, pos, reach, net, work):  # type: ignore[no-untyped-def]
    """A double bridge close by: two adjoining paths of 1 to `reach` nodes change places. Returns what it costs."""
    stack, waiting, log, counts = work
    n = len(tour)
    at = draw(n, counts)
    first = 1 + draw(reach, counts)
    second = 1 + draw(reach, counts)
    p, a1, a2 = tour[at], tour[(at + 1) % n], tour[(at + first) % n]
    b1, b2 = tour[(at + first + 1) % n], tour[(at + first + second) % n]
    q = tour[(at + first + second + 1) % n]
    loss = cost(p, b1, net) + cost(b2, a1, net) + cost(a2, q, net)
    loss -= cost(p, a1, net) + cost(a2, b1, net) + cost(b2, q, net)
    mirrored = flip(tour, pos, a1, a2, False, log, counts)
    mirrored = flip(tour, pos, b1, b2, mirrored, log, counts)
    flip(tour, pos, a2, b1, mirrored, log, counts)
    for node in (p, a1, a2, b1, b2, q):
        wake(node, stack, waiting, counts)
    return loss


@compiled
def iterate(tour, pos, near, near_cost, net, tiny, reach, work, rounds):  # type: ignore[no-untyped-def]
    """`rounds` times: kick, descend, and go back unless the tour is no longer than before. Returns the gain."""
    _, _, log, counts = work
    looks = 10 * len(log)  # never reached
    gained = 0.0
    for _ in range(rounds):
        counts[1] = 0
        gain = -kick(tour, pos, reach, net, work)
        gain += descend(tour, pos, near, near_cost, net, tiny, work, looks)
        if gain < 0.0:
            for k in range(counts[1] - 1, -1, -1):
                turn(tour, pos, log[k, 0], log[k, 1])
            continue
        gained += gain
    return gained


def workspace(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Stack (n,), waiting (n,), log (L, 2) and counts (3,) for n nodes, every node waiting."""
    state = (seed * 2654435761 + 12345) % 2147483646 + 1
    stack = np.arange(n, dtype=np.int64)[::-1].copy()
    return stack, np.ones(n, np.bool_), np.zeros((100_000, 2), np.int64), np.array([n, 0, state], np.int64)

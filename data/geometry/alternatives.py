"""The tours next to an observed one that cost least: what its driver could have done instead, and did not.

All tours that one move makes: a path turned round (2-opt), one of up to `LONGEST` nodes moved, turned round or not,
and any two adjoining paths swapped (Or-3opt).
Shape legend: n nodes, L alternatives.
"""

from __future__ import annotations

import numpy as np

from .compiled import compiled

LONGEST = 3


@compiled
def alternatives(matrix, tour, number):  # type: ignore[no-untyped-def]  # noqa: PLR0912  (kinds of moves)
    """(L, n) the `number` cheapest tours one move from the closed `tour` (n,) under directed costs (n, n), each from
    tour[0]; fewer where there are not as many. Cheaper ones than the tour come first."""
    n = len(tour)
    d = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            d[i, j] = matrix[tour[i], tour[j]]
    turned = np.zeros(n)  # how much more the way back costs, up to each place
    for k in range(n - 1):
        turned[k + 1] = turned[k] + d[k + 1, k] - d[k, k + 1]
    value = np.empty(n * n * (n + 6 * LONGEST))
    move = np.empty((len(value), 4), np.int64)
    size = 0
    for i in range(1, n):  # i..j lies between p and q
        p = i - 1
        for j in range(i, n):
            q = j + 1 if j + 1 < n else 0
            if j > i:
                back = turned[j] - turned[i]
                value[size] = d[p, j] + d[i, q] - d[p, i] - d[j, q] + back
                move[size] = (0, i, j, 0)
                size += 1
            for k in range(j + 1, n):  # i..j and j + 1..k swapped
                r = k + 1 if k + 1 < n else 0
                value[size] = d[p, j + 1] + d[k, i] + d[j, r] - d[p, i] - d[j, j + 1] - d[k, r]
                move[size] = (1, i, j, k)
                size += 1
                if j - i < LONGEST:  # the first one turned round, too
                    back = turned[j] - turned[i]
                    if j > i:
                        value[size] = d[p, j + 1] + d[k, j] + d[i, r] - d[p, i] - d[j, j + 1] - d[k, r] + back
                        move[size] = (2, i, j, k)
                        size += 1
                if 0 < k - j - 1 < LONGEST:  # the second one turned round
                    back = turned[k] - turned[j + 1]
                    value[size] = d[p, k] + d[j + 1, i] + d[j, r] - d[p, i] - d[j, j + 1] - d[k, r] + back
                    move[size] = (3, i, j, k)
                    size += 1
    number = min(number, size)
    chosen = np.argsort(value[:size])[:number]
    out = np.empty((number, n), np.int64)
    for row in range(number):
        kind, i, j, k = move[chosen[row]]
        out[row] = tour
        if kind == 0:
            out[row, i : j + 1] = tour[i : j + 1][::-1]
        else:
            a, b = tour[i : j + 1], tour[j + 1 : k + 1]
            if kind == 2:
                a = a[::-1]
            elif kind == 3:
                b = b[::-1]
            out[row, i : i + len(b)] = b
            out[row, i + len(b) : k + 1] = a
    return out

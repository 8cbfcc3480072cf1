"""What edges cost, in the form that the search and the bound read: a matrix, or points of the plane and a rule.

A path is a closed tour through one more node, the open end, which stands between the last node and the first and costs
nothing; where an end is fixed, its edge to the open end has a bonus that no other edge can outbid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from .instances import check_matrix, check_points
from .moves import CEILED, EUCLIDEAN, MATRIX, ROUNDED
from .tsplib import Problem

Net = tuple[int, np.ndarray, np.ndarray, np.ndarray]

RULES = {"euclidean": EUCLIDEAN, "EUC_2D": ROUNDED, "CEIL_2D": CEILED}
"""Kinds of distance that are computed from points when they are needed; others come as a matrix."""

DENSE = 1000
"""Nodes up to which points become a matrix: it is faster as long as it fits the cache."""


@dataclass(frozen=True, eq=False)
class Costs:
    """Symmetric costs of the edges between n nodes, and of those to the open end where there is one.

    rule: see `moves.cost`. xy: (n, 2) float64, empty for a matrix. matrix: (m, m) float64, empty for points.
    ends: (n,) float64, costs of the edges to the open end, empty for a closed tour.
    bonus: what fixed ends take off the length of a closed tour, in units of `net`.
    scale: lengths are `scale` times what `net` says. whole: all costs are whole numbers, sums of them exact.
    largest: no cost is larger.
    """

    rule: int
    xy: np.ndarray
    matrix: np.ndarray
    ends: np.ndarray
    largest: float
    whole: bool
    scale: float = 1.0
    bonus: float = 0.0

    @classmethod
    def of_problem(cls, problem: Problem) -> Costs:
        """Of a file's problem.

        Raises:
            ValueError: where it has fixed edges, or more nodes than a matrix is made for and no rule of the plane.
        """
        if len(problem.fixed_edges):
            raise ValueError(
                f"{problem.name}: {len(problem.fixed_edges)} fixed edges, which the search cannot keep; "
                "take FIXED_EDGES_SECTION out to solve without them"
            )
        if problem.kind in RULES and problem.xy is not None:
            return cls.of_points(problem.xy, problem.kind)
        return cls.of_matrix(problem.distances())

    @classmethod
    def of_points(cls, xy: np.ndarray, kind: str = "euclidean") -> Costs:
        """(n, 2) points; `kind` one of `RULES`.

        Raises:
            ValueError: where they are not finite or too large, or of another shape.
        """
        xy, scale, rule = np.ascontiguousarray(check_points(xy)), 1.0, RULES[kind]
        most = float(np.abs(xy).max(initial=0.0))
        if rule == EUCLIDEAN and most > 0:
            # a power of two, so that nothing is rounded: squares of huge and tiny differences stay in range
            power = math.frexp(most)[1] - 1
            xy, scale = np.ldexp(xy, -power), math.ldexp(1.0, power)
        elif most > 1e15:
            raise ValueError(
                f"costs: the largest coordinate is {most:.3g}, and {kind} wants whole numbers below 1e15; "
                "scale them down or use the euclidean kind"
            )
        span = float(np.ptp(xy, axis=0).max()) if len(xy) else 0.0
        nothing = np.empty((0, 0)), np.empty(0)
        costs = cls(rule, xy, *nothing, 1.5 * span + (rule != EUCLIDEAN), rule != EUCLIDEAN, scale)
        return replace(costs, rule=MATRIX, matrix=costs.dense()) if len(xy) <= DENSE else costs

    @classmethod
    def of_matrix(cls, matrix: np.ndarray) -> Costs:
        """(n, n) costs; the diagonal is not read.

        Raises:
            ValueError: where they are not finite, square and symmetric.
        """
        matrix = np.ascontiguousarray(check_matrix(matrix))
        largest = float(np.abs(matrix).max(initial=0.0))
        scale = 1.0
        whole = largest < 2**40 and bool((matrix == np.rint(matrix)).all())
        if not whole and largest > 0:
            power = math.frexp(largest)[1]
            matrix, scale = np.ldexp(matrix, -power), math.ldexp(1.0, power)
            largest = math.ldexp(largest, -power)
        return cls(MATRIX, np.empty((0, 2)), matrix, np.empty(0), largest, whole, scale)

    def __len__(self) -> int:
        """Nodes, the open end included."""
        return (len(self.matrix) if self.rule == MATRIX else len(self.xy)) + int(len(self.ends) > 0)

    @property
    def net(self) -> Net:
        """What `moves.cost` reads."""
        return self.rule, self.xy, self.matrix, self.ends

    @property
    def tiny(self) -> float:
        """Differences up to here are rounding."""
        return 0.5 if self.whole else 1e-13 * max(self.largest, 1e-300)

    def opened(self, start: int | None, end: int | None) -> Costs:
        """With an open end; `start` and `end` are neighbours of it where given."""
        n = len(self)
        outbid = math.ceil(8.0 * self.largest) + 1.0 if self.whole else 8.0 * max(self.largest, 1e-300)
        ends = np.zeros(n)
        fixed = [node for node in (start, end) if node is not None]
        ends[fixed] = -outbid
        bonus = outbid * len(fixed)
        if self.rule != MATRIX:
            return replace(self, ends=ends, bonus=bonus)
        matrix = np.zeros((n + 1, n + 1))
        matrix[:n, :n] = self.matrix
        matrix[n, :n] = matrix[:n, n] = ends
        return replace(self, matrix=matrix, bonus=bonus, largest=max(self.largest, outbid))

    def row(self, i: int) -> np.ndarray:
        """(m,) costs of the edges at node i, the diagonal included."""
        if self.rule == MATRIX:
            return self.matrix[i]
        if i == len(self.xy):
            return np.append(self.ends, 0.0)
        d = self._between(self.xy[i], self.xy)
        return np.append(d, self.ends[i]) if len(self.ends) else d

    def dense(self) -> np.ndarray:
        """(n, n) costs between the points."""
        return self._between(self.xy[:, None], self.xy[None])

    def edges(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """(E,) costs of the edges i, j (E,) each."""
        if self.rule == MATRIX:
            return self.matrix[i, j]
        n = len(self.xy)
        if not len(self.ends):
            return self._between(self.xy[i], self.xy[j])
        out = self._between(self.xy[np.minimum(i, n - 1)], self.xy[np.minimum(j, n - 1)])
        out[i == n] = self.ends[j[i == n]]
        out[j == n] = self.ends[i[j == n]]
        return out

    def _between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        # the very operations of `moves.cost`: np.hypot may differ in the last bit
        d = a - b
        length = np.sqrt(d[..., 0] * d[..., 0] + d[..., 1] * d[..., 1])
        if self.rule in (EUCLIDEAN, MATRIX):
            return length
        return np.floor(length + 0.5) if self.rule == ROUNDED else np.ceil(length)

    def length(self, tour: np.ndarray, *, closed: bool = True) -> float:
        """Length of the tour, or of the path, through these nodes; rounded once."""
        if len(tour) < 2:
            return 0.0
        edges = self.edges(tour, np.roll(tour, -1))
        return math.fsum(edges if closed else edges[:-1]) * self.scale

    def neighbours(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """near (m, K) int64, K = min(k, m - 1) neighbours of each node, cheapest edge first, and their costs (m, K).

        They are the nearest, of points some in every quadrant; an open end is one of everybody's.
        """
        m, n = len(self), len(self.xy)
        k = min(k, m - 1)
        if n > 1:
            near = _all_round(self.xy, min(k, n - 1))
            if m > n:
                fixed = self.row(n)[:n].argsort(kind="stable")  # the fixed ends, then any
                near = np.vstack([np.column_stack([np.full(n, n), near[:, : k - 1]]), fixed[:k]])
        else:
            walled = self.matrix.copy()
            np.fill_diagonal(walled, np.inf)
            near = np.argpartition(walled, k - 1, axis=1)[:, :k]
        costs = self.edges(np.repeat(np.arange(m), near.shape[1]), near.ravel()).reshape(near.shape)
        order = np.argsort(costs, axis=1, kind="stable")
        return (
            np.ascontiguousarray(np.take_along_axis(near, order, 1), dtype=np.int64),
            np.ascontiguousarray(np.take_along_axis(costs, order, 1)),
        )


def _all_round(xy: np.ndarray, k: int) -> np.ndarray:
    """(n, k) near points: two in each quadrant among the nearest 60, so that clusters are joined, then the nearest."""
    n = len(xy)
    _, near = cKDTree(xy).query(xy, k=min(60, n - 1) + 1)
    own = near == np.arange(n)[:, None]
    own[~own.any(1), -1] = True  # among points at one place a point need not be its own nearest
    near = near[~own].reshape(n, -1)
    quadrant = (xy[near] > xy[:, None]) @ np.array([1, 2])
    chosen = np.zeros(near.shape, bool)
    for q in range(4):
        inside = quadrant == q
        chosen |= inside & (np.cumsum(inside, axis=1) <= 2)
    order = np.argsort(~chosen, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(near, order, 1)

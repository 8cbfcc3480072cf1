"""From triangles that a network proposes to a triangulation of all points: its edges stay where they can.

Proposed edges go in by confidence, each by flips of the edges that it crosses (S. W. Sloan, A fast algorithm for
generating constrained Delaunay triangulations, 1993), unless one that went in before is crossed, or a point lies on it.
Signs are exact, so the outcome is a triangulation of all points, whatever was proposed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from ...data.geometry.instances import check_points
from ...data.geometry.predicates import Predicates
from ...data.geometry.triangulation import canonical_triangles, sweep_triangulation


def complete(xy: Any, triangles: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """(m, 3) int64, canonical: a triangulation of the points xy (n, 2), with the edges of `triangles`.

    Args:
        triangles: (k, 3) proposed, by indices of distinct points, the first at each place.
        confidence: (k,) of each; an edge has that of its surest triangle.
    """
    xy = check_points(xy)
    mesh = _Mesh(xy)
    for t in np.argsort(-confidence, kind="stable"):
        a, b, c = triangles[t].tolist()
        for edge in ((a, b), (b, c), (c, a)):
            mesh.lock(*edge)
    return mesh.triangles()


class _Mesh:
    """A triangulation as {directed edge: third corner to its left}, and an edge from each corner."""

    def __init__(self, xy: np.ndarray) -> None:
        self.xy, self.side = xy, Predicates(xy).side
        self.apex: dict[tuple[int, int], int] = {}
        self.spoke: dict[int, int] = {}
        self.locked: set[tuple[int, int]] = set()
        for a, b, c in sweep_triangulation(xy).tolist():
            self._put(a, b, c)

    def triangles(self) -> np.ndarray:
        rows = [(a, b, c) for (a, b), c in self.apex.items() if a < b and a < c]
        return canonical_triangles(self.xy, np.array(rows, np.int64).reshape(-1, 3))

    def lock(self, a: int, b: int) -> None:
        """Make a-b an edge that stays, if no locked edge crosses it and no point lies on it."""
        if a == b or a not in self.spoke or b not in self.spoke or _key(a, b) in self.locked:
            return
        if (a, b) not in self.apex and (b, a) not in self.apex:
            crossed = self._crossed(a, b)
            if crossed is None:
                return
            self._clear(a, b, deque(crossed))
        self.locked.add(_key(a, b))

    def _put(self, a: int, b: int, c: int) -> None:
        self.apex[a, b], self.apex[b, c], self.apex[c, a] = c, a, b
        self.spoke[a], self.spoke[b], self.spoke[c] = b, c, a

    def _around(self, a: int) -> Iterable[tuple[int, int]]:
        """The edges opposite a of all triangles at a."""
        first = self.spoke[a]
        b = first
        while (a, b) in self.apex:
            c = self.apex[a, b]
            yield b, c
            b = c
            if b == first:
                return
        b = first  # the border was met: the other way round
        while (b, a) in self.apex:
            c = self.apex[b, a]
            yield c, b
            b = c

    def _crossed(self, a: int, b: int) -> list[tuple[int, int]] | None:
        """The edges (right end, left end) that a-b crosses, from a on; None where one is locked or a point on a-b."""
        for right, left in self._around(a):
            s, t = self.side(a, b, right), self.side(a, b, left)
            if (s == 0 and self._between(a, b, right)) or (t == 0 and self._between(a, b, left)):
                return None
            if s < 0 < t:  # a triangle turns by less than half: it is the one ahead, not the one behind
                break
        else:
            return None
        edges = []
        while True:
            if _key(right, left) in self.locked:
                return None
            edges.append((right, left))
            c = self.apex[left, right]
            if c == b:
                return edges
            s = self.side(a, b, c)
            if s == 0:
                return None
            right, left = (right, c) if s > 0 else (c, left)

    def _between(self, a: int, b: int, c: int) -> bool:
        """Whether c, on the line through a and b, lies on b's side of a."""
        p, q, r = (tuple(self.xy[i]) for i in (a, b, c))
        return bool((r > p) == (q > p))

    def _clear(self, a: int, b: int, crossing: deque[tuple[int, int]]) -> None:
        """Flip until nothing crosses a-b."""
        while crossing:
            u, v = crossing.popleft()
            left, right = self.apex[u, v], self.apex[v, u]
            if (
                not self.side(right, left, u) > 0 > self.side(right, left, v)
            ):  # the other diagonal lies outside
                crossing.append((u, v))
                continue
            del self.apex[u, v], self.apex[v, u]
            self._put(u, right, left)
            self._put(v, left, right)
            if {left, right} & {a, b}:
                continue
            if self.side(a, b, left) != self.side(a, b, right):
                crossing.append((left, right))


def _key(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)

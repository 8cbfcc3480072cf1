"""Lawson's flips: from any triangulation to the Delaunay triangulation.

An edge whose far point lies inside the circle through the three others is exchanged for the other diagonal, until
none is left (C. L. Lawson, Software for C1 surface interpolation, 1977). The signs are exact, so it ends.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .instances import check_points
from .predicates import Predicates
from .triangulation import canonical_triangles, triangulation_fault


def flip_to_delaunay(xy: Any, triangles: Any, *, checked: bool = False) -> np.ndarray:
    """(m, 3) int64 Delaunay triangles, canonical, of a triangulation of the points xy (n, 2).

    Of four points on one circle the diagonal that is there stays.

    Args:
        checked: the triangles are known to be a triangulation; spares the look.

    Raises:
        ValueError: as `check_points`; the triangles are no triangulation of the points.
    """
    xy = check_points(xy)
    if not checked and (fault := triangulation_fault(xy, triangles)):
        raise ValueError(
            f"flips: not a triangulation of all points ({fault}); wanted one; complete it before, or start from "
            "sweep_triangulation"
        )
    rows = canonical_triangles(xy, triangles).tolist()
    in_circle = Predicates(xy).in_circle
    apex: dict[tuple[int, int], int] = {}
    for a, b, c in rows:
        apex[a, b], apex[b, c], apex[c, a] = c, a, b
    waiting = [(a, b) for a, b in apex if a < b]
    while waiting:
        a, b = waiting.pop()
        left, right = apex.get((a, b)), apex.get((b, a))
        if left is None or right is None or in_circle(a, b, left, right) <= 0:
            continue
        # a point inside the circle makes the four corners convex, so the other diagonal lies inside
        del apex[a, b], apex[b, a]
        apex[a, right], apex[right, left], apex[left, a] = left, a, right
        apex[right, b], apex[b, left], apex[left, right] = left, right, b
        waiting += [(a, right), (right, b), (b, left), (left, a)]
    found = [(a, b, c) for (a, b), c in apex.items() if a < b and a < c]
    return canonical_triangles(xy, np.array(found, np.int64).reshape(-1, 3))

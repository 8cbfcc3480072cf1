"""Delaunay triangulations in their canonical form, and how near another set of triangles comes.

Canonical: each triangle counter-clockwise from its smallest index, triangles in the order of their indices. Of points
at one place only the first in the input has triangles; points on one line, and fewer than three, have none. Where
four points lie on one circle several triangulations are Delaunay, and the one qhull chose stays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import Delaunay, QhullError

from .hull import distinct
from .instances import check_points
from .lawson import flip_to_delaunay
from .triangulation import canonical_triangles, sweep_triangulation, triangulation_fault


def delaunay_triangles(xy: Any) -> np.ndarray:
    """(m, 3) int64 Delaunay triangles of the points xy (n, 2), canonical.

    By scipy's qhull; where that left out a point, made a flat triangle or gave up, as it does on lattices and far from
    the origin, by a sweep. Edges that are not Delaunay to the last digit are flipped, so no label hangs on a tolerance.

    Raises:
        ValueError: as `check_points`.
    """
    xy = check_points(xy)
    first = np.array(distinct(xy), np.int64)
    if len(first) < 3:
        return np.zeros((0, 3), np.int64)
    triangles = _qhull(xy, first)
    if triangles is None or triangulation_fault(xy, triangles):
        triangles = sweep_triangulation(xy)
    return flip_to_delaunay(xy, triangles, checked=True)


def _qhull(xy: np.ndarray, first: np.ndarray) -> np.ndarray | None:
    points = xy[first]
    largest = np.abs(points).max()
    if largest > 0:
        points = np.ldexp(points, -np.frexp(largest)[1])
    try:
        found = Delaunay(points).simplices
    except (QhullError, ValueError):  # flat, or too many digits
        return None
    return canonical_triangles(xy, first[found])


def same_triangles(a: Any, b: Any) -> bool:
    """Whether two lists of triangles hold the same ones, in any order and rotation."""
    return _keys(a) == _keys(b)


def triangle_coverage(triangles: Any, truth: Any) -> float:
    """Share of the true triangles that are among `triangles`; 1.0 where there is none to find."""
    wanted = _keys(truth)
    return len(wanted & _keys(triangles)) / len(wanted) if wanted else 1.0


def triangle_precision(triangles: Any, truth: Any) -> float:
    """Share of `triangles` that are true; 1.0 where there is none."""
    got = _keys(triangles)
    return len(got & _keys(truth)) / len(got) if got else 1.0


def _keys(triangles: Any) -> set[tuple[int, ...]]:
    rows = np.asarray(triangles, np.int64).reshape(-1, 3)
    return set(map(tuple, np.sort(rows, axis=1).tolist()))

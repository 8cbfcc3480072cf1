"""Convex hulls in their canonical form, what is wrong with a polygon, and how near it comes.

Canonical: the corners only, counter-clockwise from the leftmost, then lowest point. No corner lies on the line
through its neighbours, and of points at one place the first in the input stands for all. Points on one line have the
hull of their two ends (the lesser x, then y, first), points at one place that of one point.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .instances import check_points
from .predicates import Predicates


def convex_hull(xy: Any) -> np.ndarray:
    """(h,) int64 corners of the hull of the points xy (n, 2), canonical, and exact for every input.

    The vertex sequence of scipy's qhull where no three points are nearly on a line. Qhull itself refuses flat inputs
    and drops corners within its tolerance, so that a label would depend on the scale of the coordinates.

    Raises:
        ValueError: as `check_points`.
    """
    xy = check_points(xy)
    order = distinct(xy)
    if len(order) < 3:
        return np.array(order, np.int64)
    side = Predicates(xy).side
    lower = _chain(order, side)
    upper = _chain(order[::-1], side)
    return np.array(lower[:-1] + upper[:-1], np.int64)


def distinct(xy: np.ndarray) -> list[int]:
    """The first point at each place, by x, then y."""
    order = np.lexsort((np.arange(len(xy)), xy[:, 1], xy[:, 0]))
    there = xy[order]
    new = np.ones(len(xy), bool)
    new[1:] = (there[1:] != there[:-1]).any(axis=1)
    return order[new].tolist()


def _chain(order: list[int], side: Any) -> list[int]:
    chain: list[int] = []
    for point in order:
        while len(chain) > 1 and side(chain[-2], chain[-1], point) <= 0:
            chain.pop()
        chain.append(point)
    return chain


def polygon_fault(xy: Any, polygon: Any) -> str:
    """What keeps `polygon` (h,) from being the convex hull of xy (n, 2) in any rotation; "" where nothing does.

    A point outside the polygon is a fault; so are a turn to the right, a turn of more than once round, a point that
    comes twice, and a corner on the line of its neighbours.

    Raises:
        ValueError: as `check_points`; the polygon holds points that are not there.
    """
    xy, polygon = check_points(xy), _corners(polygon, len(xy), "polygon")
    if len(polygon) == 0:
        return "no corner"
    if len(np.unique(polygon)) != len(polygon):
        return "a point comes twice"
    if len(polygon) < 3:
        truth = convex_hull(xy)
        return "" if same_place(xy, canonical_polygon(xy, polygon), truth) else "not the ends of a line"
    return _turning_fault(xy, polygon) or _outside_fault(xy, polygon)


def _turning_fault(xy: np.ndarray, polygon: np.ndarray) -> str:
    side, corners = Predicates(xy).side, polygon.tolist()
    for a, b, c in zip(corners, corners[1:] + corners[:1], corners[2:] + corners[:2], strict=True):
        if side(a, b, c) <= 0:
            return f"the corner {b} does not turn to the left"
    # left turns alone may go round more than once; once means one rise of the order by (x, y)
    rank = np.lexsort((xy[polygon, 1], xy[polygon, 0])).argsort()
    if ((rank < np.roll(rank, 1)) & (rank < np.roll(rank, -1))).sum() != 1:
        return "goes round more than once"
    return ""


def _outside_fault(xy: np.ndarray, polygon: np.ndarray) -> str:
    side, corners = Predicates(xy).side, polygon.tolist()
    for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
        for point in _perhaps_right(xy, a, b):
            if side(a, b, point) < 0:
                return f"the point {point} is outside the edge from {a} to {b}"
    return ""


def _perhaps_right(xy: np.ndarray, a: int, b: int) -> list[int]:
    """The points that floats cannot tell to be left of the line from a to b, and that need an exact look."""
    with np.errstate(over="ignore", invalid="ignore"):
        (ax, ay), (bx, by) = (xy[a] - xy).T, (xy[b] - xy).T
        left, right = ax * by, ay * bx
        sure = left - right > 1e-15 * (np.abs(left) + np.abs(right)) + 1e-280
    return np.flatnonzero(~sure).tolist()


def canonical_polygon(xy: Any, polygon: Any) -> np.ndarray:
    """A polygon of points of xy turned so that its leftmost, then lowest corner comes first; its direction stays."""
    xy, polygon = check_points(xy), _corners(polygon, len(xy), "polygon")
    if len(polygon) == 0:
        return polygon
    first = np.lexsort((xy[polygon, 1], xy[polygon, 0]))[0]
    return np.roll(polygon, -first)


def same_place(xy: np.ndarray, a: Any, b: Any) -> bool:
    """Whether two polygons go through the same places in the same order from the same start: exact, up to which of
    several points at one place is named."""
    a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
    return a.shape == b.shape and bool((xy[a] == xy[b]).all())


def polygon_area(xy: Any, polygon: Any) -> float:
    """Area in squares of the unit of xy, positive where the polygon goes counter-clockwise."""
    xy = np.asarray(xy, np.float64)
    polygon = _corners(polygon, len(xy), "polygon")
    if len(polygon) < 3:
        return 0.0
    x, y = (xy[polygon] - xy[polygon[0]]).T  # from a corner: no digits go to a far origin
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def area_ratio(xy: Any, polygon: Any, truth: Any) -> float:
    """Area of the polygon over that of the true hull; NaN for a polygon that crosses itself or goes clockwise.

    1.0 where the hull has no area.
    """
    xy = _to_unit(np.asarray(xy, np.float64))
    whole = polygon_area(xy, truth)
    if whole == 0.0:
        return 1.0
    if not is_simple(xy, polygon):
        return float("nan")
    return polygon_area(xy, polygon) / whole


def is_simple(xy: Any, polygon: Any) -> bool:
    """Whether the polygon goes counter-clockwise and its edges meet at shared corners only."""
    xy = _to_unit(np.asarray(xy, np.float64))
    corners = _corners(polygon, len(xy), "polygon").tolist()
    h, signs = len(corners), Predicates(xy).side
    if h < 3 or len(set(corners)) < h or polygon_area(xy, corners) <= 0:
        return False
    edges = list(zip(corners, corners[1:] + corners[:1], strict=True))
    for i, (a, b) in enumerate(edges):
        for c, d in edges[i + 1 :]:
            one, two = signs(a, b, c), signs(a, b, d)
            three, four = signs(c, d, a), signs(c, d, b)
            if len({a, b, c, d}) == 4:
                if one != two and three != four:
                    return False
                if one == two == 0 and _overlap(xy, a, b, c, d):
                    return False
            elif one == two == 0 and _overlap(xy, a, b, c, d):
                return False
    return True


def _to_unit(xy: np.ndarray) -> np.ndarray:
    """xy times a power of two, which costs no digit, so that areas neither overflow nor vanish."""
    largest = np.abs(xy - xy[:1]).max(initial=0.0)
    return np.ldexp(xy, -np.frexp(largest)[1]) if largest > 0 else xy


def _overlap(xy: np.ndarray, a: int, b: int, c: int, d: int) -> bool:
    """Whether two edges on one line share more than a point."""
    p, q = sorted([tuple(xy[a]), tuple(xy[b])])
    r, s = sorted([tuple(xy[c]), tuple(xy[d])])
    return max(p, r) < min(q, s)


def _corners(polygon: Any, n: int, place: str) -> np.ndarray:
    corners = np.asarray(polygon)
    if corners.size == 0:
        return np.zeros(0, np.int64)
    if corners.ndim != 1 or not np.issubdtype(corners.dtype, np.integer):
        raise ValueError(f"{place}: got {corners.dtype} of shape {corners.shape}; wanted (h,) whole numbers")
    if corners.min() < 0 or corners.max() >= n:
        raise ValueError(f"{place}: points from {corners.min()} to {corners.max()}; wanted 0 to {n - 1}")
    return corners.astype(np.int64)

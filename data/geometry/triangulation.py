"""Triangulations of a set of points: canonical order, what is wrong with one, and one made by a sweep."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from .hull import convex_hull, distinct
from .instances import check_points
from .predicates import Predicates


def canonical_triangles(xy: Any, triangles: Any) -> np.ndarray:
    """(m, 3) int64: each triangle counter-clockwise from its smallest index, rows in rising order.

    A flat triangle keeps the direction it has.

    Raises:
        ValueError: as `check_points`; another shape; points that are not there.
    """
    xy, rows = check_points(xy), check_triangles(triangles, len(xy))
    if len(rows) == 0:
        return rows
    side = Predicates(xy).side
    turned = np.array([side(a, b, c) < 0 for a, b, c in rows.tolist()])
    rows[turned] = rows[turned][:, [0, 2, 1]]
    start = rows.argmin(axis=1)
    rows = np.take_along_axis(rows, (start[:, None] + np.arange(3)) % 3, axis=1)
    return rows[np.lexsort(rows.T[::-1])]


def check_triangles(triangles: Any, n: int) -> np.ndarray:
    """(m, 3) int64, a copy, of triangles (m, 3) or flat (3 m,).

    Raises:
        ValueError: another shape, not whole numbers, points that are not there.
    """
    rows = np.array(triangles)
    if rows.size == 0:
        return np.zeros((0, 3), np.int64)
    if rows.ndim == 1 and rows.size % 3 == 0:
        rows = rows.reshape(-1, 3)
    if rows.ndim != 2 or rows.shape[1] != 3 or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(
            f"triangles: got {rows.dtype} of shape {rows.shape}; wanted (m, 3) whole numbers, or flat (3 m,)"
        )
    if rows.min() < 0 or rows.max() >= n:
        raise ValueError(f"triangles: points from {rows.min()} to {rows.max()}; wanted 0 to {n - 1}")
    return rows.astype(np.int64)


def triangulation_fault(xy: Any, triangles: Any) -> str:
    """What keeps `triangles` from being a triangulation of all points of xy (n, 2); "" where nothing does.

    Asked for: no flat triangle, no two that overlap, no gap up to the hull, a triangle at every place that has a point,
    one point for each place. Any direction of the triangles will do.

    Exact: triangles that all turn left, that use no directed edge twice, and whose edges without a partner go once
    round the hull, cover every place inside once.
    """
    xy = check_points(xy)
    rows = canonical_triangles(xy, triangles)
    hull = convex_hull(xy).tolist()
    if len(hull) < 3:
        return "triangles on a line" if len(rows) else ""
    side = Predicates(xy).side
    edges: set[tuple[int, int]] = set()
    for a, b, c in rows.tolist():
        if side(a, b, c) <= 0:
            return f"the triangle {a} {b} {c} is flat"
        for edge in ((a, b), (b, c), (c, a)):
            if edge in edges:
                return f"two triangles are on the same side of the edge {edge[0]} {edge[1]}"
            edges.add(edge)
    used = xy[np.unique(rows)]
    places = len(distinct(xy))
    if len(used) != places or len(np.unique(used, axis=0)) != places:
        return f"triangles have {len(used)} points; wanted one at each of {places} places"
    after = {a: b for a, b in edges if (b, a) not in edges}
    outside = sum((b, a) not in edges for a, b in edges)
    if outside != len(after):
        return "the border touches itself"
    return _border_fault(xy, after, hull, side)


def _border_fault(xy: np.ndarray, after: dict[int, int], hull: list[int], side: Any) -> str:
    """What keeps the border {point: next} from going once round the hull, through its corners and on its edges."""
    where = {tuple(xy[point]): point for point in after}
    corners = [where.get(tuple(xy[point]), -1) for point in hull]
    if -1 in corners:
        return f"the corner {hull[corners.index(-1)]} of the hull is not on the border"
    steps = 0
    for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
        point = a
        while point != b:
            point = after.get(point, -1)
            steps += 1
            if point < 0 or steps > len(after) or side(a, b, point) != 0:
                return f"the border leaves the edge of the hull from {a} to {b}"
    return "" if steps == len(after) else "there is a hole"


def sweep_triangulation(xy: Any) -> np.ndarray:
    """(m, 3) int64 triangles of the points xy (n, 2), canonical: some triangulation, exact for every input.

    Points come from left to right, and each is joined to all it sees of the hull of those before.
    """
    xy = check_points(xy)
    order, side = distinct(xy), Predicates(xy).side
    start = next((k for k in range(2, len(order)) if side(order[0], order[1], order[k])), None)
    if start is None:
        return np.zeros((0, 3), np.int64)
    # the first points are on a line: a fan from the first that is not
    line, tip = order[:start], order[start]
    if side(line[0], line[1], tip) < 0:
        line = line[::-1]
    triangles = [(a, b, tip) for a, b in pairwise(line)]
    after = dict(zip([*line, tip], [*line[1:], tip, line[0]], strict=True))
    before = {b: a for a, b in after.items()}
    last = tip
    for point in order[start + 1 :]:
        # the point before in the order is on the hull and in sight, with an edge to each side of it
        above, below = last, last
        while side(above, after[above], point) < 0:
            triangles.append((after[above], above, point))
            above = after[above]
        while side(before[below], below, point) < 0:
            triangles.append((below, before[below], point))
            below = before[below]
        after[below], before[point] = point, below
        after[point], before[above] = above, point
        last = point
    return canonical_triangles(xy, triangles)

"""Points of the plane to decode a problem in: its own, a map of the globe, or an embedding of its distances.

The network sees these; lengths are those of the problem.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from ...data.geometry.distances import EARTH_KM, dimensions
from ...data.geometry.tsplib import Problem

MERCATOR = 89.0
"""Degrees of latitude up to which routes are learned."""
MAX_EMBEDDED = 3000
"""Most nodes of a matrix that is embedded: that takes n^3 steps."""


def to_plane(problem: Problem) -> np.ndarray:
    """(n, 2) float64 points near which the problem's distances are about those of the plane.

    Coordinates of the plane as they are, whatever their distance; degrees on a map whose centre is that of the
    points (azimuthal equidistant: true close to the centre, ever less true far from it); points in space on the plane
    in which they spread most; distances by classical scaling, which is exact where they are those of a plane.

    Raises:
        ValueError: a matrix of more than `MAX_EMBEDDED` nodes.
    """
    if problem.kind == "EXPLICIT":
        return _embedded(problem)
    if problem.xy is None:
        raise ValueError(f"{problem.name}: kind {problem.kind} without coordinates; wanted them")
    if problem.kind == "haversine":
        return _map(np.radians(problem.xy))
    if problem.kind == "GEO":
        degrees = np.trunc(problem.xy)  # 38.24 is 38 degrees 24 minutes
        return _map(np.radians(degrees + 5.0 * (problem.xy - degrees) / 3.0))
    return _flat(problem.xy) if dimensions(problem.kind) == 3 else problem.xy


def to_city(problem: Problem) -> np.ndarray:
    """(n, 2) float64 places that are the same places in every problem, as routes are learned from.

    Coordinates of the plane as they are; degrees in km on Mercator's map, which keeps directions and, within a city,
    proportions: x to the east, y to the north.

    Raises:
        ValueError: distances without places, points in space, or a pole.
    """
    if problem.kind == "haversine" and problem.xy is not None:
        if (np.abs(problem.xy[:, 0]) > MERCATOR).any():
            raise ValueError(
                f"{problem.name}: a latitude beyond {MERCATOR} degrees, where Mercator's map ends"
            )
        latitude, longitude = np.radians(problem.xy).T
        return EARTH_KM * np.stack([longitude, np.arcsinh(np.tan(latitude))], axis=1)
    if problem.kind in ("EXPLICIT", "GEO") or problem.xy is None or problem.xy.shape[1] != 2:
        raise ValueError(
            f"{problem.name}: kind {problem.kind}; routes are learned from places: give x and y, or latitude and "
            "longitude in degrees"
        )
    return problem.xy


def to_unit(xy: np.ndarray) -> np.ndarray:
    """(n, 2) float32 in the unit box: moved in float64, and scaled by a power of two, which costs no digit."""
    away = xy - xy.min(axis=0)
    span = float(away.max(initial=0.0))
    return np.ldexp(away, -int(np.frexp(span)[1])).astype(np.float32) if span > 0 else away.astype(np.float32)


def _map(radians: np.ndarray) -> np.ndarray:
    latitude, longitude = radians.T
    level = np.cos(latitude)
    ball = np.stack([level * np.cos(longitude), level * np.sin(longitude), np.sin(latitude)], axis=1)
    middle = ball.mean(axis=0)
    size = np.linalg.norm(middle)
    up = middle / size if size > 1e-9 else ball[0]
    east = np.array([-up[1], up[0], 0.0])
    flat = np.linalg.norm(east)
    east = east / flat if flat > 1e-9 else np.array([0.0, 1.0, 0.0])
    x, y = ball @ east, ball @ np.cross(up, east)
    sine, cosine = np.hypot(x, y), ball @ up
    stretch = np.where(sine > 0, np.arctan2(sine, cosine) / np.where(sine > 0, sine, 1.0), 1.0)
    return np.stack([x * stretch, y * stretch], axis=1)


def _flat(xyz: np.ndarray) -> np.ndarray:
    centred = xyz - xyz.mean(axis=0)
    return centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T


def _embedded(problem: Problem) -> np.ndarray:
    matrix = problem.distances()
    n = len(matrix)
    if n > MAX_EMBEDDED:
        raise ValueError(
            f"{problem.name}: a matrix of {n} nodes, and a model decodes at most {MAX_EMBEDDED} of them; give "
            "coordinates, or take method 'search', which needs no points"
        )
    largest = float(matrix.max(initial=0.0))
    if n < 3 or largest == 0.0:
        return np.stack([matrix[0], np.zeros(n)], axis=1)
    squared = (matrix / largest) ** 2
    level = squared.mean(axis=0)
    gram = -0.5 * (squared - level - level[:, None] + level.mean())
    values, vectors = eigh(gram, subset_by_index=[n - 2, n - 1])
    return vectors * np.sqrt(np.maximum(values, 0.0)) * largest

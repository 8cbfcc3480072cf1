"""Points of a problem for hulls and triangulations, which are of the plane."""

from __future__ import annotations

import numpy as np

from ...data.geometry.tsplib import Problem


def planar_points(problem: Problem, place: str) -> np.ndarray:
    """(n, 2) float64 coordinates x, y.

    Raises:
        ValueError: the problem has degrees of latitude and longitude, distances, or points in space.
    """
    if problem.kind != "euclidean" or problem.xy is None or problem.xy.shape[1] != 2:
        raise ValueError(
            f"{place}: instance {problem.name} is of kind {problem.kind}; hulls and triangulations are of the plane, "
            "wanted columns x and y"
        )
    return problem.xy

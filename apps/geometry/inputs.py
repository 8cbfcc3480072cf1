"""What the estimators take for instances: one or many, as arrays, lists, tables, problems or paths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from ...data.battery.schema import near
from ...data.geometry.instances import check_matrix, check_points
from ...data.geometry.tables import problems_from, read_coordinates
from ...data.geometry.tsplib import Problem, read_tsp

Instances: TypeAlias = Any
"""(n, 2) points or an (n, n) matrix, a list or stack of them, a table, a `Problem` or a list of them, a path."""

METRICS = {"euclidean": "euclidean", "haversine": "haversine", "precomputed": "EXPLICIT"}
"""Names of metrics, and what problems call them."""


def problems_of(X: Instances, metric: str = "euclidean", place: str = "X") -> tuple[list[Problem], bool]:
    """The instances in X, and whether X is a single one.

    One: (n, 2) points, (n, n) distances, a table of x and y without instances, a `Problem`, the path of a .tsp file.
    Many: a list of those, a stack (B, n, 2), a table with instances or lists, the path of a table. Tables of latitude
    and longitude are on the globe whatever the metric.

    Raises:
        ValueError: an unknown metric; no instance, or one that is not sound; the message names it.
    """
    if metric not in METRICS:
        raise ValueError(f"metric is {near(str(metric), METRICS)}; wanted one of {', '.join(METRICS)}")
    if isinstance(X, Problem):
        return [X], True
    if isinstance(X, str | os.PathLike):
        return _read(Path(X))
    if isinstance(X, pl.DataFrame):
        many = "instance" in X.columns or any(isinstance(d, pl.List | pl.Array) for d in X.dtypes)
        return problems_from(X, place), not many
    if hasattr(X, "columns") or _depth(X, place) == 2:
        return [_problem(X, metric, place, "0")], True
    if len(X) == 0:
        raise ValueError(f"{place}: no instances; wanted at least one")
    return [_problem(one, metric, f"{place}[{i}]", str(i)) for i, one in enumerate(X)], False


def points_of(X: Instances, place: str = "X") -> tuple[list[Problem], bool]:
    """As `problems_of`, for what needs points of the plane.

    Raises:
        ValueError: as there; coordinates of the globe, a matrix, points in space.
    """
    problems, single = problems_of(X, place=place)
    for problem in problems:
        if problem.xy is None or problem.xy.shape[1] != 2 or problem.kind in ("haversine", "GEO"):
            raise ValueError(
                f"{place}: instance {problem.name} is {problem.kind}; wanted points of the plane; project them first"
            )
    return problems, single


def _read(path: Path) -> tuple[list[Problem], bool]:
    return (
        ([read_tsp(path)], True)
        if path.suffix.lower() in (".tsp", ".gz")
        else (read_coordinates(path), False)
    )


def _problem(one: Any, metric: str, place: str, name: str) -> Problem:
    if isinstance(one, Problem):
        return one
    if isinstance(one, str | os.PathLike):
        return _read(Path(one))[0][0]
    if metric == "precomputed":
        return Problem(name, None, check_matrix(one, place), "EXPLICIT")
    xy = check_points(one, place)
    if metric == "haversine" and (wrong := np.abs(xy[:, 0]) > 90).any():
        at = int(wrong.argmax())
        raise ValueError(
            f"{place}: latitude {xy[at, 0]:g} at point {at}; wanted -90 to 90; (latitude, longitude) is the order"
        )
    return Problem(name, xy, None, METRICS[metric])


def _depth(X: Any, place: str) -> int:
    """2 for one instance, 3 for many: looked up along first elements, since many may have several sizes."""
    depth, at = 0, X
    while isinstance(at, Sequence | np.ndarray) and not isinstance(at, str):
        depth += 1
        if len(at) == 0:
            break
        at = at[0]
    if hasattr(at, "columns") or isinstance(at, Problem | str | os.PathLike):
        return 3
    if depth not in (2, 3) and not (depth == 1 and isinstance(X, Sequence) and len(X) == 0):
        shape = getattr(X, "shape", f"{depth} levels of lists")
        raise ValueError(
            f"{place}: got {type(X).__name__} of shape {shape}; wanted (n, 2) points, or a list or stack of them"
        )
    return depth

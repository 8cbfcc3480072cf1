"""Instances: sets of points made from a seed, and the checks of points, matrices and tours that come from outside.

Every maker gives (n, 2) float64 and depends on kind, n and seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

LARGEST = 1e300
"""Largest coordinate or distance that is taken: beyond it lengths of tours would overflow."""


def _uniform(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.random((n, 2))


def _clustered(n: int, rng: np.random.Generator) -> np.ndarray:
    centres = rng.random((rng.integers(1, 8), 2))
    return centres[rng.integers(len(centres), size=n)] + rng.normal(scale=0.03, size=(n, 2))


def _grid(n: int, rng: np.random.Generator) -> np.ndarray:
    side = int(np.ceil(np.sqrt(n)))
    places = rng.permutation(side * side)[:n]
    return np.stack([places % side, places // side], axis=1) / max(side - 1, 1)


def _collinear(n: int, rng: np.random.Generator) -> np.ndarray:
    # small whole numbers: the points are on the line exactly, not up to rounding
    step = rng.integers(-8, 9, size=2)
    step[0] += not step.any()
    return np.outer(rng.permutation(n), step).astype(np.float64)


def _circle(n: int, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi, n)
    return 0.5 + 0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _duplicates(n: int, rng: np.random.Generator) -> np.ndarray:
    places = rng.random((max(1, n // 3), 2))
    return places[rng.integers(len(places), size=n)]


_MAKERS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "uniform": _uniform,
    "clustered": _clustered,
    "grid": _grid,
    "collinear": _collinear,
    "circle": _circle,
    "duplicates": _duplicates,
}

KINDS = tuple(_MAKERS)
"""What `generate` makes: points of the unit square, in 1 to 7 clusters, of a lattice, on one line, on a circle, and
about three to a place."""


def generate(kind: str, n: int, seed: int | np.random.Generator) -> np.ndarray:
    """(n, 2) float64 points of one of `KINDS`, in random order.

    Raises:
        ValueError: unknown kind; n below 1.
    """
    if kind not in _MAKERS:
        raise ValueError(f"generate: no kind {kind!r}; wanted one of {', '.join(_MAKERS)}")
    if n < 1:
        raise ValueError(f"generate: n is {n}; wanted 1 or more")
    return _MAKERS[kind](n, np.random.default_rng(seed))


def stream(
    kinds: str | Sequence[str], sizes: int | tuple[int, int], seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Without end: a kind of `kinds` and its points, n drawn from `sizes` (one n, or the first and the last)."""
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    first, last = (sizes, sizes) if isinstance(sizes, int) else sizes
    rng = np.random.default_rng(seed)
    while True:
        kind = kinds[rng.integers(len(kinds))]
        yield kind, generate(kind, int(rng.integers(first, last + 1)), rng)


def check_points(points: Any, place: str = "points", dimensions: int = 2) -> np.ndarray:
    """`points` as (n, dimensions) float64, a copy: from nested lists, an array, or a polars frame of the columns x, y.

    Args:
        place: where they come from, for the message.

    Raises:
        ValueError: no points, another shape, not numbers, NaN, infinite, or beyond `LARGEST`.
    """
    xy = _numbers(points, place)
    if xy.ndim != 2 or xy.shape[1] != dimensions:
        raise ValueError(f"{place}: got shape {xy.shape}; wanted (n, {dimensions}), a row for each point")
    if len(xy) == 0:
        raise ValueError(f"{place}: got no points; wanted 1 or more")
    _refuse_beyond(xy, place)
    return xy


def check_matrix(matrix: Any, place: str = "matrix") -> np.ndarray:
    """`matrix` as (n, n) float64 distances, a copy with 0 on the diagonal, whatever stood there.

    Differences between the two sides of up to 1e-9 of the largest distance are rounding, and averaged.

    Raises:
        ValueError: not square, not numbers, NaN, infinite, negative, or not symmetric.
    """
    d = _numbers(matrix, place)
    if d.ndim != 2 or d.shape[0] != d.shape[1] or len(d) == 0:
        raise ValueError(f"{place}: got shape {d.shape}; wanted (n, n), a row and a column for each node")
    np.fill_diagonal(d, 0.0)
    _refuse_beyond(d, place)
    if (d < 0).any():
        i, j = np.argwhere(d < 0)[0]
        raise ValueError(f"{place}: the distance from {i} to {j} is {d[i, j]:g}; wanted 0 or more")
    apart = np.abs(d - d.T)
    if (apart > 1e-9 * d.max()).any():
        i, j = np.unravel_index(apart.argmax(), d.shape)
        raise ValueError(
            f"{place}: not symmetric: {d[i, j]:g} from {i} to {j}, {d[j, i]:g} back; wanted the same both ways; "
            "asymmetric problems are not solved here"
        )
    return (d + d.T) / 2 if apart.any() else d


def check_tour(tour: Any, n: int, place: str = "tour") -> np.ndarray:
    """`tour` as (n,) int64, every node from 0 to n - 1 once.

    Raises:
        ValueError: not whole numbers, another length, a node that is not there, comes twice or is left out.
    """
    given = _numbers(tour, place)
    if given.ndim != 1 or len(given) != n:
        raise ValueError(f"{place}: got shape {given.shape}; wanted ({n},), each of {n} nodes once")
    wrong = ~((given >= 0) & (given < n) & (given == np.floor(given)))
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(
            f"{place}: node {given[at]:g} at place {at}; wanted whole numbers from 0 to {n - 1} "
            "(TSPLIB files count from 1; read_tour takes care of it)"
        )
    nodes = given.astype(np.int64)
    times = np.bincount(nodes, minlength=n)
    if (times != 1).any():
        raise ValueError(
            f"{place}: node {int(times.argmax())} comes {times.max()} times and node {int(times.argmin())} never; "
            "wanted each once"
        )
    return nodes


def _numbers(values: Any, place: str) -> np.ndarray:
    if hasattr(values, "columns") and {"x", "y"} <= set(values.columns):
        values = values.select("x", "y") if hasattr(values, "select") else values[["x", "y"]]
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    try:
        array = np.asarray(values)
        if np.iscomplexobj(array):
            raise TypeError("complex numbers")
        return np.array(array, np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: not a table of numbers ({error}); wanted rows of one length") from error


def _refuse_beyond(values: np.ndarray, place: str) -> None:
    fine = np.abs(values) <= LARGEST
    if not fine.all():
        at = np.argwhere(~fine)[0]
        raise ValueError(
            f"{place}: {values[tuple(at)]} in row {at[0]}, column {at[1]} (from 0), {(~fine).sum()} such values; "
            f"wanted numbers up to {LARGEST:g}; leave these points out or correct them"
        )

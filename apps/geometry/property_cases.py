"""Cases for properties that every answer must have: points of any kind, number, scale and form; and unsound ones.

A case depends on the seed and its number alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ...data.geometry.instances import KINDS, generate

SIZES = ((1, 12, 0.5), (13, 60, 0.3), (61, 250, 0.15), (251, 1000, 0.05))
"""First and last n, and their share of the cases: what breaks things breaks few points as often as many."""

SCALES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as made": lambda xy: xy,
    "huge": lambda xy: _unit(xy) * 9e299,
    "tiny": lambda xy: _unit(xy) * 1e-300,
    "far away": lambda xy: _unit(xy) + 1e7,
    "flat": lambda xy: _unit(xy) * (1.0, 1e-9),
    "mixed": lambda xy: _unit(xy) ** 9 * 1e6,
}
"""What is done to the coordinates."""

FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "float64": lambda xy: xy,
    "float32": lambda xy: xy.astype(np.float32),
    "lists": lambda xy: xy.tolist(),
    "polars": lambda xy: pl.DataFrame(xy, schema=["x", "y"], orient="row"),
    "columns": np.asfortranarray,
}
"""How they are handed over."""


@dataclass(frozen=True, eq=False)
class Case:
    """given: points in one of `FORMS`. xy: (n, 2) float64, the same numbers.

    closed, start, end: of the tour that is asked for. rng: for what else is drawn.
    """

    name: str
    kind: str
    given: Any
    xy: np.ndarray
    closed: bool
    start: int | None
    end: int | None
    rng: np.random.Generator

    @property
    def ends(self) -> dict[str, Any]:
        """Keywords of `search` and its like."""
        return {"closed": self.closed, "start": self.start, "end": self.end}


def cases(number: int, seed: int, largest: int = 1000) -> Iterator[Case]:
    """`number` cases of at most `largest` points, kinds in turn."""
    shares = [share for *_, share in SIZES]
    for i in range(number):
        rng = np.random.default_rng((seed, i))
        first, last, _ = SIZES[rng.choice(len(SIZES), p=shares)]
        n = min(int(rng.integers(first, last + 1)), largest)
        kind = KINDS[i % len(KINDS)]
        scale, form = str(rng.choice(list(SCALES))), str(rng.choice(list(FORMS)))
        if form == "float32" and scale in ("huge", "tiny"):
            form = "float64"  # there are no such float32
        xy = SCALES[scale](generate(kind, n, rng))
        given = FORMS[form](xy)
        xy = np.asarray(given, np.float64) if form == "float32" else np.asarray(xy, np.float64)
        closed, start, end = bool(rng.random() < 0.5), None, None
        ends = rng.permutation(n)[:2].tolist()
        if rng.random() < 0.5:
            start = ends[0]
        if not closed and n > 1 and rng.random() < 0.5:
            end = ends[1]
        yield Case(f"{seed}/{i}: {n} {kind}, {scale}, {form}", kind, given, xy, closed, start, end, rng)


def broken_points(case: Case) -> Iterator[tuple[str, Any]]:
    """Points that must be refused, made from a sound case."""
    n = len(case.xy)
    i, j = int(case.rng.integers(n)), int(case.rng.integers(2))
    for value in (np.nan, np.inf, -np.inf, 1e301):
        xy = case.xy.copy()
        xy[i, j] = value
        yield f"{value} in row {i}", xy
    yield "three columns", np.column_stack([case.xy, np.zeros(n)]) if n != 3 else np.zeros((3, 4))
    yield "one column", case.xy[:, :1] if n > 1 else np.zeros((4, 1))
    yield "flat", case.xy.ravel()
    yield "no points", np.zeros((0, 2))
    yield "rows of several lengths", [[0.0, 1.0], [2.0]]
    yield "words", [["a", "b"]] * n
    yield "complex", case.xy * 1j
    yield "a missing value", [[None, 1.0]] * n


def broken_matrices(case: Case) -> Iterator[tuple[str, Any]]:
    """Distances that must be refused."""
    n = max(len(case.xy), 3)
    sound = np.abs(np.subtract.outer(np.arange(n), np.arange(n))).astype(float)
    i = int(case.rng.integers(n - 1))
    for name, value in (("NaN", np.nan), ("inf", np.inf), ("negative", -1.0)):
        matrix = sound.copy()
        matrix[i, i + 1] = matrix[i + 1, i] = value
        yield name, matrix
    matrix = sound.copy()
    matrix[i, i + 1] += 0.5
    yield "asymmetric", matrix
    yield "not square", sound[:, :-1]
    yield "flat", sound.ravel()
    yield "no nodes", np.zeros((0, 0))


def _unit(xy: np.ndarray) -> np.ndarray:
    """Into [-1, 1], sharp: points at one place stay there."""
    return xy / max(float(np.abs(xy).max()), 1e-300)

"""Convex hulls from a bundle, without torch: the graph goes round the points, exact arithmetic looks after it.

The graph's masks keep the polygon strictly convex up to the rounding of float32. What rounding lets through, as near
a lattice or far from the origin, is mended by the exact hull of the corners chosen, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ...data.geometry.hull import convex_hull, polygon_area
from ...data.geometry.instances import check_points
from ...data.geometry.tables import problems_from
from ..bundle import Bundle, open_bundle
from ..session import Device
from .planar import planar_points
from .plane import to_unit

MOST_ROWS = 256
MOST_NODES = 1 << 17
"""Instances, and their points with the padding, of one run of the graph."""
PADDED = 1.1
"""A run holds instances of up to so many times the points of its smallest."""


@dataclass(frozen=True, eq=False)
class Hull:
    """hull: (h,) int64 corners, always a strictly convex polygon, counter-clockwise from the leftmost, then lowest
    (one or two points where all are on a line). proposed: (k,) as decoded. repaired: whether that was no such polygon.
    log_p: log-probability of the choices made."""

    hull: np.ndarray
    proposed: np.ndarray
    repaired: bool
    log_p: float


class HullPredictor:
    """Convex hulls by a bundle of task "hull".

    Args:
        bundle: a folder, an opened bundle, or the name of a shipped one.
        device, threads: as `open_session`.

    Raises:
        ValueError: as `open_bundle`; the bundle is of another task.
    """

    def __init__(
        self, bundle: str | Path | Bundle = "hull", *, device: Device = "auto", threads: int = 0
    ) -> None:
        self.bundle = open_bundle(bundle)
        if self.bundle.task != "hull":
            raise ValueError(
                f"{self.bundle.path}: a bundle of task '{self.bundle.task}'; wanted one of task 'hull'"
            )
        self._session = self.bundle.session("greedy.onnx", device=device, threads=threads)

    def predict(self, points: Sequence[Any]) -> list[np.ndarray]:
        """(h,) int64 corners of each (n, 2) of `points`.

        Raises:
            ValueError: as `check_points`, with the number of the instance.
        """
        return [one.hull for one in self.answer(points)]

    def predict_frame(self, frame: pl.DataFrame, *, place: str = "table") -> pl.DataFrame:
        """`instance, hull, area` of a table as `problems_from` takes it; the area in squares of its unit."""
        problems = problems_from(frame, place)
        points = [planar_points(problem, place) for problem in problems]
        hulls = self.predict(points)
        return pl.DataFrame(
            [
                pl.Series("instance", [problem.name for problem in problems], pl.String),
                pl.Series("hull", [hull.tolist() for hull in hulls], pl.List(pl.Int64)),
                pl.Series(
                    "area", [polygon_area(*pair) for pair in zip(points, hulls, strict=True)], pl.Float64
                ),
            ]
        )

    def answer(self, points: Sequence[Any]) -> list[Hull]:
        """As `predict`, with what was decoded and whether it was repaired."""
        clean = [check_points(xy, f"instance {i}") for i, xy in enumerate(points)]
        out: dict[int, Hull] = {}
        for batch in _batches(sorted(range(len(clean)), key=lambda i: len(clean[i])), clean):
            for i, decoded, log_p in zip(batch, *self._decoded([clean[i] for i in batch]), strict=True):
                out[i] = _repaired(clean[i], decoded[decoded >= 0], float(log_p))
        return [out[i] for i in range(len(clean))]

    def _decoded(self, points: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        sizes = np.array([len(xy) for xy in points])
        real = np.arange(sizes.max()) < sizes[:, None]
        unit = np.zeros((*real.shape, 2), np.float32)
        unit[real] = np.concatenate([to_unit(xy) for xy in points])
        hull, log_p = self._session.run(["hull", "log_p"], {"xy": unit, "real": real})
        return hull, log_p


def _repaired(xy: np.ndarray, decoded: np.ndarray, log_p: float) -> Hull:
    proposed = _first_there(xy, decoded)
    hull = proposed[convex_hull(xy[proposed])]
    if len(hull) < 3:  # the corners are on a line: either all points are, or rounding hid the others
        hull = convex_hull(xy)
    return Hull(hull, proposed, not np.array_equal(hull, proposed), log_p)


def _first_there(xy: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Of the points at the place of each corner the first."""
    same = (xy[None] == xy[corners][:, None]).all(-1)
    return same.argmax(1).astype(np.int64)


def _batches(order: Sequence[int], points: Sequence[np.ndarray]) -> Iterator[list[int]]:
    """`order`, by rising size, in pieces of like size."""
    batch: list[int] = []
    for i in order:
        n = len(points[i])
        full = len(batch) == MOST_ROWS or n * (len(batch) + 1) > MOST_NODES
        if batch and (full or n > PADDED * len(points[batch[0]])):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch

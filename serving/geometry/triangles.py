"""Delaunay triangulations from a bundle, without torch: an advancing front asks the graph for the apex of every edge.

A front grows from one edge, that of a point and its nearest neighbour. In every wave the graph is asked for the third
corner left of all edges that are open. What it proposes is checked in exact arithmetic. Where that is no triangulation
of all points, it is completed to one that keeps the proposed edges, the surest first, as far as they do not cross. So
an answer is always a triangulation, of any points; how often it took a repair is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ...data.geometry.hull import distinct
from ...data.geometry.instances import check_points
from ...data.geometry.lawson import flip_to_delaunay
from ...data.geometry.predicates import Predicates
from ...data.geometry.tables import problems_from
from ...data.geometry.triangulation import canonical_triangles, triangulation_fault
from ..bundle import Bundle, open_bundle
from ..session import Device
from .completing import complete
from .planar import planar_points
from .plane import to_unit

MOST_CELLS = 1 << 21
"""Edges times points of one run of the graph, at most."""
MOST_ROWS = 256
"""Instances whose fronts grow together."""


@dataclass(frozen=True, eq=False)
class Triangulated:
    """triangles: (m, 3) int64, canonical, always a triangulation of all points (none where these are on a line).
    proposed: (k, 3) what the network proposed. repaired: whether that was no triangulation. flips: whether Lawson's
    flips followed."""

    triangles: np.ndarray
    proposed: np.ndarray
    repaired: bool
    flipped: bool


class DelaunayPredictor:
    """Triangulations by a bundle of task "delaunay".

    Args:
        bundle: a folder, an opened bundle, or the name of a shipped one.
        flips: flip the edges that are not Delaunay, in exact arithmetic: the answer then is the Delaunay triangulation.
        device, threads: as `open_session`.

    Raises:
        ValueError: as `open_bundle`; the bundle is of another task.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle = "delaunay",
        *,
        flips: bool = False,
        device: Device = "auto",
        threads: int = 0,
    ) -> None:
        self.bundle = open_bundle(bundle)
        if self.bundle.task != "delaunay":
            raise ValueError(
                f"{self.bundle.path}: a bundle of task '{self.bundle.task}'; wanted one of task 'delaunay'"
            )
        self.flips = flips
        self._session = self.bundle.session("apex.onnx", device=device, threads=threads)

    def predict(self, points: Sequence[Any]) -> list[np.ndarray]:
        """(m, 3) int64 triangles of each (n, 2) of `points`: counter-clockwise from the smallest index, in order.

        Raises:
            ValueError: as `check_points`, with the number of the instance.
        """
        return [one.triangles for one in self.answer(points)]

    def predict_frame(self, frame: pl.DataFrame, *, place: str = "table") -> pl.DataFrame:
        """`instance, triangles` (flat list, three indices each) of a table as `problems_from` takes it."""
        problems = problems_from(frame, place)
        answers = self.predict([planar_points(problem, place) for problem in problems])
        triangles = pl.Series("triangles", [rows.ravel().tolist() for rows in answers], pl.List(pl.Int64))
        return pl.DataFrame(
            [pl.Series("instance", [problem.name for problem in problems], pl.String), triangles]
        )

    def answer(self, points: Sequence[Any]) -> list[Triangulated]:
        """As `predict`, with what was proposed and whether it was repaired."""
        clean = [check_points(xy, f"instance {i}") for i, xy in enumerate(points)]
        fronts = [_Front(xy) for xy in clean]
        waiting = sorted((i for i, front in enumerate(fronts) if front.open), key=lambda i: len(clean[i]))
        for first in range(0, len(waiting), MOST_ROWS):
            self._grow([fronts[i] for i in waiting[first : first + MOST_ROWS]])
        return [self._finished(front) for front in fronts]

    def _grow(self, fronts: Sequence[_Front]) -> None:
        growing = list(fronts)
        while growing:
            for batch in _batches(growing):
                edges = [front.wave() for front in batch]
                for front, edge, (apex, log_p) in zip(batch, edges, self._apexes(batch, edges), strict=True):
                    front.grow(edge, apex, log_p)
            growing = [front for front in growing if front.open]

    def _apexes(
        self, fronts: Sequence[_Front], edges: Sequence[np.ndarray]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        sizes = np.array([len(front.unit) for front in fronts])
        real = np.arange(sizes.max()) < sizes[:, None]
        xy = np.zeros((*real.shape, 2), np.float32)
        xy[real] = np.concatenate([front.unit for front in fronts])
        number = np.repeat(np.arange(len(fronts)), [len(edge) for edge in edges])
        edge = np.column_stack([number, np.concatenate(edges)])
        step = max(1, MOST_CELLS // xy.shape[1])
        parts = [
            self._ask({"xy": xy, "real": real, "edge": edge[start : start + step]})
            for start in range(0, len(edge), step)
        ]
        apex, log_p = (np.concatenate(part) for part in zip(*parts, strict=True))
        ends = np.cumsum([len(edge) for edge in edges])[:-1]
        return list(zip(np.split(apex, ends), np.split(log_p, ends), strict=True))

    def _ask(self, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        answers: list[np.ndarray] = self._session.run(["apex", "log_p"], given)
        return answers

    def _finished(self, front: _Front) -> Triangulated:
        xy, proposed = front.xy, canonical_triangles(front.xy, front.proposed())
        triangles, repaired = proposed, bool(triangulation_fault(xy, proposed))
        if repaired:
            triangles = complete(xy, front.proposed(), np.array(front.confidence))
        if self.flips:
            triangles = flip_to_delaunay(xy, triangles, checked=True)
        return Triangulated(triangles, proposed, repaired, self.flips)


class _Front:
    """Triangles proposed so far for the distinct points of xy (n, 2), and the directed edges that have none yet."""

    def __init__(self, xy: np.ndarray) -> None:
        self.xy = xy
        self.first = np.sort(np.array(distinct(xy), np.int64))
        there = xy[self.first]
        self.unit = to_unit(there)
        self.side = Predicates(there).side
        self.triangles: list[tuple[int, int, int]] = []
        self.confidence: list[float] = []
        self.open: dict[tuple[int, int], None] = {}
        self._known: set[tuple[int, int]] = set()
        self._taken: set[tuple[int, int]] = set()
        if len(there) > 2:
            a, b = self._nearest()
            self.open = {(a, b): None, (b, a): None}

    def _nearest(self) -> tuple[int, int]:
        """A point and its nearest neighbour: always an edge of the Delaunay triangulation."""
        away = self.xy[self.first]
        a = int(np.lexsort((away[:, 1], away[:, 0]))[0])
        away = away - away[a]
        away = np.ldexp(away, -int(np.frexp(np.abs(away).max())[1]))
        far = np.hypot(away[:, 0], away[:, 1])
        far[a] = np.inf
        return a, int(far.argmin())

    def wave(self) -> np.ndarray:
        """The open edges (e, 2) int64; they are closed."""
        edges = np.array(list(self.open), np.int64).reshape(-1, 2)
        self._known.update(self.open)
        self.open = {}
        return edges

    def grow(self, edges: np.ndarray, apex: np.ndarray, log_p: np.ndarray) -> None:
        """Take the apexes of edges whose triangle fits those before; open the edges beyond it."""
        order = np.argsort(-log_p, kind="stable")  # the surest first
        for (a, b), c, p in zip(
            edges[order].tolist(), apex[order].tolist(), log_p[order].tolist(), strict=True
        ):
            if c < 0 or len(self.triangles) >= 2 * len(self.first) or self.side(a, b, c) <= 0:
                continue
            if any(edge in self._taken for edge in ((a, b), (b, c), (c, a))):
                continue
            self._taken.update(((a, b), (b, c), (c, a)))
            self.triangles.append((a, b, c))
            self.confidence.append(p)
            for edge in ((c, b), (a, c)):
                if edge not in self._taken and edge not in self._known:
                    self.open[edge] = None
        for edge in [edge for edge in self.open if edge in self._taken]:
            del self.open[edge]

    def proposed(self) -> np.ndarray:
        """(k, 3) int64, by indices of xy."""
        return self.first[np.array(self.triangles, np.int64).reshape(-1, 3)]


def _batches(fronts: Sequence[_Front]) -> list[list[_Front]]:
    """Fronts, by rising number of points, in pieces of like size."""
    batches: list[list[_Front]] = []
    for front in fronts:
        if not batches or len(front.unit) > 1.2 * len(batches[-1][0].unit) + 8:
            batches.append([])
        batches[-1].append(front)
    return batches

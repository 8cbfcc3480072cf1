"""Tours from the graphs of a bundle: batches of like size in, permutations out, whatever the points are.

The graph sees distinct points in the unit box. Points in one place, up to float32, go in as one and come out one
after the other, so that no digit of the input decides whether a network copes with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from ..bundle import Bundle
from ..session import Device
from .plane import to_unit

MOST_ROWS = {"greedy.onnx": 256, "beam.onnx": 32}
"""Instances of one run of a graph, at most; a beam is many rows of one instance."""
MOST_NODES = 1 << 18
"""Nodes of one run of a graph, padding included, where it has more than one instance."""
PADDED = 1.1
"""A run holds instances of up to so many times the nodes of its smallest."""


@dataclass(frozen=True, eq=False)
class Task:
    """What to decode: xy (n, 2) float64, and where the path starts and ends; the same node for a closed tour."""

    xy: np.ndarray
    head: int
    tail: int


@dataclass(frozen=True, eq=False)
class Decoded:
    """tour: (n,) int64 from head to tail. log_p: log-probability of the choices made, 0 where there was none."""

    tour: np.ndarray
    log_p: float


class TourDecoder:
    """The graphs of a bundle of task "tsp" and kind "points".

    Graphs without the inputs `head` and `tail`, as those of a plain pointer network, know closed tours alone: to a path
    between given ends the end is moved behind the others.

    Args:
        bundle: an opened bundle.
        device, threads: as `open_session`.
    """

    def __init__(self, bundle: Bundle, *, device: Device = "auto", threads: int = 0) -> None:
        self.bundle, self._device, self._threads = bundle, device, threads
        self._sessions: dict[str, ort.InferenceSession] = {}

    def decode(self, tasks: Sequence[Task], graph: str = "greedy.onnx") -> list[Decoded]:
        """The answers of one graph, in the order of the tasks.

        Raises:
            ValueError: the bundle has no such graph; it gave something that is no tour.
        """
        places = [_Places.of(task) for task in tasks]
        out: list[Decoded | None] = [
            None if p.wanted else p.back(np.arange(len(p.unit)), 0.0) for p in places
        ]
        wanted = sorted((i for i, p in enumerate(places) if p.wanted), key=lambda i: len(places[i].unit))
        for batch in _batches(wanted, [len(p.unit) for p in places], MOST_ROWS.get(graph, 32)):
            for i, (tour, log_p) in zip(batch, self._run(graph, [places[i] for i in batch]), strict=True):
                out[i] = places[i].back(tour, log_p)
        return [one for one in out if one is not None]

    def _run(self, graph: str, places: Sequence[_Places]) -> Iterator[tuple[np.ndarray, float]]:
        if graph not in self._sessions:
            self._sessions[graph] = self.bundle.session(graph, device=self._device, threads=self._threads)
        sizes = np.array([len(p.unit) for p in places])
        real = np.arange(sizes.max()) < sizes[:, None]
        xy = np.zeros((*real.shape, 2), np.float32)
        xy[real] = np.concatenate([p.unit for p in places])
        ends = np.array([(p.head, p.tail) for p in places], np.int64)
        given = {"xy": xy, "real": real, "head": ends[:, 0], "tail": ends[:, 1]}
        session = self._sessions[graph]
        known = [one.name for one in session.get_inputs()]
        tours, log_p = session.run(["tour", "log_p"], {name: given[name] for name in known})
        for place, row, p in zip(places, tours, log_p, strict=True):
            tour = np.asarray(row[: len(place.unit)], np.int64)
            if "head" not in known:
                tour = place.turned(tour)
            if not place.fits(tour):
                raise ValueError(
                    f"{self.bundle.path}: {graph} gave {tour[:6].tolist()}... for {len(tour)} points, which is no tour "
                    f"from {place.head} to {place.tail}; export the bundle again"
                )
            yield tour, float(p)


@dataclass(frozen=True, eq=False)
class _Places:
    """A task as the graph sees it: unit (m, 2) float32 distinct places, and the place (n,) of every point."""

    task: Task
    unit: np.ndarray
    place: np.ndarray
    head: int
    tail: int

    @classmethod
    def of(cls, task: Task) -> _Places:
        unit = to_unit(task.xy)
        _, first, place = np.unique(unit, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first)  # places in the order of the input, not by coordinates
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        place = rank[place.reshape(-1)]
        return cls(task, unit[first[order]], place, int(place[task.head]), int(place[task.tail]))

    @property
    def wanted(self) -> bool:
        """Whether there is anything to decide: three places have one closed tour."""
        return len(self.unit) > 3

    def fits(self, tour: np.ndarray) -> bool:
        n = len(self.unit)
        whole = len(tour) == n and (np.sort(tour) == np.arange(n)).all()
        return bool(whole and tour[0] == self.head and (self.head == self.tail or tour[-1] == self.tail))

    def turned(self, tour: np.ndarray) -> np.ndarray:
        """A closed tour of a graph that knows no ends, told from the head, with the tail put last."""
        at = np.flatnonzero(tour == self.head)
        tour = np.roll(tour, -int(at[0])) if len(at) else tour
        return tour if self.head == self.tail else np.append(tour[tour != self.tail], self.tail)

    def back(self, tour: np.ndarray, log_p: float) -> Decoded:
        """From places (m,) to points (n,), those in one place one after the other."""
        if not self.wanted:
            between = [p for p in tour.tolist() if p not in (self.head, self.tail)]
            tour = np.array([self.head, *between, *([self.tail] if self.tail != self.head else [])])
        at = np.empty(len(self.unit), np.int64)
        at[tour] = np.arange(len(tour))
        when = at[self.place].astype(np.float64)
        when[self.task.head] = -1.0
        if self.task.tail != self.task.head:
            when[self.task.tail] = len(self.place)
        return Decoded(np.argsort(when, kind="stable"), log_p)


def _batches(order: Sequence[int], sizes: Sequence[int], rows: int) -> Iterator[list[int]]:
    """`order`, by rising size, in pieces of like size."""
    batch: list[int] = []
    for i in order:
        full = len(batch) == rows or sizes[i] * (len(batch) + 1) > MOST_NODES
        if batch and (full or sizes[i] > PADDED * sizes[batch[0]]):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch

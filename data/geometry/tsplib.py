"""TSPLIB problems: every symmetric .tsp, whatever its edge weights.

Source: G. Reinelt, TSPLIB 95 (University of Heidelberg, 1995), section 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..battery.schema import near
from .distances import KINDS, dimensions, distance_matrix, tour_length
from .instances import check_matrix
from .tsplib_matrix import full_matrix
from .tsplib_text import Parts, read_parts

_OTHER_TYPES = {
    "TOUR": "a tour; read it with read_tour",
    "HCP": "a Hamiltonian cycle problem, which has no lengths",
    "SOP": "a sequential ordering problem, whose order constraints are not known here",
    "CVRP": "a vehicle routing problem, whose capacities are not known here",
}


@dataclass(frozen=True, eq=False)
class Problem:
    """One instance.

    xy: (n, 2 or 3) float64, None where the file has no places. With the kind `EXPLICIT` they are for drawing only.
    matrix: (n, n) float64, given for the kind `EXPLICIT` alone.
    kind: of edge lengths, one of `distances.KINDS`.
    fixed_edges: (f, 2) int64, edges that every tour must hold; nodes are counted from 0 throughout.
    notes: what the reader put up with.
    """

    name: str
    xy: np.ndarray | None
    matrix: np.ndarray | None
    kind: str
    comment: str = ""
    fixed_edges: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of nodes."""
        return len(self._places())

    def distances(self) -> np.ndarray:
        """(n, n) float64 edge lengths."""
        return distance_matrix(self._places(), self.kind)

    def length(self, tour: np.ndarray, *, closed: bool = True) -> float:
        """Length of a tour (n,) of nodes from 0."""
        return tour_length(tour, self._places(), self.kind, closed=closed)

    def _places(self) -> np.ndarray:
        places = self.matrix if self.kind == "EXPLICIT" else self.xy
        if places is None:
            wanted = "a matrix" if self.kind == "EXPLICIT" else "coordinates"
            raise ValueError(f"{self.name}: kind {self.kind} without {wanted}; wanted them")
        return places


def read_tsp(path: str | Path) -> Problem:
    """The problem in a .tsp file, or in an .atsp file that is symmetric.

    Raises:
        ValueError: missing, cut short, damaged, asymmetric, another kind of problem, or with edge weights that TSPLIB
            leaves to programs (XRAY1, XRAY2, SPECIAL); the message names file, place and remedy.
    """
    parts = read_parts(path)
    _refuse_other_types(parts)
    kind = parts.keywords.get("EDGE_WEIGHT_TYPE", "").split("(")[0].strip()
    kind = next((known for known in KINDS if known.upper() == kind.upper()), kind)
    if kind not in KINDS:
        got = near(kind, KINDS) if kind else "missing"
        raise ValueError(f"{parts.path}: EDGE_WEIGHT_TYPE is {got}; wanted one of {', '.join(KINDS)}")
    xy = matrix = None
    if kind == "EXPLICIT":
        matrix = _read_matrix(parts)
        xy = _read_display(parts, len(matrix))
    else:
        if "NODE_COORD_SECTION" not in parts.sections:
            raise ValueError(f"{parts.path}: no NODE_COORD_SECTION; wanted one for {kind}")
        xy = _read_nodes(parts, "NODE_COORD_SECTION", dimensions(kind), parts.whole("DIMENSION"))
        if "DISPLAY_DATA_SECTION" in parts.sections:
            parts.notes.append("DISPLAY_DATA_SECTION not used: the coordinates are known")
    known = ("NODE_COORD_SECTION", "DISPLAY_DATA_SECTION", "EDGE_WEIGHT_SECTION", "FIXED_EDGES_SECTION")
    parts.notes.extend(f"{section} not used" for section in parts.sections if section not in known)
    places = xy if matrix is None else matrix
    n = 0 if places is None else len(places)
    return Problem(
        parts.keywords.get("NAME") or parts.path.stem,
        xy,
        matrix,
        kind,
        parts.keywords.get("COMMENT", ""),
        _read_fixed_edges(parts, n),
        tuple(parts.notes),
    )


def _refuse_other_types(parts: Parts) -> None:
    words = parts.keywords.get("TYPE", "").upper().split()
    given = words[0] if words else ""
    if not given:
        parts.notes.append("no TYPE, taken for TSP")
    elif given not in ("TSP", "ATSP"):
        what = _OTHER_TYPES.get(given, "not known here")
        raise ValueError(f"{parts.path}: TYPE is {given}: {what}; wanted TSP")


def _read_matrix(parts: Parts) -> np.ndarray:
    n = parts.whole("DIMENSION")
    for what, there in (("DIMENSION", n), ("EDGE_WEIGHT_SECTION", "EDGE_WEIGHT_SECTION" in parts.sections)):
        if not there:
            raise ValueError(f"{parts.path}: no {what}; wanted one for EXPLICIT edge weights")
    form = parts.keywords.get("EDGE_WEIGHT_FORMAT", "").upper()
    matrix = full_matrix(parts.numbers("EDGE_WEIGHT_SECTION"), n, form, str(parts.path))  # type: ignore[arg-type]
    if np.diag(matrix).any():
        parts.notes.append("distances from a node to itself not used")
    return check_matrix(matrix, str(parts.path))


def _read_display(parts: Parts, n: int) -> np.ndarray | None:
    for section in ("DISPLAY_DATA_SECTION", "NODE_COORD_SECTION"):
        if section in parts.sections:
            return _read_nodes(parts, section, 2, n)
    return None


def _read_nodes(parts: Parts, section: str, size: int, n: int | None) -> np.ndarray:
    """(n, size) coordinates in the order of the nodes' numbers."""
    values = parts.numbers(section)
    width = size + 1
    if n is None:
        n = len(values) // width
        parts.notes.append(f"no DIMENSION, {n} nodes found")
    if n == 0 or len(values) != n * width:
        odd = next(((at, words) for at, words in parts.sections[section] if len(words) != width), None)
        place = f"line {odd[0]} has {len(odd[1])} numbers: {' '.join(odd[1])[:60]!r}; " if odd else ""
        raise ValueError(
            f"{parts.path}: {section} holds {len(values)} numbers; {place}wanted {width} (number, {size} coordinates) "
            f"for each of {n} nodes; check DIMENSION, or whether the file is cut short"
        )
    rows = values.reshape(n, width)
    names, xy = rows[:, 0], rows[:, 1:].copy()
    unique, times = np.unique(names, return_counts=True)
    if len(unique) < n:
        raise ValueError(
            f"{parts.path}: {section}: node {unique[times.argmax()]:g} comes {times.max()} times; wanted once"
        )
    if unique[-1] - unique[0] != n - 1 or (unique != np.floor(unique)).any() or unique[0] not in (0, 1):
        parts.notes.append(f"nodes are not called 1 to {n}: taken in the order of the file")
        return xy
    if unique[0] == 0:
        parts.notes.append("nodes are counted from 0")
    if (np.diff(names) < 0).any():
        parts.notes.append("nodes were not in the order of their numbers")
    return xy[np.argsort(names)]


def _read_fixed_edges(parts: Parts, n: int) -> np.ndarray:
    if "FIXED_EDGES_SECTION" not in parts.sections:
        return np.zeros((0, 2), np.int64)
    values = parts.numbers("FIXED_EDGES_SECTION")
    ends = np.flatnonzero(values == -1)
    values = values[: ends[0]] if len(ends) else values
    if len(values) % 2 or ((values < 1) | (values > n) | (values != np.floor(values))).any():
        raise ValueError(
            f"{parts.path}: FIXED_EDGES_SECTION holds {values[:6]}...; wanted pairs of nodes from 1 to {n}, then -1"
        )
    return values.astype(np.int64).reshape(-1, 2) - 1

"""Tours in TSPLIB's form, read and written. Nodes are counted from 1 in the file and from 0 here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..files import atomic
from .instances import check_tour
from .tsplib_text import read_parts


def read_tour(path: str | Path, n: int | None = None) -> np.ndarray:
    """(n,) int64 nodes of the first tour in the file, from 0.

    Args:
        n: nodes of the problem, where known.

    Raises:
        ValueError: missing, damaged, no tour, not every node once, or of another number of nodes.
    """
    parts = read_parts(path)
    if "TOUR_SECTION" not in parts.sections:
        raise ValueError(f"{parts.path}: no TOUR_SECTION; wanted a tour; read problems with read_tsp")
    values = parts.numbers("TOUR_SECTION")
    ends = np.flatnonzero(values == -1)
    values = values[: ends[0]] if len(ends) else values
    given = parts.whole("DIMENSION")
    if given is not None and len(values) != given:
        raise ValueError(
            f"{parts.path}: a tour of {len(values)} nodes where DIMENSION is {given}; is the file cut short?"
        )
    if n is not None and len(values) != n:
        raise ValueError(
            f"{parts.path}: a tour of {len(values)} nodes; wanted {n}; it belongs to another problem"
        )
    if len(values) == 0:
        raise ValueError(f"{parts.path}: the tour is empty; wanted at least one node")
    first = 0 if values.min() == 0 else 1  # some programs count from 0
    return check_tour(values - first, len(values), str(parts.path))


def write_tour(path: str | Path, tour: np.ndarray, name: str, comment: str = "") -> None:
    """Write a tour (n,) of nodes from 0; the file is there whole or not at all.

    Args:
        name: of the tour, by custom that of the problem with `.tour`.
        comment: may have several lines.

    Raises:
        ValueError: not every node once; a name of several lines.
    """
    tour = check_tour(tour, np.size(tour), "write_tour")
    if len(name.splitlines()) != 1:
        raise ValueError(f"write_tour: the name is {name!r}; wanted one line")
    lines = [f"NAME : {name}", *(f"COMMENT : {line}" for line in comment.splitlines())]
    lines += [
        "TYPE : TOUR",
        f"DIMENSION : {len(tour)}",
        "TOUR_SECTION",
        *map(str, (tour + 1).tolist()),
        "-1",
        "EOF",
    ]
    with atomic(Path(path)) as file:
        file.write(("\n".join(lines) + "\n").encode())

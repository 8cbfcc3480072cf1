"""Files of instances for the commands: .tsp, GeoJSON, tables; and the known answers beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from ...data.geometry.geojson import SUFFIXES, read_geojson
from ...data.geometry.tables import read_coordinates
from ...data.geometry.tours import read_tour
from ...data.geometry.tsplib import Problem, read_tsp
from ...data.tracing.tables import read_table

Labels = list[np.ndarray | None]


def read_instances(path: str | Path, *, columns: Mapping[str, str] | None = None) -> list[Problem]:
    """The problems of one file, by the end of its name.

    Raises:
        ValueError: as `read_tsp`, `read_geojson` and `read_coordinates`.
    """
    path = Path(path)
    if path.name.lower().endswith((".tsp", ".tsp.gz", ".atsp")):
        return [read_tsp(path)]
    if path.suffix.lower() in SUFFIXES:
        return read_geojson(path)
    return read_coordinates(path, columns=columns)


def read_labels(
    path: str | Path, problems: Sequence[Problem], column: str, *, columns: Mapping[str, str] | None = None
) -> Labels:
    """The answers that the file knows for its problems, None where it knows none.

    Of a table of lists its `column`, a list of whole numbers (in csv with anything between them); of NAME.tsp the
    NAME.opt.tour beside it.

    Raises:
        ValueError: damaged, or not numbers.
    """
    path = Path(path)
    beside = path.with_name(f"{path.name.split('.')[0]}.opt.tour")
    if path.name.lower().endswith((".tsp", ".tsp.gz")):
        found = column == "tour" and beside.is_file()
        return [read_tour(beside, problems[0].n)] if found else [None]
    if path.suffix.lower() in SUFFIXES:
        return [None] * len(problems)
    frame = read_table(path)
    frame = frame.rename({old: new for old, new in (columns or {}).items() if old in frame.columns})
    if column not in frame.columns or frame.height != len(problems):
        return [None] * len(problems)
    return [
        _numbers(value, f"{path}: {column} of {p.name}")
        for value, p in zip(frame[column], problems, strict=True)
    ]


def _numbers(value: pl.Series | str | None, place: str) -> np.ndarray | None:
    if value is None:
        return None
    words = re.findall(r"[^\s,;\[\]()]+", value) if isinstance(value, str) else value.to_list()
    try:
        return np.array([int(word) for word in words], np.int64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: not a list of whole numbers ({error})") from error

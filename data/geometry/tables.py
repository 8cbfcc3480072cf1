"""Coordinates in tables (csv, parquet) -> problems: a row for each instance, or a row for each point.

Columns: `x, y` in the plane, or `latitude, longitude` (`lat, lon`, `lng`) in degrees; `instance`, which names the
instance; `n`, its number of points, checked where it stands. Lists of numbers make a row an instance; in csv they are
written "[0.1, 0.2]" or with blanks between.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from ..battery.opening import refuse_nothing
from ..battery.schema import near
from ..tracing.tables import read_table
from .instances import check_points
from .tsplib import Problem

COLUMNS = ("instance", "n", "x", "y", "latitude", "longitude")
"""What is read; other columns are let be."""

_OTHER_NAMES = {"lat": "latitude", "lon": "longitude", "lng": "longitude", "instance_id": "instance"}


def read_coordinates(path: str | Path, *, columns: Mapping[str, str] | None = None) -> list[Problem]:
    """The problems of a csv or parquet file, in the order in which their names first come.

    Args:
        columns: other names, as {old: new}.

    Raises:
        ValueError: as `problems_from`; missing or damaged file.
    """
    path = Path(path)
    refuse_nothing(path)
    if path.is_dir():
        raise ValueError(f"{path}: a folder; wanted a csv or parquet file")
    return problems_from(read_table(path), str(path), columns=columns)


def problems_from(
    frame: pl.DataFrame, place: str = "table", *, columns: Mapping[str, str] | None = None
) -> list[Problem]:
    """The problems of a table: `euclidean` of x and y, `haversine` of latitude and longitude.

    Rows of one point each belong to the instance they name, wherever they stand; without the column `instance` all
    are one instance. Rows of lists are named by their number (from 0) where they have no name.

    Raises:
        ValueError: columns or rows missing; not numbers, null, NaN, infinite; lists of two lengths; an `n` that the
            points do not have; a name of two rows of lists.
    """
    frame = _renamed(frame, columns or {}, place)
    pair = ("x", "y") if {"x", "y"} <= set(frame.columns) else ("latitude", "longitude")
    missing = [name for name in pair if name not in frame.columns]
    if missing:
        raise ValueError(
            f"{place}: no columns x and y, nor latitude and longitude, among "
            f"{', '.join(near(name, COLUMNS) for name in frame.columns)}; "
            "wanted one pair; name them with columns (--columns old=x,...)"
        )
    if frame.height == 0:
        raise ValueError(f"{place}: no rows; wanted at least one point")
    if "instance" in frame.columns and (nulls := frame["instance"].is_null()).any():
        raise ValueError(
            f"{place}: row {nulls.to_numpy().argmax()} has no instance; wanted a name in every row"
        )
    frame = frame.with_columns(_numbers(frame[name], place) for name in pair)
    kinds = [isinstance(frame[name].dtype, pl.List | pl.Array) for name in pair]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"{place}: lists in one of {pair[0]} and {pair[1]} only; wanted lists in both, or in none"
        )
    kind = "euclidean" if pair[0] == "x" else "haversine"
    named = _from_lists(frame, pair, place) if kinds[0] else _from_rows(frame, pair, place)
    return [
        Problem(name, _checked(xy, n, kind, f"{place}: instance {name}"), None, kind) for name, xy, n in named
    ]


Named = list[tuple[str, np.ndarray, list[object]]]
"""Name, (n, 2) coordinates, and what the column n says."""


def _from_lists(frame: pl.DataFrame, pair: tuple[str, str], place: str) -> Named:
    if "instance" in frame.columns:
        names = frame["instance"].cast(pl.String).to_list()
        if len(set(names)) < len(names):
            twice = next(name for i, name in enumerate(names) if name in names[:i])
            raise ValueError(f"{place}: instance {twice} has two rows of lists; wanted one each")
    else:
        names = [str(row) for row in range(frame.height)]
    out: Named = []
    says = frame["n"].to_list() if "n" in frame.columns else [None] * frame.height
    for name, x, y, n in zip(names, frame[pair[0]], frame[pair[1]], says, strict=True):
        if x is None or y is None or len(x) != len(y):
            got = [0 if values is None else len(values) for values in (x, y)]
            raise ValueError(
                f"{place}: instance {name} has {got[0]} {pair[0]} and {got[1]} {pair[1]}; wanted the same"
            )
        out.append((name, np.stack([_floats(x), _floats(y)], axis=1), [n]))
    return out


def _from_rows(frame: pl.DataFrame, pair: tuple[str, str], place: str) -> Named:
    if "instance" not in frame.columns:
        frame = frame.with_columns(pl.lit(Path(place).stem).alias("instance"))
    out: Named = []
    for (name,), rows in frame.group_by("instance", maintain_order=True):
        xy = np.stack([_floats(rows[column]) for column in pair], axis=1)
        out.append((str(name), xy, rows["n"].unique().to_list() if "n" in rows.columns else [None]))
    return out


def _checked(xy: np.ndarray, says: list[object], kind: str, place: str) -> np.ndarray:
    xy = check_points(xy, place)
    for n in says:
        if n is not None and str(n).strip() not in (str(len(xy)), f"{len(xy)}.0"):
            raise ValueError(
                f"{place} has {len(xy)} points, and n is {n}; wanted the same; is the table cut short?"
            )
    if kind == "haversine" and (np.abs(xy[:, 0]) > 90).any():
        at = int((np.abs(xy[:, 0]) > 90).argmax())
        raise ValueError(
            f"{place}: latitude {xy[at, 0]:g} at point {at}; wanted -90 to 90; are the columns exchanged?"
        )
    return xy


def _renamed(frame: pl.DataFrame, columns: Mapping[str, str], place: str) -> pl.DataFrame:
    for old in columns:
        if old not in frame.columns:
            raise ValueError(
                f"{place}: no column {near(old, frame.columns)} to rename; have {', '.join(frame.columns)}"
            )
    names = [columns.get(name, name) for name in frame.columns]
    if "latitude" not in names and "longitude" not in names:
        names = [_OTHER_NAMES.get(name.lower(), name) for name in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{place}: two columns would be called {', '.join(twice)}; rename or drop one")
    return frame.rename(dict(zip(frame.columns, names, strict=True)))


def _numbers(column: pl.Series, place: str) -> pl.Series:
    """Text as numbers, or as lists of them; other types as they are."""
    if column.dtype != pl.String:
        return column
    text = column.str.strip_chars()
    if text.str.contains(r"[\[\s;,]").any():
        words = text.str.strip_chars("[]() ").str.replace_all(r"[,;\s]+", " ").str.split(" ")
        long = words.explode()
        numbers = long.cast(pl.Float64, strict=False)
        _refuse_words(long, numbers, column.name, place)
        return words.list.eval(pl.element().cast(pl.Float64, strict=False)).rename(column.name)
    numbers = text.cast(pl.Float64, strict=False)
    _refuse_words(text, numbers, column.name, place)
    return numbers.rename(column.name)


def _refuse_words(words: pl.Series, numbers: pl.Series, name: str, place: str) -> None:
    wrong = numbers.is_null() & words.is_not_null() & ~words.is_in(["", "null", "NaN", "NA"])
    if wrong.any():
        at = int(wrong.to_numpy().argmax())
        raise ValueError(f"{place}: column {name}: {words[at]!r}, number {at}, is no number; wanted numbers")


def _floats(values: pl.Series) -> np.ndarray:
    """Nulls become NaN, which `check_points` refuses with their place."""
    try:
        return values.cast(pl.Float64).to_numpy()
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"coordinates of type {values.dtype}; wanted numbers") from error

"""The three battery tables, and the one function that brings a table into one of them or says why it cannot.

samples  one row per measurement: `cell_id, cycle, test_time_s, voltage_v, current_a` (+ is charge),
         optional `temperature_c, step_id`. Time does not decrease inside a cycle (and step, where there is one).
cycles   one row per cell and cycle: `cell_id, cycle, capacity_ah` (discharge) and any further features,
         such as the 16 charge statistics `CHARGE_FEATURES` and an optional `group` and `rul`
         (remaining life in cycles, a label).
curves   one row per cell and cycle: `cell_id, cycle, q_ah`, the discharge capacity at the 1000 voltages
         `VOLTAGE_GRID`, and an optional `cycle_life`.

All other columns pass through untouched. Missing numbers are null (NaN inside `q_ah`), never infinite.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Literal

import numpy as np
import polars as pl

from .flags import Report

Kind = Literal["samples", "cycles", "curves"]

GRID_POINTS = 1000
VOLTAGE_GRID = np.linspace(3.6, 2.0, GRID_POINTS)
"""Volts at which `q_ah` is given: from charged (about 0 Ah) to discharged (full capacity)."""

CHARGE_FEATURES = (
    "v_mean", "v_std", "v_kurtosis", "v_skewness", "cc_q_ah", "cc_time", "v_slope", "v_entropy",
    "i_mean", "i_std", "i_kurtosis", "i_skewness", "cv_q_ah", "cv_time", "i_slope", "i_entropy",
)  # fmt: skip
"""Statistics of the last part of a charge (constant current: v_*, cc_*; constant voltage: i_*, cv_*)."""

REQUIRED: dict[Kind, dict[str, type[pl.DataType] | pl.DataType]] = {
    "samples": {
        "cell_id": pl.String,
        "cycle": pl.Int32,
        "test_time_s": pl.Float64,
        "voltage_v": pl.Float64,
        "current_a": pl.Float64,
    },
    "cycles": {"cell_id": pl.String, "cycle": pl.Int32, "capacity_ah": pl.Float32},
    "curves": {"cell_id": pl.String, "cycle": pl.Int32, "q_ah": pl.Array(pl.Float32, GRID_POINTS)},
}
OPTIONAL: dict[Kind, dict[str, type[pl.DataType]]] = {
    "samples": {"temperature_c": pl.Float64, "step_id": pl.Int32},
    "cycles": {"group": pl.String, "rul": pl.Float64} | dict.fromkeys(CHARGE_FEATURES, pl.Float32),
    "curves": {"cycle_life": pl.Float32},
}


def near(name: str, options: Iterable[str]) -> str:
    """`name` quoted, with the most similar of `options` where there is one: for error messages."""
    close = get_close_matches(name.lower(), {o.lower(): o for o in options}, n=2, cutoff=0.5)
    by_lower = {o.lower(): o for o in options}
    return f"'{name}'" + (f" (near: {', '.join(repr(by_lower[c]) for c in close)})" if close else "")


def kind_of(columns: Iterable[str]) -> Kind | None:
    """Which table has these columns, or None. `q_ah` makes curves, voltage and current samples."""
    have = set(columns)
    if "q_ah" in have:
        return "curves"
    if {"voltage_v", "current_a"} <= have:
        return "samples"
    if "capacity_ah" in have:
        return "cycles"
    return None


def conform(frame: pl.DataFrame, kind: Kind, *, source: str) -> tuple[pl.DataFrame, Report]:
    """`frame` with the columns of `kind` first, in their types, and sorted.

    Cycles and curves are sorted by cell (in order of appearance) and cycle; samples keep their order, which is
    evidence for the checks. Infinite numbers become null (NaN inside `q_ah`) and are counted, as are missing ones.

    Args:
        frame: must hold the required columns of `kind`.
        source: name of the file or object, for messages.

    Raises:
        ValueError: a column is missing or of the wrong type, the table is empty, a cell or cycle is null,
            a cycle is below 0, a curve has not 1000 values, or (cycles, curves) a cell has the same cycle twice.
    """
    need = REQUIRED[kind]
    for name in need:
        if name not in frame.columns:
            raise ValueError(
                f"{source}: a {kind} table needs column {near(name, frame.columns)}; got {frame.columns}; "
                f"wanted {list(need)}; rename with columns={{'old': '{name}'}} (--columns old={name})"
            )
    if frame.height == 0:
        raise ValueError(f"{source}: the {kind} table has no rows; give a file that holds at least one")
    types = need | {k: v for k, v in OPTIONAL[kind].items() if k in frame.columns}
    frame = frame.with_columns([_cast(frame[name], dtype, source) for name, dtype in types.items()])
    for name in ("cell_id", "cycle"):
        if holes := frame[name].null_count():
            row = frame[name].is_null().arg_max()
            raise ValueError(
                f"{source}: column {name} has {holes} nulls, first in row {row}; every row must name its cell "
                "and cycle; drop those rows or fill them in"
            )
    if (below := frame["cycle"] < 0).any():
        row = below.arg_max() or 0
        raise ValueError(
            f"{source}: column cycle has {below.sum()} numbers below 0, first {frame['cycle'][row]} in row {row}; "
            "correct them, or drop the column to take the order of the rows"
        )
    # labels and names may well be absent; a hole among the measurements is worth a flag
    report = _missing(frame, [c for c in types if c not in ("cycle_life", "rul", "group", "step_id")])
    frame, infinite = _infinite_to_null(frame, list(types))
    report = report + infinite
    rest = [c for c in frame.columns if c not in types]
    frame = frame.select([*types, *rest])
    if kind == "samples":  # the order of samples is evidence (checks judge it), so it is kept
        return frame, report
    first = frame.select(pl.col("cell_id").unique(maintain_order=True)).with_row_index("_cell")
    frame = (
        frame.join(first, on="cell_id", how="left", maintain_order="left")
        .sort("_cell", "cycle")
        .drop("_cell")
    )
    _refuse_repeats(frame, source)
    return frame, report


def _cast(column: pl.Series, dtype: type[pl.DataType] | pl.DataType, source: str) -> pl.Series:
    if isinstance(dtype, pl.Array):
        return _cast_curve(column, source)
    if column.dtype == pl.String and dtype != pl.String:
        column = column.str.strip_chars()
        column = column.replace("", None)
    try:
        if dtype == pl.String and column.dtype.is_float():
            column = column.fill_nan(None)
            if (column == column.round()).all():  # a hole elsewhere in the column made the id 7 into 7.0
                column = column.cast(pl.Int64)
        if dtype == pl.Int32 and not column.dtype.is_integer():
            # a cycle number written as 12.0 is fine, 12.5 is not: a silent floor would join two cycles
            numbers = column.cast(pl.Float64)
            if (numbers != numbers.round()).any():
                raise pl.exceptions.InvalidOperationError("not whole numbers")
            column = numbers
        return column.cast(dtype)
    except pl.exceptions.InvalidOperationError:
        loose = column.cast(pl.Float64, strict=False)
        bad = (
            loose.is_null() & column.is_not_null()
            if loose.null_count() > column.null_count()
            else loose != loose.round()
        )
        row = bad.arg_max() or 0
        raise ValueError(
            f"{source}: column {column.name} must be {_words(dtype)}; got {column.dtype}, first bad value "
            f"{column[row]!r} in row {row}; correct it or drop the row"
        ) from None


def _words(dtype: type[pl.DataType] | pl.DataType) -> str:
    if dtype == pl.String:
        return "text"
    return "whole numbers" if dtype == pl.Int32 else "numbers"


def _cast_curve(column: pl.Series, source: str) -> pl.Series:
    if column.dtype == pl.String:  # csv has no lists: "[0.0, 0.1, ...]"
        try:
            column = column.str.json_decode(pl.List(pl.Float32))
        except pl.exceptions.PolarsError:
            raise ValueError(
                f"{source}: column q_ah is text that is no list of numbers, such as {str(column[0])[:40]!r}; wanted "
                f"'[0.0, 0.1, ...]' with {GRID_POINTS} values per row"
            ) from None
    if not isinstance(column.dtype, pl.List | pl.Array):
        raise ValueError(
            f"{source}: column q_ah must hold {GRID_POINTS} values per row (Ah at numpy.linspace(3.6, 2.0, "
            f"{GRID_POINTS}) V); got {column.dtype}; one value per row needs a voltage_v column beside it"
        )
    lengths = column.cast(pl.List(pl.Float32)).list.len()
    wrong = (lengths != GRID_POINTS).fill_null(True)
    if wrong.any():
        row = wrong.arg_max() or 0
        raise ValueError(
            f"{source}: column q_ah must hold {GRID_POINTS} values per row; got {lengths[row]} in row {row} "
            f"({int(wrong.sum())} such rows); interpolate onto numpy.linspace(3.6, 2.0, {GRID_POINTS}) V"
        )
    return column.cast(pl.Array(pl.Float32, GRID_POINTS))


def curve_matrix(frame: pl.DataFrame) -> np.ndarray:
    """`q_ah` of a curves table as (rows, 1000) float32."""
    return np.asarray(frame["q_ah"].to_numpy(), np.float32)


def curve_series(matrix: np.ndarray) -> pl.Series:
    """(rows, 1000) numbers as a `q_ah` column."""
    return pl.Series(
        "q_ah", np.ascontiguousarray(matrix, np.float32), dtype=pl.Array(pl.Float32, GRID_POINTS)
    )


def _infinite_to_null(frame: pl.DataFrame, names: list[str]) -> tuple[pl.DataFrame, Report]:
    rows = []
    for name in names:
        column = frame[name]
        if isinstance(column.dtype, pl.Array):
            matrix = curve_matrix(frame)
            bad = np.isinf(matrix)
            for i in map(int, np.flatnonzero(bad.any(axis=1))):
                n = int(bad[i].sum())
                rows.append(
                    (
                        frame["cell_id"][i],
                        frame["cycle"][i],
                        "infinite_value",
                        n,
                        f"{name}: {n} values made NaN",
                    )
                )
            if bad.any():
                frame = frame.with_columns(curve_series(np.where(bad, np.nan, matrix)))
        elif column.dtype.is_float():
            bad_rows = column.is_infinite().fill_null(False)
            rows += _per_cell(frame, bad_rows, "infinite_value", f"{name}: infinite, made null")
            frame = frame.with_columns(
                pl.when(column.is_infinite() | column.is_nan()).then(None).otherwise(column).alias(name)
            )
    return frame, Report.of(rows)


def _missing(frame: pl.DataFrame, names: list[str]) -> Report:
    rows = []
    for name in names:
        column = frame[name]
        if isinstance(column.dtype, pl.Array):
            holes = np.isnan(curve_matrix(frame)).sum(axis=1)
            for i in map(int, np.flatnonzero(holes)):
                n = int(holes[i])
                rows.append(
                    (
                        frame["cell_id"][i],
                        frame["cycle"][i],
                        "missing_value",
                        n,
                        f"{name}: {n} values are missing",
                    )
                )
        else:
            absent = (
                column.is_null() | column.is_nan().fill_null(False)
                if column.dtype.is_float()
                else column.is_null()
            )
            rows += _per_cell(frame, absent, "missing_value", f"{name}: no value")
    return Report.of(rows)


def _per_cell(
    frame: pl.DataFrame, bad: pl.Series, flag: str, detail: str
) -> list[tuple[str, int, str, int, str]]:
    """One report row per cell and cycle where `bad` holds, with its number of rows."""
    if not bad.any():
        return []
    found = frame.filter(bad).group_by("cell_id", "cycle", maintain_order=True).len()
    return [(cell, cycle, flag, n, detail) for cell, cycle, n in found.iter_rows()]


def _refuse_repeats(frame: pl.DataFrame, source: str) -> None:
    repeats = frame.group_by("cell_id", "cycle", maintain_order=True).len().filter(pl.col("len") > 1)
    if not repeats.height:
        return
    cell, cycle, n = repeats.row(0)
    constant = frame.filter(pl.col("cell_id") == cell)["cycle"].n_unique() == 1
    if constant:
        raise ValueError(
            f"{source}: column cycle is constant ({cycle}) over the {n} rows of cell {cell} (constant_cycle_count); "
            "wanted one number per cycle; drop the column to take the order of the rows instead"
        )
    raise ValueError(
        f"{source}: cell {cell} has cycle {cycle} {n} times (duplicate_cycle; {repeats.height} such cycles); wanted "
        "one row per cell and cycle; drop the repeats, or give the cells different cell_id"
    )

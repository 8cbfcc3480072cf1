"""Files of any known layout -> one of the three tables of `schema`, with a report of what was done on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from .flags import Report
from .grid_csv import cell_files, is_grid_csv, read_grid_csv
from .integrate import samples_to_curves, samples_to_cycles
from .layouts import name_rows, recognise
from .opening import open_table, refuse_nothing
from .schema import Kind, conform, curve_matrix, kind_of, near

PathLike = str | Path


@dataclass(frozen=True)
class Reading:
    """A table, which of the three it is ("samples", "cycles", "curves"), and what reading it took.

    order: (rows,) int64, the row of the input that each row of `frame` came from, so that results can be handed back
        in the order of the input: `out[numpy.argsort(order)]`. Counts on through several files.
    """

    frame: pl.DataFrame
    kind: Kind
    report: Report
    order: np.ndarray


def read(
    path: PathLike, *, columns: Mapping[str, str] | None = None, lives: PathLike | None = None
) -> Reading:
    """Read one file, or a folder of the Severson re-analysis (one csv of 1000 rows x 99 columns per cell).

    Knows: the tables of `schema` as parquet or csv; per-cycle tables of HUST, XJTU and Tongji (`row` becomes
    `cycle`); NASA PCoE capacities and discharges; CALCE CS2 cycles and curves; BatteryArchive `cycle_data` and
    `timeseries` csv; raw cycler files (see `cyclers`); csv of the Severson re-analysis.

    Args:
        path: the file or folder.
        columns: other names, as {old: new}, applied before the layout is recognised.
        lives: csv of cycle lives for the Severson layout, one number per cell in the order of the cells. Found by
            itself in the folder (`*lives*.csv`) or in `../cycle_lives/<folder>_cycle_lives.csv`.

    Returns:
        The table in the types of `schema`, its kind, and the report.

    Raises:
        ValueError: the file is missing, empty, cut short, not what it claims to be, of no known layout, or breaks
            the schema; the message names the file, what was found and the remedy.
    """
    path = Path(path)
    refuse_nothing(path)
    kind: Kind | None = "curves"
    if path.is_dir():
        frame, report = read_grid_csv(cell_files(path), lives, path.name)
    elif is_grid_csv(path):
        frame, report = read_grid_csv([path], lives, path.parent.name)
    else:
        frame, found = recognise(_rename(open_table(path), columns, path), path)
        frame, named = name_rows(frame, path)
        kind, report = kind_of(frame.columns), found + named
    if kind is None:
        raise ValueError(
            f"{path}: a layout gave {frame.columns}, which is no table of schema; correct the layout"
        )
    frame, conformed, order = _conform_ordered(frame, kind, path.name)
    return Reading(frame, kind, report + conformed, order)


def _conform_ordered(frame: pl.DataFrame, kind: Kind, source: str) -> tuple[pl.DataFrame, Report, np.ndarray]:
    """`conform`, and the old place of each row."""
    frame, report = conform(frame.with_columns(pl.int_range(pl.len()).alias("_row")), kind, source=source)
    return frame.drop("_row"), report, frame["_row"].cast(pl.Int64).to_numpy()


def read_curves(
    paths: PathLike | Sequence[PathLike],
    *,
    columns: Mapping[str, str] | None = None,
    lives: PathLike | None = None,
) -> Reading:
    """A curves table from one path or several; samples are turned into curves by integrating their current.

    Raises:
        ValueError: as `read`, and where a file holds cycles, or a cell and cycle comes twice.
    """
    return _read_as("curves", paths, columns, lives)


def read_cycles(paths: PathLike | Sequence[PathLike], *, columns: Mapping[str, str] | None = None) -> Reading:
    """A cycles table from one path or several. Samples are integrated; curves give the capacity of their last volt.

    Raises:
        ValueError: as `read`, and where a cell and cycle comes twice.
    """
    return _read_as("cycles", paths, columns, None)


def read_samples(
    paths: PathLike | Sequence[PathLike], *, columns: Mapping[str, str] | None = None
) -> Reading:
    """A samples table from one path or several.

    Raises:
        ValueError: as `read`, and where a file holds cycles or curves.
    """
    return _read_as("samples", paths, columns, None)


def _read_as(
    kind: Kind,
    paths: PathLike | Sequence[PathLike],
    columns: Mapping[str, str] | None,
    lives: PathLike | None,
) -> Reading:
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    if not several:
        raise ValueError(f"read_{kind}: got no paths; give at least one file")
    frames: list[pl.DataFrame] = []
    orders: list[np.ndarray] = []
    report = Report()
    for path in several:
        reading = read(path, columns=columns, lives=lives)
        frame, extra = _convert(reading, kind, Path(path))
        # rows made here (one cycle from many samples) have no row of input: their own order stands
        kept = reading.order if frame.height == len(reading.order) else np.arange(frame.height)
        orders.append(kept + sum(len(order) for order in orders))
        frames.append(frame)
        report = report + reading.report + extra
    if len(frames) == 1:
        return Reading(frames[0], kind, report, orders[0])
    source = ", ".join(Path(p).name for p in several)
    frame, _, again = _conform_ordered(pl.concat(frames, how="diagonal_relaxed"), kind, source)
    return Reading(frame, kind, report, np.concatenate(orders)[again])


def _convert(reading: Reading, kind: Kind, path: Path) -> tuple[pl.DataFrame, Report]:
    if reading.kind == kind:
        return reading.frame, Report()
    if reading.kind == "samples" and kind == "cycles":
        return samples_to_cycles(reading.frame)
    if reading.kind == "samples" and kind == "curves":
        return samples_to_curves(reading.frame)
    if reading.kind == "curves" and kind == "cycles":
        last = curve_matrix(reading.frame)[:, -1]
        frame = reading.frame.drop("q_ah").with_columns(pl.Series("capacity_ah", last).fill_nan(None))
        return conform(frame, "cycles", source=path.name)
    raise ValueError(
        f"{path}: holds a {reading.kind} table (columns {reading.frame.columns[:6]}...); wanted {kind}, which cannot "
        f"be had from it; give a file of {kind} or of samples (cell_id, cycle, test_time_s, voltage_v, current_a)"
    )


def _rename(frame: pl.DataFrame, columns: Mapping[str, str] | None, path: Path) -> pl.DataFrame:
    columns = columns or {}
    for old in columns:
        if old not in frame.columns:
            raise ValueError(
                f"{path}: columns= renames {near(old, frame.columns)}, which the file does not have; got "
                f"{frame.columns}; correct the name (--columns old=new)"
            )
    names = [columns.get(name, name).strip() for name in frame.columns]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"{path}: after renaming there would be {names.count(name)} columns '{name}'; wanted one; rename "
                f"the other away ({{'{name}': 'other_{name}'}}, --columns {name}=other_{name})"
            )
    return frame.rename(dict(zip(frame.columns, names, strict=True)))

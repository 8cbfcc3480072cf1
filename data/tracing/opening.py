"""Files of any known format -> one log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from ..battery.opening import first_line, open_table, refuse_nothing
from .findings import Findings
from .layouts import LAYOUTS, recognise
from .reading import Reading
from .repeats import merge_repeats
from .schema import Log, rename

PathLike = str | Path
_HEAD = 1 << 16


def open_log(
    paths: PathLike | Sequence[PathLike], *, columns: Mapping[str, str] | None = None, format: str = "auto"
) -> Log:
    """The log in one file or several, one row per answered question, whatever its format.

    Rows that repeat an answer under another concept are merged, and counted in the report.

    Args:
        paths: file or files; several are taken as one log, in their order.
        columns: other names of columns, as {old: new}, applied before the format is recognised.
        format: name of the format, or "auto" to recognise it by the content.

    Raises:
        ValueError: a file is missing, empty, damaged, of no known format, or breaks the schema; the message names
            the file, what was found and the remedy.
    """
    several = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not several:
        raise ValueError("open_log: got no paths; give at least one file")
    if format not in ("auto", *LAYOUTS):
        raise ValueError(f"open_log: format is '{format}'; wanted auto or one of {', '.join(LAYOUTS)}")
    readings = [_read(path, columns, format) for path in several]
    source = str(several[0]) if len(several) == 1 else f"{several[0]} and {len(several) - 1} more"
    return merge_repeats(_joined(readings).conformed(source))


def _read(path: Path, columns: Mapping[str, str] | None, form: str) -> Reading:
    refuse_nothing(path)
    return recognise(rename(_table(path), columns, str(path)), str(path), form)


def _joined(readings: list[Reading]) -> Reading:
    if len(readings) == 1:
        return readings[0]
    rows, at = [], 0
    for reading in readings:
        row = np.arange(reading.frame.height) if reading.row is None else reading.row
        rows.append(np.where(row >= 0, row + at, -1))
        at += reading.frame.height
    report = sum((reading.report for reading in readings), Findings())
    frame = pl.concat([reading.frame for reading in readings], how="diagonal_relaxed")
    keys = pl.concat([reading.keys for reading in readings], how="diagonal_relaxed")
    return Reading(frame, keys, report, np.concatenate(rows))


def _table(path: Path) -> pl.DataFrame:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head[:4] == b"PAR1" or path.suffix.lower() in (".parquet", ".pq"):
        return open_table(path)
    if b"\x00" in head:
        raise ValueError(
            f"{path}: neither parquet nor text (it starts with {head[:8]!r}); export it as csv or parquet"
        )
    line = head.decode("utf-8-sig", "replace").splitlines()[0]
    separator = max(",\t;", key=line.count)
    try:
        # all as text: an id 007 is not 7
        return pl.read_csv(
            path,
            separator=separator,
            infer_schema=False,
            encoding="utf8-lossy",
            quote_char=None if separator == "\t" else '"',
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(
            f"{path}: cannot be read as csv ({first_line(error)}); wanted a header row and rows of the same number of "
            "fields; export it again"
        ) from error

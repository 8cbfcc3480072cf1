"""Files of any known format -> one log. The format is recognised by the content, not by the name of the file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ..battery.opening import refuse_nothing
from . import ednet, eedi
from .caliper import is_caliper, read_events
from .concept_files import read_concept_file, with_concepts
from .findings import Findings
from .layouts import LAYOUTS, recognise
from .reading import Reading
from .repeats import merge_repeats
from .schema import Log, conform, rename
from .sequence_files import LINES, has_sequences, read_sequences
from .tables import head_of, read_table
from .xapi import is_statement, read_statements

PathLike = str | Path

FORMATS = (*LAYOUTS, *LINES, "ednet", "eedi", "xapi", "caliper")
"""What `open_log` knows."""


def open_log(
    paths: PathLike | Sequence[PathLike],
    *,
    columns: Mapping[str, str] | None = None,
    format: str = "auto",
    concepts: PathLike | None = None,
) -> Log:
    """The log in one file or several, one row per answered question, whatever its format.

    Rows that repeat an answer under another concept are merged, and counted in the report.

    Args:
        paths: file or files (several are taken as one log, in their order), or the folder of EdNet KT1.
        columns: other names of columns, as {old: new}, applied before the format is recognised.
        format: one of `FORMATS`, or "auto" to recognise it.
        concepts: csv or parquet file with the concepts of questions (`question_id, concepts`); they come before those
            of the log.

    Raises:
        ValueError: a file is missing, empty, damaged, of no known format, or breaks the schema; the message names
            the file, what was found and the remedy.
    """
    several = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not several:
        raise ValueError("open_log: got no paths; give at least one file")
    if format not in ("auto", *FORMATS):
        raise ValueError(f"open_log: format is '{format}'; wanted auto or one of {', '.join(FORMATS)}")
    matrix = None
    if concepts is not None:
        refuse_nothing(Path(concepts))
        matrix = read_concept_file(Path(concepts))
    logs = []
    for path in several:
        reading = _read(path, columns, format)
        if matrix is not None:
            reading = with_concepts(reading, matrix, str(path))
        logs.append(reading.conformed(str(path)))
    return merge_repeats(logs[0] if len(logs) == 1 else _joined(logs))


def _read(path: Path, columns: Mapping[str, str] | None, form: str) -> Reading:
    refuse_nothing(path)
    if path.is_dir():
        return ednet.read_ednet_folder(path)
    head = head_of(path)
    text = head.decode("utf-8-sig", "replace").lstrip()
    if form in ("xapi", "caliper") or (form in ("auto", "log") and text[:1] in ("{", "[")):
        return _read_json(path, columns, form)
    if form in LINES or (form == "auto" and has_sequences(text)):
        return read_sequences(path, form)
    table = rename(read_table(path), columns, str(path))
    have = set(table.columns)
    if form == "ednet" or (form == "auto" and have >= ednet.COLUMNS and "student_id" not in have):
        return ednet.read_ednet_file(table, path)
    if form == "eedi" or (form == "auto" and have >= eedi.COLUMNS):
        return eedi.read_eedi(table, path)
    return recognise(table, str(path), form)


def _read_json(path: Path, columns: Mapping[str, str] | None, form: str) -> Reading:
    """Statements, events or rows of a log: a list, one a line, or the answer of a store ({"statements": [...]})."""
    records = _records(path)
    if form == "xapi" or (form == "auto" and any(is_statement(record) for record in records[:100])):
        return read_statements(records, str(path))
    if form == "caliper" or (form == "auto" and any(is_caliper(record) for record in records[:100])):
        return read_events(records, str(path))
    try:
        table = pl.DataFrame(records, infer_schema_length=None)
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{path}: JSON of no known format ({str(error)[:120]}); wanted xAPI statements, Caliper events or rows of "
            "student_id, question_id, concepts, correct"
        ) from error
    return recognise(rename(table, columns, str(path)), str(path), form)


def _records(path: Path) -> list[Any]:
    text = path.read_text("utf-8-sig", "replace")
    try:
        held = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        try:
            held = [json.loads(line) for line in text.splitlines() if line.strip()]
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{path}: neither JSON nor JSON lines ({error}); export it again") from error
    if isinstance(held, Mapping) and isinstance(held.get("statements"), list):
        held = held["statements"]
    records = held if isinstance(held, list) else [held]
    if not records:
        raise ValueError(f"{path}: the list is empty; wanted statements, events or rows; check the export")
    return records


def _joined(logs: list[Log]) -> Log:
    """Logs of several files as one; a student in several of them goes on, by time where there is one."""
    frame = pl.concat([log.frame for log in logs], how="diagonal_relaxed")
    starts = np.cumsum([0, *(log.frame.height for log in logs)])
    row = np.concatenate(
        [np.where(log.row >= 0, log.row + at, -1) for log, at in zip(logs, starts[:-1], strict=True)]
    )
    whole = conform(frame, source="several files")
    report = sum((log.report for log in logs), Findings())
    # all but the order has been told of each file
    order = whole.report.table.filter(pl.col("finding").is_in(["regrouped_students", "sorted_by_time"]))
    keys = pl.concat([log.keys for log in logs], how="diagonal_relaxed")
    return Log(whole.frame, report + Findings(order), np.where(row >= 0, whole.row[row], -1), keys)

"""Tables -> the words of `schema`. A layout is recognised by its columns, never by the name of its file.

A new layout is one function `(frame, source) -> Reading | None` in `LAYOUTS`.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from ..battery.schema import near
from .assistments import read_2009, read_2012, read_2015, read_2017, read_tidy
from .datashop import read_datashop
from .reading import Reading
from .sequence_files import read_pykt_table

Layout = Callable[[pl.DataFrame, str], "Reading | None"]


def _log(frame: pl.DataFrame, source: str) -> Reading | None:
    """The log itself; `concepts` of a csv may be joined with ; or |."""
    have = set(frame.columns)
    if not {"student_id", "correct"} <= have or not have & {"question_id", "concepts"}:
        return None
    names = ("student_id", "step", "question_id", "concepts", "timestamp", "session_id")
    keys = frame.select(name for name in names if name in have)
    if "concepts" in have and frame["concepts"].dtype == pl.String:
        parts = pl.col("concepts").str.replace_all("|", ";", literal=True).str.split(";")
        frame = frame.with_columns(parts.alias("concepts"))
    return Reading(frame, keys)


LAYOUTS: dict[str, Layout] = {
    "log": _log,
    "tidy": read_tidy,
    "assistments2009": read_2009,
    "assistments2012": read_2012,
    "assistments2015": read_2015,
    "assistments2017": read_2017,
    "datashop": read_datashop,
    "pykt-csv": read_pykt_table,
}
"""Name of a format -> its reader; the first that fits is taken."""


def recognise(frame: pl.DataFrame, source: str, form: str = "auto") -> Reading:
    """`frame` in the words of `schema`.

    Args:
        frame: the table as it stands in its file.
        source: where it came from, for messages.
        form: name of a format of `LAYOUTS`, or "auto".

    Raises:
        ValueError: no layout fits; the message lists the columns, the near names and the known formats.
    """
    for name, layout in LAYOUTS.items():
        if form in ("auto", name):
            found = layout(frame, source)
            if found is not None:
                return found
    known = ("student_id", "question_id", "concepts", "correct")
    close = [near(c, known) for c in frame.columns if c not in known]
    hints = [f"no column '{name}'" for name in ("correct",) if name not in frame.columns]
    hints += [c for c in close if "near" in c]
    raise ValueError(
        f"{source}: no {'known layout' if form == 'auto' else f'table of format {form}'}; got columns "
        f"{frame.columns[:20]}; wanted student_id, correct and question_id or concepts, or one of the formats "
        f"{', '.join(LAYOUTS)}; rename with columns={{'old': 'new'}} or --columns old=new"
        + (f"; {', '.join(hints)}" if hints else "")
    )

"""Tables of answers as files: parquet, or csv, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl


def flat(out: pl.DataFrame) -> pl.DataFrame:
    """Lists as text, since csv has none: joined by ";"."""
    lists = [name for name, kind in out.schema.items() if isinstance(kind, pl.List)]
    return out.with_columns(pl.col(name).cast(pl.List(pl.String)).list.join(";") for name in lists)


def write(out: pl.DataFrame, path: Path) -> None:
    """All or nothing: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.suffix == ".csv":
            flat(out).write_csv(partial)
        else:
            out.write_parquet(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

"""Tables in files, as they stand there: parquet, csv with , ; or tab, JSON."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ..battery.opening import first_line, open_table

HEAD = 1 << 16
"""Bytes in which the kind of a file is looked for."""


def head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def read_table(path: Path) -> pl.DataFrame:
    """The table in a parquet or csv file; every column of a csv is text, because an id 007 is not 7.

    Raises:
        ValueError: the file is damaged, or is not what it claims to be.
    """
    head = head_of(path)
    if head[:4] == b"PAR1" or path.suffix.lower() in (".parquet", ".pq"):
        return open_table(path)
    if b"\x00" in head:
        raise ValueError(
            f"{path}: neither parquet nor text (it starts with {head[:8]!r}); export it as csv or parquet"
        )
    lines = head.decode("utf-8-sig", "replace").splitlines()
    separator = max(",\t;", key=lines[0].count) if lines else ","
    try:
        table = pl.read_csv(
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
    names = [name.strip().lstrip("\ufeff") for name in table.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path}: columns {twice} stand there more than once; rename or drop the others")
    return table.rename(dict(zip(table.columns, names, strict=True)))

"""Files -> raw tables under the names of their maker: parquet, csv, cyclers' texts and workbooks."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from . import cyclers
from .schema import near

_HEAD = 1 << 20
_PREAMBLE = 1000
"""Bytes, and lines of them, in which the header of a text is looked for: Novonix writes its protocol before it."""


def refuse_nothing(path: Path) -> None:
    """Raise a ValueError where `path` does not exist or is an empty file."""
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ValueError(
            f"{path}: no such file; wanted a data file or folder; got {near(path.name, siblings)}; check the path"
        )
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty (0 bytes); wanted a table; copy or export it again")


def open_table(path: Path) -> pl.DataFrame:
    """The table in a file, whatever its kind; what its columns mean is for `layouts`.

    Raises:
        ValueError: the file is cut short, damaged, or not what it claims to be.
    """
    suffix = path.suffix.lower()
    if suffix in cyclers.EXCEL:
        return cyclers.read_excel(path)
    if suffix in cyclers.BINARY:
        return cyclers.read_batterydf(path)
    return _scan_parquet(path) if _is_parquet(path) else _scan_text(path)


def _is_parquet(path: Path) -> bool:
    if path.suffix.lower() in (".parquet", ".pq"):
        return True
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _scan_parquet(path: Path) -> pl.DataFrame:
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(0, path.stat().st_size - 4))
        tail = file.read(4)
    if head != b"PAR1":
        raise ValueError(
            f"{path}: not a parquet file (it starts with {head!r}, wanted b'PAR1'); export it again or name it .csv"
        )
    if tail != b"PAR1":
        raise ValueError(
            f"{path}: the parquet file is truncated ({path.stat().st_size} bytes, no footer); copy it again and "
            "compare checksums (remem data check)"
        )
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(
            f"{path}: the parquet file is damaged ({first_line(error)}); copy it again and compare checksums "
            "(remem data check)"
        ) from error


def _scan_text(path: Path) -> pl.DataFrame:
    """A csv, or a cycler's text export: its header may lie below a preamble and its fields be split by , ; or tab."""
    raw = path.read_bytes()
    if b"\x00" in raw[:_HEAD]:
        raise ValueError(
            f"{path}: neither parquet nor text (it starts with {raw[:8]!r}); wanted parquet, csv or a cycler's "
            "export; convert it first"
        )
    lines = raw[:_HEAD].decode("utf-8-sig", "replace").splitlines()[:_PREAMBLE]
    found = next((i for i, line in enumerate(lines) if cyclers.is_header(_fields(line))), None)
    if found is None and (
        lines[0].startswith(("~", "[", "EC-Lab", "BT-Lab")) or path.suffix.lower() == ".mpt"
    ):
        return cyclers.read_batterydf(path)
    header = found or 0
    separator = _separator(lines[header])
    if separator == "\t":  # Maccor ends its rows with a tab that its header does not have
        raw = re.sub(rb"\t+(\r?\n)", rb"\1", raw)
    try:
        return pl.read_csv(
            raw,
            separator=separator,
            skip_rows=header,
            infer_schema_length=None,
            null_values=["", "NA", "null", "None"],
            encoding="utf8-lossy",
            decimal_comma=separator != ","
            and bool(re.search(r"\d,\d", "".join(lines[header + 1 : header + 5]))),
        )
    except pl.exceptions.PolarsError as error:
        raise ValueError(
            f"{path}: cannot be read as csv ({first_line(error)}); wanted a header row and rows of the same number "
            "of fields; export it again"
        ) from error


def _separator(line: str) -> str:
    return max(",;\t", key=line.count)


def _fields(line: str) -> list[str]:
    return [field.strip().strip('"') for field in line.split(_separator(line))]


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:160]

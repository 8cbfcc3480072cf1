"""Raw cycler files (Arbin, Neware, Maccor, BDF and others) -> samples."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from .flags import Report


def is_cycler_file(path: Path) -> bool:
    """Whether the head of the file is that of a cycler's export."""
    return path.suffix.lower() in (".xlsx",)


def read_cycler(path: Path) -> tuple[pl.DataFrame, Report]:
    """Samples of one cycler file."""
    raise NotImplementedError

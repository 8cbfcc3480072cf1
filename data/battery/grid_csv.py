"""The csv layout of the Severson re-analysis: a file per cell, a row per voltage, a column per cycle, no header."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl

from .flags import Report
from .opening import first_line
from .schema import GRID_POINTS, curve_series

FIRST_CSV_CYCLE = 2
"""The files start at cycle 2: the source has no cycle 1."""


def _natural(path: Path) -> tuple[int, str]:
    digits = re.findall(r"\d+", path.stem)
    return (int(digits[-1]) if digits else 0, path.stem)


def cell_files(folder: Path) -> list[Path]:
    """The csv files of a folder in the order of the numbers in their names, files of lives left out."""
    files = sorted((p for p in folder.glob("*.csv") if "lives" not in p.stem), key=_natural)
    if not files:
        raise ValueError(
            f"{folder}: a folder without csv files; wanted one csv of 1000 rows x 99 columns per cell"
        )
    return files


def is_grid_csv(path: Path) -> bool:
    """Numbers in the first line, at least two of them, and no header."""
    with path.open("rb") as file:
        line = file.readline().decode("utf-8", "replace").strip()
    fields = line.split(",")
    try:
        [float(field) for field in fields]
    except ValueError:
        return False
    return len(fields) > 1


def read_grid_csv(files: list[Path], lives: str | Path | None, folder: str) -> tuple[pl.DataFrame, Report]:
    """The curves of one csv per cell, named `<folder>_<number>`, with their cycle lives where there are any.

    Raises:
        ValueError: a file is not 1000 rows of numbers, or lives and cells differ in number.
    """
    numbers = _read_lives(files[0].parent, lives, len(files))
    frames = []
    for i, path in enumerate(files):
        try:
            table = pl.read_csv(path, has_header=False, infer_schema_length=None)
            matrix = table.cast(pl.Float64).to_numpy().T
        except pl.exceptions.PolarsError as error:
            raise ValueError(
                f"{path}: not a table of numbers ({first_line(error)}); wanted {GRID_POINTS} rows (voltages) of one "
                "column per cycle and no header"
            ) from error
        if matrix.shape[1] != GRID_POINTS:
            raise ValueError(
                f"{path}: got {matrix.shape[1]} rows x {matrix.shape[0]} columns; wanted {GRID_POINTS} rows (3.6 V to "
                "2.0 V) x one column per cycle from cycle 2; the file may be cut short: copy it again"
            )
        cycles = np.arange(FIRST_CSV_CYCLE, FIRST_CSV_CYCLE + len(matrix))
        frame = pl.DataFrame({"cell_id": f"{folder}_{_natural(path)[0] or i + 1:02d}", "cycle": cycles})
        frame = frame.with_columns(curve_series(matrix))
        if numbers is not None:
            frame = frame.with_columns(pl.lit(numbers[i], pl.Float32).alias("cycle_life"))
        frames.append(frame)
    told = f"cells of {folder} named by their file"
    return pl.concat(frames), Report.of([(None, None, "cell_from_file_name", len(files), told)])


def _read_lives(folder: Path, lives: str | Path | None, cells: int) -> list[float] | None:
    if lives is not None:
        path = Path(lives)
    else:
        beside = folder.parent / "cycle_lives" / f"{folder.name}_cycle_lives.csv"
        found = [*sorted(folder.glob("*lives*.csv")), *([beside] if beside.exists() else [])]
        if not found or cells == 1:
            return None
        path = found[0]
    if not path.exists():
        raise ValueError(f"{path}: no such file; wanted a csv of cycle lives; check lives=")
    words = [w for w in re.split(r"[\s,;]+", path.read_text()) if w]
    try:
        numbers = [float(w) for w in words]
    except ValueError as error:
        raise ValueError(
            f"{path}: {error}; wanted one cycle life per cell and nothing else; remove the header"
        ) from error
    if len(numbers) != cells:
        raise ValueError(
            f"{path}: got {len(numbers)} cycle lives for {cells} cells; wanted one per cell, in the order of the cells"
        )
    return numbers

"""What becomes of the cells of the real sets: none left out without being counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from remem.data.battery.online import NOMINAL_CAPACITY_AH, label_rul
from remem.data.battery.readers import read_cycles


@pytest.mark.parametrize(
    ("name", "file", "counts"),
    [
        ("hust", "hust_percycle.parquet", (3, 51, 3, 0)),
        ("xjtu", "xjtu_percycle.parquet", (12, 7, 23, 0)),
        ("tongji", "tju_percycle.parquet", (100, 1, 29, 0)),
    ],
)
def test_ends_of_the_real_sets(name: str, file: str, counts: tuple[int, int, int, int]) -> None:
    path = Path(os.environ.get("REMEM_DATA", ""), "battery", file)
    if not path.exists():
        pytest.skip(f"needs {file}: set REMEM_DATA to the folder of the real sets")
    cycles = read_cycles(path).frame
    labels = label_rul(cycles, nominal_capacity_ah=NOMINAL_CAPACITY_AH[name])
    assert tuple(labels.counts.values()) == counts
    assert labels.frame.height == cycles.height
    assert labels.cells.height == cycles["cell_id"].n_unique()

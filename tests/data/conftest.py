"""Fixtures: real data where REMEM_DATA names its folder, and small files in the layouts of cyclers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from remem.data.battery.simulate import simulate_samples


@pytest.fixture
def real() -> Callable[[str], Path]:
    """Path of a real file; the test is skipped where it is not at hand."""

    def find(name: str) -> Path:
        root = os.environ.get("REMEM_DATA")
        path = Path(root or "", "battery", name)
        if root is None or not path.exists():
            pytest.skip(f"needs {name}: set REMEM_DATA to the folder of the real sets")
        return path

    return find


@pytest.fixture(scope="session")
def raw() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Samples of one cell's first three cycles at 4 C, and their true capacities."""
    return simulate_samples(1, 7, cycles=(1, 2, 3), noise=0.0)

"""Real logs where REMEM_DATA names their folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def real_log() -> Callable[[str], Path]:
    """Path of a real file; the test is skipped where it is not at hand."""

    def find(name: str) -> Path:
        root = os.environ.get("REMEM_DATA")
        path = Path(root or "", "knowledge_tracing", name)
        if root is None or not path.exists():
            pytest.skip(f"needs {name}: set REMEM_DATA to the folder of the real sets")
        return path

    return find

"""The registry agrees with the real files, where they are at hand."""

from __future__ import annotations

import os

import pytest

from remem.data.files import SETS, check_set, find


def test_names_and_sums_are_well_formed() -> None:
    names = [file.name for entry in SETS.values() for file in entry.files]
    assert len(names) == len(set(names))
    for entry in SETS.values():
        assert any(not file.optional for file in entry.files)
        assert all(len(file.sha256) == 64 and int(file.sha256, 16) for file in entry.files)
        assert entry.licence
        assert entry.cite


@pytest.mark.parametrize("name", list(SETS))
def test_real_files_have_their_sums(name: str) -> None:
    if find(name, os.environ.get("REMEM_DATA")) is None:
        pytest.skip(f"needs {name}: set REMEM_DATA to the folder of the real sets")
    assert {row["state"] for row in check_set(name)} <= {"ok", "absent"}

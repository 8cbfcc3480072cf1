"""The house keeps its own rules: names, packages, sizes of pages, nothing that belongs to one machine."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE_FOLDERS = ("core", "data", "apps", "serving")


def committed_files() -> list[Path]:
    """Files under version control, or all of the source tree where there is no git."""
    try:
        names = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git checkout: which files are part of the project is not known")
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def modules() -> list[Path]:
    return [file for folder in PACKAGE_FOLDERS for file in (ROOT / folder).rglob("*.py")]


def test_no_module_is_a_drawer():
    drawers = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "base.py", "misc.py"}
    assert [file for file in modules() if file.name in drawers] == []


def test_packages_of_pyproject_are_the_folders():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {"remem"} | {
        ".".join(["remem", *file.parent.relative_to(ROOT).parts])
        for folder in PACKAGE_FOLDERS
        for file in (ROOT / folder).rglob("__init__.py")
    }
    assert set(declared) == there


def test_every_folder_of_modules_is_a_package():
    assert [file.parent for file in modules() if not (file.parent / "__init__.py").exists()] == []


def test_package_imports_itself_relatively():
    absolute = re.compile(r"^\s*(from|import) remem\b", re.MULTILINE)
    assert [file for file in modules() if absolute.search(file.read_text())] == []


def test_assert_is_for_tests():
    statement = re.compile(r"^\s*assert\b", re.MULTILINE)
    assert [file for file in modules() if statement.search(file.read_text())] == []


def test_readme_is_short_and_changelog_open():
    assert len((ROOT / "README.md").read_text().splitlines()) < 200
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_no_path_of_one_machine():
    machine = re.compile(rb"(?<![\w.~-])/(?:home|Users|root|work|opt|mnt)/[\w.-]+")
    found = {
        str(file.relative_to(ROOT)): hit.group().decode()
        for file in committed_files()
        if (hit := machine.search(file.read_bytes()))
    }
    assert found == {}

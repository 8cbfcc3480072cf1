"""Every python block of the README and the docs runs, page by page, in an empty folder and on generated data."""

from pathlib import Path

import pytest
from sybil import Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

ROOT = Path(__file__).parents[2]
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if page.exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REMEM_DATA", raising=False)
    document = Sybil([CodeBlockParser("python", PythonEvaluator())], path=str(ROOT)).parse(page)
    for block in document.examples():
        block.evaluate()

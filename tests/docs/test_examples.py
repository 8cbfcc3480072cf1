"""Every file of examples/ runs as it stands, in an empty folder, without any data."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example, tmp_path):
    clean = {name: value for name, value in os.environ.items() if name != "REMEM_DATA"}
    done = subprocess.run(
        [sys.executable, str(example)], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout, "an example says what it found"

"""With numba, without it, and where its code cannot be kept: the same tours and bounds."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from remem.data.geometry import compiled, warm_up

ANSWERS = """
import json, sys
{before}
import numpy as np
from remem.data.geometry.bound import lower_bound
from remem.data.geometry.costs import Costs
from remem.data.geometry.exact import exact_tour
from remem.data.geometry.search import search
xy = np.random.default_rng(8).random((24, 2))
costs, whole = Costs.of_points(xy), Costs.of_points(np.rint(99 * xy), "EUC_2D")
path = search(costs, closed=False, start=3, end=5, iterations=9)
json.dump([
    search(costs, iterations=30).tour.tolist(), path.tour.tolist(), search(whole, iterations=9).tour.tolist(),
    lower_bound(costs, 4.5, steps=20), lower_bound(costs, 4.5, closed=False, end=2, steps=20),
    exact_tour(costs.matrix[:7, :7])[0].tolist(), "numba" in sys.modules and sys.modules["numba"] is not None,
], sys.stdout)
"""


def answers(before: str) -> list:
    run = subprocess.run(
        [sys.executable, "-c", ANSWERS.format(before=before)], capture_output=True, check=True
    )
    return json.loads(run.stdout)


def test_numba_is_not_needed():
    *with_it, there = answers("")
    *without, gone = answers("sys.modules['numba'] = None")  # importing it raises ImportError
    assert there
    assert not gone
    assert with_it == without


def test_code_that_cannot_be_kept_is_compiled_all_the_same(monkeypatch):
    class ReadOnly:
        def njit(self, cache=False, **options):
            if cache:
                raise RuntimeError("no locator available")
            return lambda function: function

    monkeypatch.setattr(compiled, "numba", ReadOnly())
    monkeypatch.setattr(compiled, "kept", True)
    assert compiled.compiled(abs)(-3) == 3
    assert not compiled.kept


@pytest.mark.parametrize(("kept", "word"), [(True, "kept for the next time"), (False, "NUMBA_CACHE_DIR")])
def test_somebody_who_waits_is_told(monkeypatch, kept, word):
    said = []
    monkeypatch.setattr(compiled, "kept", kept)
    monkeypatch.setattr(warm_up, "PATIENCE", 1000.0)
    warm_up.warm_up(said.append)
    assert said == []
    monkeypatch.setattr(warm_up, "PATIENCE", 0.0)
    search_once = warm_up.search
    monkeypatch.setattr(warm_up, "search", lambda *a, **k: time.sleep(0.3) or search_once(*a, **k))
    warm_up.warm_up(said.append)
    warm_up.warm_up()
    assert len(said) == 1
    assert word in said[0]

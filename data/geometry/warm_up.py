"""Compile before the clock runs: the first search of a machine waits for numba, and should say so."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from . import compiled
from .bound import NEAR, certify
from .costs import Costs
from .search import search

PATIENCE = 1.0
"""Seconds without a word: what is compiled already is loaded in less."""


def warm_up(say: Callable[[str], object] | None = None) -> None:
    """Make search and bound ready, so that a time limit is spent on what it is for.

    Args:
        say: is told one line where it takes longer than `PATIENCE`.
    """
    text = "making the search ready: it is compiled first, some seconds, " + (
        "and kept for the next time"
        if compiled.kept
        else "each time anew unless NUMBA_CACHE_DIR names a folder that can be written"
    )
    timer = threading.Timer(PATIENCE, say or str, [text])
    timer.daemon = True
    timer.start()
    try:
        costs = Costs.of_points(
            np.random.default_rng(0).random((NEAR + 1, 2))
        )  # as many as there is code for
        certify(costs, search(costs, iterations=1).length, steps=1)
    finally:
        timer.cancel()

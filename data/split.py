"""Splits by group (cell, student), never by window: rows of one group stay on one side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


def group_folds(
    groups: Sequence[str], n_folds: int, *, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield `n_folds` pairs (train index, test index) over rows, groups kept whole.

    Args:
        groups: the group of each row, e.g. `cell_id`. Distinct groups are shuffled with `seed` and dealt out,
            so the fold of a group does not depend on the order of the rows.
        n_folds: at least 2, at most the number of distinct groups.

    Raises:
        ValueError: where there are fewer groups than folds.
    """
    names = np.asarray(groups)
    distinct = np.unique(names)
    if not 2 <= n_folds <= len(distinct):
        raise ValueError(
            f"n_folds is {n_folds}, but there are {len(distinct)} groups; use 2..{len(distinct)}"
        )
    order = np.random.default_rng(seed).permutation(len(distinct))
    for fold in range(n_folds):
        held = np.isin(names, distinct[order[fold::n_folds]])
        yield np.flatnonzero(~held), np.flatnonzero(held)

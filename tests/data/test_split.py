"""Folds by group: every row once, no group on both sides, whatever the order of the rows."""

import numpy as np
import pytest

from remem.data.split import group_folds

ROWS = [f"cell_{i}" for i in (3, 1, 1, 0, 2, 3, 4, 4, 4, 0, 5, 6, 1)]


@pytest.mark.parametrize("n_folds", [2, 3, 7])
def test_every_row_is_held_out_once_and_groups_stay_whole(n_folds):
    names, held = np.array(ROWS), []
    for train, test in group_folds(ROWS, n_folds):
        assert sorted([*train, *test]) == list(range(len(ROWS)))
        assert not set(names[train]) & set(names[test])
        assert len(train)
        assert len(test)
        held.extend(test)
    assert sorted(held) == list(range(len(ROWS)))


def test_folds_hold_as_many_groups_as_can_be():
    sizes = [len({ROWS[i] for i in test}) for _, test in group_folds(ROWS, 3)]
    assert sorted(sizes) == [2, 2, 3]


def test_the_fold_of_a_group_does_not_depend_on_the_order_or_number_of_rows():
    def groups(rows):
        return [frozenset(rows[i] for i in test) for _, test in group_folds(rows, 3, seed=5)]

    assert groups(ROWS) == groups(ROWS[::-1]) == groups(sorted(set(ROWS)))


def test_the_seed_deals_them_out():
    def held(seed):
        return [test.tolist() for _, test in group_folds(ROWS, 3, seed=seed)]

    assert held(0) == held(0)
    assert any(held(0) != held(seed) for seed in range(1, 5))


@pytest.mark.parametrize("n_folds", [-1, 0, 1, 8])
def test_impossible_numbers_of_folds_are_refused(n_folds):
    with pytest.raises(ValueError, match=f"n_folds is {n_folds}, but there are 7 groups; use 2..7"):
        next(group_folds(ROWS, n_folds))

"""Of thousands of candidates few are asked, and what is found is as near to the target as what was not asked."""

import numpy as np
import pytest

from remem.data.tracing.answers import QUESTION, SLOT_1
from remem.serving.tracing.recommend import LISTED, PROBED, nearest, shortlist


def candidates(number, random):
    """Questions with their ease, their concepts, and a student's chance of success with each."""
    ease_Q = np.concatenate([[0.0], random.beta(5, 3, number)])
    x_NF = np.zeros((number, SLOT_1 + 2), np.float32)
    x_NF[:, QUESTION] = np.arange(1, number + 1)
    x_NF[:, SLOT_1] = random.integers(0, 100, number)
    known_C = random.normal(0, 1, 100)
    logit_N = 5 * (ease_Q[1:] - 0.6) + known_C[x_NF[:, SLOT_1].astype(int)] + random.normal(0, 0.2, number)
    return ease_Q, x_NF, 1 / (1 + np.exp(-logit_N))


@pytest.mark.parametrize("target", [0.0, 0.3, 0.7, 0.95, 1.0])
def test_of_many_candidates_few_are_asked(target):
    ease_Q, x_NF, p_N = candidates(10_000, np.random.default_rng(0))
    asked = []

    def ask(x):
        asked.extend(x[:, QUESTION].astype(int) - 1)
        return p_N[x[:, QUESTION].astype(int) - 1]

    listed = shortlist(ask, x_NF, ease_Q, target, 5)
    assert len(asked) == PROBED
    assert len(set(listed.tolist())) == len(listed) == LISTED
    assert (np.diff(listed) > 0).all()
    found = np.abs(p_N[listed[nearest(p_N[listed], target, 5)]] - target)
    best = np.abs(p_N[nearest(p_N, target, 5)] - target)
    assert (found - best).max() < 0.01


def test_few_candidates_are_all_looked_at():
    ease_Q, x_NF, _ = candidates(PROBED + LISTED, np.random.default_rng(1))
    assert len(shortlist(lambda x: pytest.fail("asked"), x_NF, ease_Q, 0.7, 5)) == len(x_NF)


def test_the_list_is_longer_than_what_is_wanted():
    ease_Q, x_NF, p_N = candidates(5_000, np.random.default_rng(2))
    listed = shortlist(lambda x: p_N[x[:, QUESTION].astype(int) - 1], x_NF, ease_Q, 0.7, 1_500)
    assert len(listed) == 3_000

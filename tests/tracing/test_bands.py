"""The spread of true probabilities is recovered from pairs of answers, and pairs are those of a loop."""

import numpy as np
import polars as pl
import pytest
import torch

from remem.apps.tracing.bands import EDGES, band_table, same_concept_pairs
from remem.data.tracing.encode import Vocabulary
from remem.data.tracing.schema import conform
from remem.data.tracing.simulate import simulate_log


class Stubborn:
    """A model that says the same of everybody."""

    def __call__(self, x_BTF, mask_BT):
        return torch.full((*mask_BT.shape, 1), 0.6), None


def spread_of(spread, students):
    """The table of students whose true levels lie `spread` around .6, which is what the model says of all."""
    random = np.random.default_rng(1)
    level = 0.6 + spread * random.choice([-1, 1], students)
    rows = [
        {"student_id": f"s{s}", "question_id": "q", "concepts": ["c"], "correct": int(random.uniform() < p)}
        for s, p in enumerate(level)
        for _ in range(8)
    ]
    log = conform(pl.DataFrame(rows), source="levels").frame
    table = band_table(Stubborn(), Vocabulary.fit(log), log)
    assert table["answers"] == list(EDGES)
    assert (np.diff(table["sd"]) <= 1e-9).all(), "more answers never make it less sure"
    # told for even odds; nobody has ten answers: the rest is of all
    return np.array(table["sd"][:4]) * 4 * 0.6 * 0.4


def test_the_spread_is_that_of_the_students_true_levels():
    assert spread_of(0.2, 3000) == pytest.approx(0.2, abs=0.045)


def test_where_levels_are_one_the_band_shrinks_with_the_noise_but_not_below_it():
    few, many = spread_of(0.0, 300), spread_of(0.0, 4000)
    assert (many < few).all()
    assert (many > 0.02).all()
    assert (many < 0.08).all()


def test_with_few_pairs_there_is_no_band():
    log = simulate_log(3, 5, 2, answers=(5, 6)).drop("p_true")
    assert band_table(Stubborn(), Vocabulary.fit(log), log) is None


def test_pairs_are_those_of_a_loop():
    log = simulate_log(12, 15, 4, seed=2, answers=(5, 30)).drop("p_true")
    log = log.with_columns(pl.when(pl.int_range(pl.len()) % 7 > 0).then("correct").alias("correct"))
    answers = Vocabulary.fit(log).encode(log)
    wanted, seen = set(), {}
    for place, (student, row) in enumerate(zip(answers.student_of, answers.x, strict=True)):
        if np.isfinite(row[1]):
            earlier = seen.setdefault((student, row[3]), [])
            if earlier:
                wanted.add((earlier[-1], place, len(earlier) - 1))
            earlier.append(place)
    assert set(zip(*(part.tolist() for part in same_concept_pairs(answers)), strict=True)) == wanted

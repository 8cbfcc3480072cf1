"""Figures of forecasts against scikit-learn, loops over all pairs, and draws."""

import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from remem.data.tracing import metrics
from remem.data.tracing.slices import slice_masks, slice_metrics


@st.composite
def forecasts(draw, least=2):
    n = draw(st.integers(least, 30))
    rows = draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=n, max_size=n))
    correct, p = np.array(rows).T
    return correct, p / 8  # many ties


def pairs(correct, p, weights):
    won = total = 0.0
    for i in np.flatnonzero(correct == 1):
        for j in np.flatnonzero(correct == 0):
            total += weights[i] * weights[j]
            won += weights[i] * weights[j] * (float(p[i] > p[j]) + 0.5 * float(p[i] == p[j]))
    return won / total if total else np.nan


@given(forecasts(), st.data())
@settings(deadline=None)
def test_auc_is_the_share_of_pairs_won(sample, data):
    correct, p = sample
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(p), max_size=len(p))), float)
    np.testing.assert_allclose(metrics.auc(correct, p, weights), pairs(correct, p, weights), rtol=1e-12)


def test_figures_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.01, 0.99, 500).round(2)
    correct = (rng.uniform(size=500) < p).astype(int)
    out = metrics.answer_metrics(correct, p)
    assert out["n"] == 500
    assert out["auc"] == pytest.approx(roc_auc_score(correct, p), abs=1e-12)
    assert out["nll"] == pytest.approx(log_loss(correct, p), abs=1e-12)
    assert out["accuracy"] == accuracy_score(correct, p >= 0.5)
    assert out["brier"] == pytest.approx(brier_score_loss(correct, p), abs=1e-12)
    assert "core" not in out


@given(forecasts())
@settings(deadline=None)
def test_calibration_error_is_a_mean_over_bins(sample):
    correct, p = sample
    edges = np.linspace(0, 1, 16)
    error = total = 0.0
    for b in range(15):
        inside = (p >= edges[b]) & ((p < edges[b + 1]) | (b == 14))
        if inside.any():
            total += inside.sum()
            error += inside.sum() * abs(p[inside].mean() - correct[inside].mean())
    assert total == len(p)
    assert metrics.calibration_error(correct, p) == pytest.approx(error / len(p), abs=1e-12)
    assert metrics.reliability(correct, p)["n"].sum() == len(p)


def test_a_forecast_of_the_truth_is_calibrated_and_a_shifted_one_is_not():
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.2, 0.8, 200_000)
    correct = (rng.uniform(size=truth.size) < truth).astype(int)
    assert metrics.calibration_error(correct, truth) < 0.005
    assert metrics.calibration_error(correct, truth + 0.1) == pytest.approx(0.1, abs=0.005)


def test_core_is_the_mean_of_the_draws_it_stands_for():
    rng = np.random.default_rng(2)
    n, questions = 400, rng.integers(0, 12, 400)
    p = rng.uniform(size=n)
    correct = (rng.uniform(size=n) < 0.3 * p + 0.05 * questions).astype(int)
    correct[questions == 3] = 1  # only right answers: left out
    drawn = []
    for _ in range(400):
        rows = []
        for q in range(12):
            right, wrong = (np.flatnonzero((questions == q) & (correct == c)) for c in (1, 0))
            if len(right) and len(wrong):
                half = (len(right) + len(wrong)) // 2
                rows += [rng.choice(right, half), rng.choice(wrong, half)]
        rows = np.concatenate(rows)
        drawn.append(roc_auc_score(correct[rows], p[rows]))
    spread = np.std(drawn) / np.sqrt(len(drawn))
    assert abs(metrics.core(correct, p, questions) - np.mean(drawn)) < 4 * spread
    assert (metrics.core_weights(questions, correct)[questions == 3] == 0).all()


def test_core_gives_no_credit_for_the_difficulty_of_questions():
    rng = np.random.default_rng(3)
    questions = rng.integers(0, 20, 5000)
    difficulty = np.linspace(0.1, 0.9, 20)[questions]
    correct = (rng.uniform(size=5000) < difficulty).astype(int)
    assert metrics.auc(correct, difficulty) > 0.75
    assert metrics.core(correct, difficulty, questions) == pytest.approx(0.5, abs=1e-3)


def test_bootstrap_takes_the_same_whole_students_for_both():
    rng = np.random.default_rng(4)
    students = np.repeat(np.arange(30), rng.integers(1, 9, 30))
    correct = rng.integers(0, 2, len(students))
    p, other = rng.uniform(size=(2, len(students))).round(1)
    drawn = metrics.bootstrap_auc(correct, [p, other, p], students, draws=20, seed=7)
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 2])
    again = np.random.default_rng(7)
    for row in drawn:
        chosen = again.integers(0, 30, 30)
        rows = np.concatenate([np.flatnonzero(students == s) for s in chosen])
        assert row[0] == pytest.approx(roc_auc_score(correct[rows], p[rows]), abs=1e-12)
        assert row[1] == pytest.approx(roc_auc_score(correct[rows], other[rows]), abs=1e-12)


def test_a_better_forecast_is_told_from_an_equal_one():
    rng = np.random.default_rng(5)
    n = 4000
    truth = rng.uniform(0.05, 0.95, n)
    correct, students = (rng.uniform(size=n) < truth).astype(int), rng.integers(0, 100, n)
    noise = np.clip(truth + rng.normal(0, 0.3, n), 0, 1)
    better = metrics.auc_difference(correct, truth, noise, students, draws=200)
    assert better["lo"] > 0
    assert better["worse"] == 0
    same = metrics.auc_difference(correct, truth, truth, students, draws=50)
    assert (same["difference"], same["lo"], same["hi"], same["worse"]) == (0, 0, 0, 1)


def test_a_thousand_draws_of_a_test_fold_take_seconds():
    rng = np.random.default_rng(6)
    n = 60_000
    correct, students = rng.integers(0, 2, n), rng.integers(0, 830, n)
    start = time.process_time()
    metrics.auc_difference(correct, rng.uniform(size=n), rng.uniform(size=n), students)
    assert time.process_time() - start < 10  # .6 s on a quiet core


@pytest.mark.parametrize(
    ("correct", "p", "message"),
    [
        ([1, 0], [0.5], "one forecast per answer"),
        ([], [], "no answers to judge"),
        ([1, 2], [0.5, 0.5], "0 or 1, got 2.0"),
        ([1, 0], [0.5, 1.5], "probability, got 1.5 at row 1"),
        ([1, 0], [np.nan, 0.5], "probability, got nan at row 0"),
    ],
)
def test_what_cannot_be_judged_is_refused(correct, p, message):
    with pytest.raises(ValueError, match=message):
        metrics.auc(np.array(correct), np.array(p))


def test_one_kind_of_answer_has_no_auc():
    assert np.isnan(metrics.auc(np.ones(3), np.array([0.1, 0.2, 0.3])))


def log(students, questions, concepts, correct):
    return pl.DataFrame(
        {"student_id": students, "question_id": questions, "concepts": concepts, "correct": correct},
        schema_overrides={"correct": pl.Int8, "question_id": pl.String},
    )


def test_slices():
    train = log(["t"] * 8, ["often"] * 5 + ["once", "asked", "asked"], [["c"]] * 8, [1] * 6 + [None, None])
    test = log(
        ["a", "b", "a", "a", "b"],
        ["often", "once", "asked", "often", None],
        [["c"], ["c", "d"], ["c"], [], ["c"]],
        [1, 0, None, 0, 1],
    )
    masks = {name: np.flatnonzero(mask).tolist() for name, mask in slice_masks(test, train).items()}
    assert masks == {
        "first_answer": [0, 1],
        "answers_2_5": [3, 4],
        "unseen_question": [4],  # no id: no training answer either
        "rare_question": [1, 4],
        "long_history": [],
        "several_concepts": [1],
    }
    assert "rare_question" not in slice_masks(test)
    counted = slice_masks(test, {"often": 5, "once": 1.0, "elsewhere": 9})
    assert {name: np.flatnonzero(mask).tolist() for name, mask in counted.items()} == masks
    table = slice_metrics(test, np.array([0.9, 0.2, np.nan, 0.4, 0.6]), train)
    assert table["slice"].to_list()[0] == "all"
    assert dict(zip(table["slice"], table["n"], strict=True))["all"] == 4
    assert "long_history" not in table["slice"]


def test_long_history_starts_after_two_hundred_answers():
    long = log(["a"] * 203, ["q"] * 203, [["c"]] * 203, [1] * 203)
    assert np.flatnonzero(slice_masks(long)["long_history"]).tolist() == [201, 202]

"""The baselines on generated answers: what each must know, what none may know, and the columns of the regressions."""

import datetime

import numpy as np
import polars as pl
import pytest

from remem.apps.tracing.baselines import BASELINES, fit_baseline
from remem.apps.tracing.linear import BEST_LR, DAS3H, PFA, CountRegression
from remem.data.tracing.metrics import auc, core
from remem.data.tracing.schema import COLUMNS

START = datetime.datetime(2020, 1, 1)


def answers(students, *, first=0, timed=False, seed=0):
    """Answers of students who differ in ability, learn with every answer on a concept, and forget with time."""
    rng = np.random.default_rng(seed)
    ease = np.random.default_rng(99).normal(0.5, 1.0, 40)
    rows = []
    for s in range(first, first + students):
        ability, practice, clock = rng.normal(0, 1), np.zeros(4), START
        for _ in range(25):
            q = int(rng.integers(40))
            hours = float(rng.choice([0.2, 2, 40, 400]))
            clock += datetime.timedelta(hours=hours)
            practice *= np.exp(-hours / 100) if timed else 1.0
            logit = ability + ease[q] + 0.5 * np.log1p(3 * practice[q % 4]) - 0.5
            correct = int(rng.uniform() < 1 / (1 + np.exp(-logit)))
            practice[q % 4] += 1
            rows.append((f"s{s}", f"q{q}", [f"c{q % 4}"], correct, clock if timed else None))
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


@pytest.fixture(scope="module")
def logs():
    return answers(200, seed=1), answers(60, first=1000, seed=2), answers(120, first=2000, seed=3)


@pytest.fixture(scope="module")
def fitted(logs):
    train, valid, _ = logs
    return {name: fit_baseline(name, train, valid) for name in BASELINES if name != "das3h"}


def test_those_that_see_students_and_questions_win(fitted, logs):
    test = logs[2]
    correct = test["correct"].to_numpy()
    found = {name: auc(correct, one.predict(test)) for name, one in fitted.items()}
    for name in ("best_lr", "hist_gradient_boosting", "xgboost"):
        assert found[name] > max(found["question_mean"], found["pfa"], found["bkt"]) + 0.01
    assert min(found.values()) > 0.55
    questions = test["question_id"].to_numpy()
    assert core(correct, fitted["question_mean"].predict(test), questions) == pytest.approx(0.5, abs=1e-9)
    assert core(correct, fitted["best_lr"].predict(test), questions) > 0.55


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "das3h"])
def test_no_answer_moves_its_own_or_an_earlier_forecast(fitted, logs, name):
    test = logs[2].head(100)
    at = 60
    flipped = test.with_columns(
        pl.when(pl.int_range(pl.len()) == at)
        .then(1 - pl.col("correct"))
        .otherwise("correct")
        .alias("correct")
    )
    before, after = (fitted[name].predict(log) for log in (test, flipped))
    np.testing.assert_array_equal(before[: at + 1], after[: at + 1])
    assert ((before >= 0) & (before <= 1)).all()
    assert before.shape == (100,)
    same_student = (test["student_id"] == test["student_id"][at]).to_numpy()
    later = same_student & (np.arange(100) > at)
    assert (before[later] != after[later]).any() == (name != "question_mean")


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "das3h"])
def test_unknown_questions_concepts_and_unanswered_rows_have_forecasts(fitted, name):
    rows = [
        ("x", "new", ["c1"], None),
        ("x", None, ["strange"], 1),
        ("x", "q1", [], 0),
        ("x", "new", [], None),
    ]
    p = fitted[name].predict(pl.DataFrame([(*row, None) for row in rows], schema=COLUMNS, orient="row"))
    assert np.isfinite(p).all()
    assert fitted[name].seconds > 0


def test_windows_pay_where_time_matters_and_are_refused_without_it(logs):
    train, valid, test = (
        answers(200, timed=True, seed=4),
        answers(60, timed=True, seed=5),
        answers(150, timed=True, seed=6),
    )
    correct = test["correct"].to_numpy()
    windows, counts = (CountRegression(terms).fit(train, valid) for terms in (DAS3H, PFA))
    assert auc(correct, windows.predict(test)) > auc(correct, counts.predict(test)) + 0.01
    with pytest.raises(ValueError, match="DAS3H: the training log has no timestamps"):
        fit_baseline("das3h", *logs[:2])


def test_columns_of_a_regression_are_counts_of_the_concept():
    rows = [
        ("s", "q1", ["a"], 1),
        ("s", "q2", ["a", "b"], 0),
        ("s", "q1", ["b"], None),
        ("s", "q2", ["a", "b"], 1),
    ]
    log = pl.DataFrame([(*row, None) for row in rows], schema=COLUMNS, orient="row")
    train = pl.concat([log.with_columns(pl.lit(f"s{s}").alias("student_id")) for s in range(5)])
    model = CountRegression(PFA).fit(train, train)
    x = model._design(log).toarray()
    names = [f"{what} {c}" for what in ("ease", "wins", "fails") for c in model.history.vocabulary.concepts]
    table = {name: np.expm1(x[:, i]) if name[:4] != "ease" else x[:, i] for i, name in enumerate(names)}
    assert table["ease a"].tolist() == [1, 1, 0, 1]
    assert table["ease b"].tolist() == [0, 1, 1, 1]
    np.testing.assert_allclose(table["wins a"], [0, 1, 0, 1])
    np.testing.assert_allclose(table["fails a"], [0, 0, 0, 1])
    np.testing.assert_allclose(table["fails b"], [0, 0, 1, 1])
    assert CountRegression(BEST_LR).fit(train, train)._design(log).shape[1] == 9 + 3 + 10


def test_bad_names_and_empty_logs_are_refused(logs):
    train, valid, _ = logs
    with pytest.raises(ValueError, match="no baseline 'hgb'; choose from question_mean, bkt"):
        fit_baseline("hgb", train, valid)
    with pytest.raises(ValueError, match="the validation log has no answers"):
        fit_baseline("pfa", train, valid.with_columns(pl.lit(None, pl.Int8).alias("correct")))


def test_benchmarks_run_on_simulated_students(monkeypatch, tmp_path):
    from remem.apps.tracing import bench_baselines
    from remem.apps.tracing.sets import load_log

    monkeypatch.setattr(bench_baselines, "load_log", lambda **_: load_log(name="simulated"))
    rows = bench_baselines.tracing_baselines(quick=True)
    assert [row["model"] for row in rows] == ["question_mean", "bkt"]
    assert rows[0]["core"] == pytest.approx(0.5, abs=1e-3)
    (features,) = bench_baselines.tracing_features(seeds=1, quick=True)
    assert features["seconds"] < 10


def test_every_fold_is_judged_by_students_it_never_trained_on():
    from remem.apps.tracing.bench_baselines import crossed
    from remem.apps.tracing.sets import load_log

    judged = []
    for split in crossed(load_log(name="simulated")):
        (test,) = split.tests.values()
        judged += test["student_id"].unique().to_list()
        parts = [part["student_id"].unique() for part in (split.train, split.valid, test)]
        assert pl.concat(parts).is_unique().all()
    assert len(judged) == len(set(judged)) > 0

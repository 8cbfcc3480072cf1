"""The estimator asks its own bundle: what it says is what production says."""

import pickle

import numpy as np
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from remem.apps.tracing.estimator import KnowledgeTracer
from remem.data.tracing.metrics import auc
from remem.data.tracing.simulate import simulate_log
from remem.serving import TracingPredictor


@pytest.fixture(scope="module")
def logs():
    log = simulate_log(90, 30, 4, seed=7, answers=(10, 30)).drop("p_true")
    return tuple(log.filter(pl.col("fold").is_in(folds)).drop("fold") for folds in ([0, 1, 2], [3], [4]))


@pytest.fixture(scope="module")
def tracer(logs):
    return KnowledgeTracer(max_epochs=1, d_model=16, trees=False).fit(logs[0], valid=logs[1])


def test_forecasts_are_those_of_the_exported_bundle(tracer, logs, tmp_path):
    fresh = logs[2]
    p = tracer.predict_proba(fresh)
    bundle = TracingPredictor(tracer.export(tmp_path / "bundle"), device="cpu")
    np.testing.assert_array_equal(p[:, 1], bundle.predict(fresh)["p_correct"].to_numpy())
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert tracer.score(fresh) == auc(fresh["correct"].to_numpy(), p[:, 1])
    assert (tracer.predict(fresh) == (p[:, 1] >= 0.5)).all()
    again = KnowledgeTracer.load(tmp_path / "bundle")
    np.testing.assert_array_equal(again.predict_proba(fresh), p)


def test_it_is_an_estimator_like_any_other(tracer, logs):
    fresh = clone(tracer)
    assert fresh.get_params() == tracer.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict_proba(logs[2])
    again = pickle.loads(pickle.dumps(tracer))
    np.testing.assert_array_equal(again.predict_proba(logs[2]), tracer.predict_proba(logs[2]))
    assert tracer.classes_.tolist() == [0, 1]


def test_repeated_rows_get_the_forecast_of_their_answer(tracer, logs):
    fresh = logs[2].drop("timestamp")
    rows = fresh.with_row_index("answer").explode("concepts")
    assert rows.height > fresh.height
    p = tracer.predict_proba(rows.drop("answer"))[:, 1]
    np.testing.assert_array_equal(p, tracer.predict_proba(fresh)[rows["answer"].to_numpy(), 1])


def test_updates_one_by_one_end_where_the_whole_log_ends(tracer, logs):
    fresh = logs[2]
    whole = tracer.mastery(fresh).sort("student_id", "concept")
    half = fresh.height // 2
    tracer.partial_update(fresh[:half]).partial_update(fresh[half:])
    stepped = tracer.mastery().sort("student_id", "concept")
    assert stepped.select("student_id", "concept", "answers").equals(
        whole.select("student_id", "concept", "answers")
    )
    np.testing.assert_allclose(stepped["mastery"], whole["mastery"], atol=1e-5)
    best = tracer.recommend(fresh["student_id"][0], k=2, target=0.6)
    assert abs(best[0]["p_correct"] - 0.6) <= abs(best[1]["p_correct"] - 0.6)


def test_a_heat_map_of_one_student_ends_with_the_mastery_of_now(tracer, logs):
    one = logs[2].filter(pl.col("student_id") == logs[2]["student_id"][0])
    history = tracer.mastery_history(one)
    last = history.filter(pl.col("answer") == one.height).sort("concept")
    np.testing.assert_allclose(last["mastery"], tracer.mastery(one).sort("concept")["mastery"], atol=1e-6)
    effects = tracer.explain(one)
    assert effects["answer"].to_list() == list(range(1, one.height))


def test_students_in_both_logs_are_refused(logs):
    with pytest.raises(ValueError, match="split by student"):
        KnowledgeTracer().fit(logs[0], valid=logs[0])
    with pytest.raises(ValueError, match="wanted a polars table"):
        KnowledgeTracer().fit([1, 2])


def test_other_peoples_folders_stay_as_they_are(tracer, tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(ValueError, match="nothing was overwritten"):
        tracer.export(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"recall": "transformer"}, "recall is 'transformer'; wanted recurrent, attention, cakt"),
        ({"layer": "remem.core.LTSM"}, "layer is 'remem.core.LTSM', which cannot be imported"),
        ({"d_model": 0}, "d_model is 0; wanted a whole number of 1 or more"),
        ({"max_epochs": 2.5}, "max_epochs is 2.5; wanted"),
        ({"trees": "no"}, "trees is 'no'; wanted True or False"),
    ],
)
def test_parameters_out_of_range_are_told_and_do_not_end_the_process(logs, wrong, words):
    with pytest.raises(ValueError, match=words):
        KnowledgeTracer(**wrong).fit(logs[0])


def test_mastery_of_nobody_has_the_columns_of_mastery(tracer, logs, tmp_path):
    nobody = KnowledgeTracer.load(tracer.export(tmp_path / "bundle"))
    assert nobody.mastery().height == 0
    assert nobody.mastery().schema == tracer.mastery(logs[2]).schema

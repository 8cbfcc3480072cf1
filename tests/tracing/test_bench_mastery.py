"""The mastery bench runs, and counts what a loop over a session counts."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from remem.apps.tracing.bench_mastery import tracing_mastery, windows, wrong_way
from remem.apps.tracing.bench_truth import GAIN, _chance, _known, _linked, simulated
from remem.apps.tracing.estimator import KnowledgeTracer
from remem.data.tracing.simulate import simulate_log
from remem.serving import TracingPredictor, TracingSession

NAMES = ("student_id", "question_id", "correct", "concepts", "timestamp")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    log = simulate_log(60, 40, 5, seed=1, answers=(10, 40)).drop("p_true", "fold")
    return (
        KnowledgeTracer(max_epochs=2, trees=False)
        .fit(log)
        .export(tmp_path_factory.mktemp("mastery") / "bundle")
    )


def test_quick_rows() -> None:
    rows = tracing_mastery(seeds=3, quick=True)
    found = {}
    for row in rows:
        assert set(row) == {"measure", "on", "part", "n", "value", "beside", "wanted"}
        found.setdefault(row["measure"], []).append(row)
    assert [row["value"] for row in found["monotone: violations"]] == [0]
    assert found["monotone: violations"][0]["beside"] > 0
    assert abs(found["monotone: AUC lost"][0]["value"]) < 0.02
    assert all(
        0 <= row["value"] <= 1 for name in ("recommend: right", "band: true inside") for row in found[name]
    )
    assert 0.5 < found["band: true inside"][0]["value"] < 0.97


@pytest.mark.parametrize("monotone", [False, True])
def test_movements_the_wrong_way_are_those_that_a_session_reports(bundle, monotone):
    log = simulate_log(6, 40, 5, seed=2, answers=(10, 40)).drop("p_true", "fold")
    session = TracingSession(bundle, monotone=monotone)
    count = times = 0
    for student, question, correct, concepts, time in log.select(NAMES).iter_rows():
        before = {row["concept"]: row["mastery"] for row in session.mastery(student, concepts, time)}
        after = session.update(student, question, correct, concepts, time)["mastery"]
        for concept, mastery in after.items():
            moved = mastery - before[concept]
            count += moved < 0 if correct else moved > 0
            times += 1
    got = wrong_way(TracingPredictor(bundle, device="cpu", monotone=monotone), log)
    assert got == (count, times)
    assert (count == 0) == monotone


def test_windows_are_forecast_from_before_their_first_answer(bundle):
    log = simulate_log(5, 40, 5, seed=3, answers=(9, 25)).drop("p_true", "fold")
    p_WN, y_WN = windows(TracingPredictor(bundle, device="cpu"), log, 4)
    session, wanted_p, wanted_y = TracingSession(bundle), [], []
    for _, own in sorted(log.group_by("student_id", maintain_order=True), key=lambda part: part[0]):
        for start in range(0, own.height, 4):
            some = own[start : start + 4]
            if some.height == 4:
                student, first = some["student_id"][0], some["timestamp"][0]
                wanted_p.append(
                    session.ask(student, some["question_id"].to_list(), some["concepts"].to_list(), first)
                )
                wanted_y.append(some["correct"].to_list())
            for row in some.select(NAMES).iter_rows():
                session.update(*row)
    np.testing.assert_allclose(p_WN, wanted_p, atol=1e-6)
    np.testing.assert_array_equal(y_WN, wanted_y)


def test_truth_is_the_formula_of_the_simulator():
    log = simulated(0, students=40)
    known = _known(log)
    at_once = known.with_columns(
        then=pl.col("p_true").shift(-1).over("student_id"),
        next_question=pl.col("question_id").shift(-1).over("student_id"),
        wait=(pl.col("timestamp").shift(-1) - pl.col("timestamp")).over("student_id").dt.total_seconds(),
    ).filter((pl.col("next_question") == pl.col("question_id")) & (pl.col("wait") < 600))
    assert at_once.height > 20
    # the same question a moment later: nothing is forgotten
    np.testing.assert_allclose(_chance(at_once["after"].to_numpy()), at_once["then"], atol=2e-3)
    first = known.group_by("student_id", "concept", maintain_order=True).first()
    gain = first["after"].to_numpy() - _linked(first["p_true"].to_numpy())
    np.testing.assert_allclose(gain, GAIN * np.log(2))

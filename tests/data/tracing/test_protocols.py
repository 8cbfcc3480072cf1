"""What is scored, against loops; that no protocol lets a label be read off the row before unless asked by name."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remem.data.tracing.metrics import answer_metrics, auc
from remem.data.tracing.protocols import CHUNK, compare, evaluate, headline, prepare
from remem.data.tracing.schema import COLUMNS


def log(rows):
    return pl.DataFrame([(*row, None) for row in rows], schema=COLUMNS, orient="row")


@st.composite
def logs(draw):
    """A question keeps its concepts and never follows itself."""
    concepts_of = [[], ["a"], ["a", "b"], ["c", "b", "a"]]
    rows = []
    for student in range(draw(st.integers(1, 4))):
        last = None
        for _ in range(draw(st.integers(0 if student else 3, 8))):
            question = draw(st.sampled_from([q for q in range(4) if q != last]))
            correct = draw(st.sampled_from([0, 1, None])) if rows else 1
            rows.append((f"s{student}", f"q{question}", concepts_of[question], correct))
            last = question
    return log(rows)


def forecaster(frame, seed=0):
    """(rows,) forecasts that depend on what is asked and on the answers before it, as those of a model do."""
    history, out = {}, []
    for student, question, concepts, correct, _ in frame.iter_rows():
        past = history.setdefault(student, [])
        out.append(hash((seed, question, tuple(concepts), tuple(past))) % 997 / 996)
        if correct is not None:
            past.append((question, tuple(concepts), correct))
    return np.array(out)


@given(logs())
@settings(deadline=None)
def test_honest_scores_every_answer_once_from_all_before_it(frame):
    trial, p = prepare(frame), forecaster(frame)
    assert trial.log.equals(frame)
    fused, answered = trial.fuse(p), frame["correct"].is_not_null().to_numpy()
    np.testing.assert_array_equal(fused[answered], p[answered])
    assert np.isnan(fused[~answered]).all()
    np.testing.assert_array_equal(trial.scored, answered)


@given(logs())
@settings(deadline=None)
def test_pykt_asks_for_each_concept_before_the_question_is_answered(frame):
    wanted, histories, left = [], {}, 0
    counts = dict(frame.group_by("student_id").agg(pl.col("correct").count()).iter_rows())
    for student, question, concepts, correct, _ in frame.iter_rows():
        if counts[student] < 3:
            left += correct is not None
            continue
        past = histories.setdefault(student, [])
        if correct is not None:
            if past:
                asked = [(c,) for c in concepts] if len(concepts) > 1 else [tuple(concepts)]
                each = [hash((0, question, one, tuple(past))) % 997 / 996 for one in asked]
                wanted.append((student, correct, np.mean(each)))
            past.append((question, tuple(concepts), correct))
    if not wanted:
        with pytest.raises(ValueError, match="no answer of the"):
            prepare(frame, "pykt")
        return
    trial = prepare(frame, "pykt")
    fused = trial.fuse(forecaster(trial.log))
    scored = trial.answers.filter(pl.Series(trial.scored))
    assert scored["student_id"].to_list() == [student for student, _, _ in wanted]
    assert scored["correct"].to_list() == [correct for _, correct, _ in wanted]
    np.testing.assert_allclose(fused[trial.scored], [p for _, _, p in wanted], atol=1e-12)
    assert trial.left_out["their answers"] == left
    assert trial.left_out["students with fewer than 3 answers"] == sum(0 < n < 3 for n in counts.values())


def test_legacy_spreads_an_answer_over_its_concepts_and_forgets_every_two_hundred_rows():
    frame = log(
        [("s", f"q{t}", ["a", "b"] if t % 2 else ["a"], t % 3 == 0) for t in range(200)] + [("t", "q", [], 1)]
    )
    trial = prepare(frame, "akt-legacy")
    assert trial.log.height == 301
    assert trial.log["student_id"].rle().struct.field("len").to_list() == [CHUNK, 100, 1]
    assert trial.log["concepts"].list.len().to_list()[-1] == 0
    assert trial.scored.all()
    assert trial.leak_share == pytest.approx(99 / 301)  # one of the 100 pairs is cut in two
    p = np.full(301, 0.5)
    p[0] = 0.6
    rows = evaluate(trial, p)
    assert rows[0]["n"] == 301
    assert "akt-legacy, 301 answers, 32.9% of them leaked" in headline(rows)


def test_repeat_rows_are_scored_only_where_asked_for_by_name():
    repeats = log([("s", "q1", ["a"], 1), ("s", "q1", ["b"], 1), ("s", "q2", ["a"], 0)])
    for protocol in ("honest", "pykt"):
        with pytest.raises(ValueError, match=r"1 of 3 rows repeat .* merge them with from_repeat_rows"):
            prepare(repeats, protocol)
    assert prepare(repeats, "akt-legacy").leak_share == pytest.approx(1 / 3)


def test_attempts_at_one_question_on_one_concept_are_no_repeats():
    attempts = log([("s", "q1", ["a"], 0), ("s", "q1", ["a"], 0), ("s", "q1", ["a"], 1)])
    assert prepare(attempts).scored.all()


def test_one_headline_then_the_parts():
    rng = np.random.default_rng(0)
    frame = log(
        [(f"s{s}", f"q{rng.integers(6)}", ["a"], int(rng.integers(2))) for s in range(9) for _ in range(7)]
    )
    train = frame.filter(pl.col("question_id") != "q5").head(20)
    p, trial = rng.uniform(size=frame.height), prepare(frame)
    rows = evaluate(trial, p, train=train)
    correct = frame["correct"].to_numpy()
    wanted = answer_metrics(correct, p, frame["question_id"].to_numpy())
    assert {name: rows[0][name] for name in wanted} == wanted
    assert headline(rows) == f"AUC {wanted['auc']:.4f} (honest, 63 answers)"
    parts = {row["part"]: row for row in rows[1:]}
    unseen = (frame["question_id"] == "q5").to_numpy()
    assert parts["unseen_question"]["n"] == unseen.sum()
    assert parts["unseen_question"]["auc"] == auc(correct[unseen], p[unseen])
    assert [row for row in rows if row["part"] == "all"] == rows[:1]

    other = rng.uniform(size=frame.height)
    (row,) = compare(trial, p, {"other": other}, draws=50)
    assert row["difference"] == pytest.approx(auc(correct, p) - auc(correct, other))
    assert row["lo"] < row["difference"] < row["hi"]


def test_without_question_ids_core_balances_within_lists_of_concepts():
    frame = log([("s", None, c, y) for c, y in [(["a"], 1), (["a"], 0), (["b", "a"], 1), (["a", "b"], 1)]])
    rows = evaluate(prepare(frame), np.array([0.9, 0.1, 0.0, 0.0]))
    assert rows[0]["core"] == 1.0


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="wanted one of honest, pykt, akt-legacy"):
        prepare(log([("s", "q", ["a"], 1)]), "window")
    with pytest.raises(ValueError, match="no answer of the 1 rows is scored"):
        prepare(log([("s", "q", ["a"], None)]))
    trial = prepare(log([("s", "q", ["a", "b"], 1)] * 3), "pykt")
    with pytest.raises(ValueError, match=r"forecast `trial\.log`"):
        trial.fuse(np.ones(3))

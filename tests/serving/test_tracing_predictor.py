"""Whole logs in, one row per row out: complete, in order, whatever the chunks, and the numbers of a plain loop."""

import math

import numpy as np
import polars as pl
import pytest

from remem.data.tracing.repeats import from_repeat_rows
from remem.serving import Predictor, TracingPredictor, TracingSession, open_predictor
from remem.serving.tracing import graphs

BASE = {"q1": 1.5, "q2": 0.5, "q3": -1.0, "q4": 0.25, "q5": -0.5, "q6": 0.75}
CONCEPTS = {"q1": ["a"], "q2": ["a"], "q3": ["a"], "q4": ["b"], "q5": ["b", "c"], "q6": ["c"]}


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


class Planted:
    """The model of the bundle for one student, as anybody would write it down."""

    def __init__(self):
        self.balance, self.last = {}, {}

    def ask(self, question, concepts=None, minutes=None):
        z = BASE.get(question, 0.0)
        for concept in concepts or CONCEPTS.get(question, []):
            since = 0 if minutes is None else minutes - self.last.get(concept, -1e7)
            z += 0.5 * self.balance.get(concept, 0) * 2 ** (-since / 1440)
        return sigmoid(z)

    def answer(self, question, correct, concepts=None, minutes=None):
        p = self.ask(question, concepts, minutes)
        for concept in concepts or CONCEPTS.get(question, []):
            self.balance[concept] = self.balance.get(concept, 0) + (1 if correct else -1)
            if minutes is not None:
                self.last[concept] = minutes
        return p


def random_log(lengths, seed=0, asked=0.1, timed=True):
    """A log of students s0, s1, ... whose rows lie between each other's."""
    rng = np.random.default_rng(seed)
    rows = []
    for student, length in enumerate(lengths):
        at = np.cumsum(rng.integers(1, 2000, length))
        for i in range(length):
            correct = None if rng.random() < asked else int(rng.integers(2))
            rows.append((f"s{student}", str(rng.choice(list(BASE))), correct, int(at[i]), rng.random()))
    frame = pl.DataFrame(
        rows, schema=["student_id", "question_id", "correct", "minutes", "place"], orient="row"
    ).with_columns(pl.col("question_id").replace_strict(CONCEPTS).alias("concepts"))
    time = pl.datetime(2020, 1, 1) + pl.duration(minutes=pl.col("minutes"))
    frame = frame.with_columns(pl.when(timed).then(time).alias("timestamp"))
    return frame.sort("place").drop("place", "minutes") if timed else frame.drop("place", "minutes")


def by_hand(frame):
    """p of each row of the frame, in its order."""
    students, p = {}, np.zeros(frame.height)
    order = frame.with_row_index().sort("timestamp", maintain_order=True)
    for row in order.iter_rows(named=True):
        model = students.setdefault(row["student_id"], Planted())
        minutes = row["timestamp"] and (row["timestamp"].timestamp() // 60)
        asked = row["correct"] is None
        take = (
            (model.ask, (row["question_id"],))
            if asked
            else (model.answer, (row["question_id"], row["correct"]))
        )
        p[row["index"]] = take[0](*take[1], minutes=minutes)
    return p


def test_predictions_are_those_of_a_loop_in_the_order_of_the_input(tracing_bundle):
    frame = random_log([40, 1, 17, 60, 3])
    out = TracingPredictor(tracing_bundle).predict(frame)
    assert out.columns[-3:] == ["p_correct", "p_question", "p_memory"]
    assert out["student_id"].to_list() == frame["student_id"].to_list()
    np.testing.assert_allclose(out["p_correct"], by_hand(frame), atol=1e-6)


@pytest.mark.parametrize(("cells", "longest"), [(1, 5), (50, 16), (10_000, 1), (64, 64)])
def test_chunks_and_steps_give_the_same_numbers(tracing_bundle, monkeypatch, cells, longest):
    frame = random_log([40, 1, 17, 60, 3, 16])
    whole = TracingPredictor(tracing_bundle).predict(frame)
    monkeypatch.setattr(graphs, "CELLS_AT_ONCE", cells)
    monkeypatch.setattr(graphs, "LONGEST", longest)
    monkeypatch.setattr(graphs, "STUDENTS_AT_ONCE", 2)
    out = TracingPredictor(tracing_bundle).predict(frame)
    np.testing.assert_allclose(out["p_correct"], whole["p_correct"], atol=1e-6)
    np.testing.assert_allclose(out["p_memory"], whole["p_memory"], atol=1e-6)


@pytest.mark.parametrize("monotone", [False, True])
@pytest.mark.parametrize("timed", [False, True])
def test_a_session_step_by_step_gives_the_predictions(tracing_bundle, monotone, timed):
    frame = random_log([30, 12, 50], seed=3, timed=timed)
    out = TracingPredictor(tracing_bundle, monotone=monotone).predict(frame)
    session = TracingSession(tracing_bundle, monotone=monotone)
    order = frame.with_row_index().sort("timestamp", maintain_order=True)
    for row in order.iter_rows(named=True):
        got = session.update(
            *(row[name] for name in ("student_id", "question_id", "correct", "concepts", "timestamp"))
        )
        assert got["p_correct"] == pytest.approx(out["p_correct"][row["index"]], abs=1e-6)


def test_a_session_holds_mastery_as_the_predictor_does(contrary_bundle):
    frame = random_log([30, 12, 50], seed=4, timed=False)
    plain = TracingPredictor(contrary_bundle).predict(frame)["p_correct"].to_numpy()
    held = TracingPredictor(contrary_bundle, monotone=True).predict(frame)["p_correct"].to_numpy()
    session = TracingSession(contrary_bundle, monotone=True)
    got = [
        session.update(student, question, correct, concepts)["p_correct"]
        for student, question, correct, concepts in frame.select(
            "student_id", "question_id", "correct", "concepts"
        ).iter_rows()
    ]
    assert np.mean(plain != held) > 0.3
    np.testing.assert_allclose(got, held, atol=1e-6)


def test_repeat_rows_get_the_probability_of_their_question(tracing_bundle):
    frame = pl.DataFrame(
        {
            "student": ["7"] * 5,
            "problem": ["q4", "q5", "q5", "q5", "q6"],
            "skill": ["b", "b", "c", "b", "c"],
            "correct": [1, 0, 0, 0, 1],
        }
    )
    out = TracingPredictor(tracing_bundle).predict(frame)
    assert out.columns[:3] == ["student", "problem", "skill"]
    model = Planted()
    wanted = [
        model.answer("q4", 1),
        *[model.answer("q5", 0)] * 2,
        model.answer("q5", 0, ["b"]),
        model.ask("q6"),
    ]
    np.testing.assert_allclose(out["p_correct"], wanted, atol=1e-6)


def test_what_the_bundle_does_not_know_is_predicted_and_counted(tracing_bundle):
    frame = pl.DataFrame(
        {
            "student_id": ["x"] * 5,
            "question_id": ["q1", "q99", "q98", "q2", None],
            "concepts": [["a"], ["a"], ["z"], ["z"], ["a"]],
            "correct": [1, 1, 1, 1, 1],
        }
    )
    predictor = TracingPredictor(tracing_bundle)
    # known concepts of an unknown question; nothing known; unknown concepts of a known question
    wanted = [sigmoid(z) for z in (1.5, 0.5, 0.0, 0.5 + 1.0, 1.5)]
    np.testing.assert_allclose(predictor.predict(frame)["p_correct"], wanted, atol=1e-6)
    assert predictor.unknown(frame).counts == {"unknown_question": 2, "unknown_concept": 2}


def test_mastery_is_the_median_question_after_the_last_answer(tracing_bundle):
    frame = random_log([20, 5], seed=5, asked=0.0)
    out = TracingPredictor(tracing_bundle).mastery(frame)
    for (name,), student in frame.sort("timestamp").group_by("student_id"):
        model = Planted()
        for row in student.iter_rows(named=True):
            minutes = row["timestamp"].timestamp() // 60
            model.answer(row["question_id"], row["correct"], minutes=minutes)
        mine = out.filter(pl.col("student_id") == name)
        assert set(mine["concept"]) == {c for q in student["question_id"] for c in CONCEPTS[q]}
        for row in mine.iter_rows(named=True):
            median = {"a": "q2", "b": "q5", "c": "q5"}[row["concept"]]
            assert row["mastery"] == pytest.approx(model.ask(median, [row["concept"]], minutes), abs=1e-6)
            assert row["lo"] < row["mastery"] < row["hi"]


def test_half_life_is_that_of_the_planted_forgetting(tracing_bundle):
    """Far below saturation the excess halves as fast as what is remembered: in a day."""
    rows = [("up", "q2", 1), ("down", "q2", 0)]
    frame = pl.DataFrame(rows, schema=["student_id", "question_id", "correct"], orient="row").with_columns(
        timestamp=pl.datetime(2021, 5, 1)
    )
    out = TracingPredictor(tracing_bundle).mastery(frame)
    up, down = out["half_life_days"]
    assert up == pytest.approx(1.0, rel=0.1)
    assert down is None
    assert (
        TracingPredictor(tracing_bundle).mastery(frame.drop("timestamp"))["half_life_days"].to_list()
        == [None] * 2
    )


def test_mastery_of_named_concepts_and_of_none_seen(tracing_bundle):
    predictor = TracingPredictor(tracing_bundle)
    frame = random_log([3, 3], seed=1, asked=1.0)
    assert predictor.mastery(frame).height == 0
    out = predictor.mastery(frame, ["c", "a"])
    assert out["concept"].to_list() == ["c", "a"] * 2
    assert out["answers"].to_list() == [0] * 4
    np.testing.assert_allclose(out["mastery"], [sigmoid(-0.5), sigmoid(0.5)] * 2, atol=1e-6)
    with pytest.raises(ValueError, match="concept 'bb' is not known"):
        predictor.mastery(frame, ["bb"])


def test_history_ends_in_the_mastery_of_the_end(tracing_bundle):
    frame = random_log([9, 4], seed=8)
    predictor = TracingPredictor(tracing_bundle)
    history, end = predictor.mastery_history(frame), predictor.mastery(frame)
    lengths = {"s0": 9, "s1": 4}
    assert history.height == sum(lengths[student] for student in end["student_id"])
    last = history.filter(pl.col("answer") == pl.col("student_id").replace_strict(lengths))
    both = end.join(last, on=["student_id", "concept"], suffix="_of_history")
    assert both.height == end.height
    np.testing.assert_allclose(both["mastery"], both["mastery_of_history"], atol=1e-6)


@pytest.mark.parametrize("longest", [8_192, 4])
def test_explained_effects_are_those_of_leaving_an_answer_out(tracing_bundle, monkeypatch, longest):
    monkeypatch.setattr(graphs, "LONGEST", longest)
    frame = random_log([12], seed=4, timed=False)
    out = TracingPredictor(tracing_bundle).explain(frame, last=8)
    assert out["answer"].to_list() == list(range(4, 12))
    assert out["question_id"].to_list() == frame["question_id"][3:11].to_list()

    def logit_without(i):
        model = Planted()
        for j, row in enumerate(frame[:-1].iter_rows(named=True)):
            if j != i and row["correct"] is not None:
                model.answer(row["question_id"], row["correct"])
        p = model.ask(frame["question_id"][-1])
        return math.log(p / (1 - p))

    wanted = [logit_without(None) - logit_without(i) for i in range(3, 11)]
    np.testing.assert_allclose(out["effect"], wanted, atol=1e-5)
    assert np.abs(wanted).max() > 0.4


def test_explain_wants_one_student_and_some_answers(tracing_bundle):
    predictor = TracingPredictor(tracing_bundle)
    with pytest.raises(ValueError, match="got rows of 2 students"):
        predictor.explain(random_log([2, 2]))
    with pytest.raises(ValueError, match="last is 0"):
        predictor.explain(random_log([2]), last=0)
    assert predictor.explain(random_log([1])).height == 0


def test_a_log_is_taken_as_it_is(tracing_bundle):
    frame = random_log([10, 4])
    predictor = TracingPredictor(tracing_bundle)
    assert predictor.predict(from_repeat_rows(frame)).equals(predictor.predict(frame))
    with pytest.raises(ValueError, match="got a dict"):
        predictor.predict({"student_id": ["a"]})
    with pytest.raises(ValueError, match="student"):
        predictor.predict(pl.DataFrame({"a": [1]}))


def test_the_app_of_a_bundle_chooses_its_predictor(tracing_bundle, online_bundle):
    assert isinstance(open_predictor(tracing_bundle), TracingPredictor)
    assert isinstance(open_predictor(online_bundle), Predictor)
    with pytest.raises(ValueError, match="the app of this bundle is 'tracing'"):
        Predictor(tracing_bundle)
    with pytest.raises(ValueError, match="the app of this bundle is 'battery'"):
        TracingPredictor(online_bundle)


def test_a_vocabulary_of_other_features_is_refused(make_tracing_bundle, tmp_path):
    wrong = {"kind": "answers", "features": ["question", "correct"], "units": {}}
    with pytest.raises(ValueError, match="the vocabulary gives"):
        TracingPredictor(make_tracing_bundle(tmp_path / "wrong", input=wrong))

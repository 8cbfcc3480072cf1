"""One answer at a time: through restarts, among other students, and without a step back."""

import hashlib
import json
import math
import subprocess
import sys
from datetime import datetime, timedelta

import numpy as np
import pytest

from remem.serving import StreamSession, TracingSession, open_stream, states

START = datetime(2022, 3, 1, 9)


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def play(session, student, answers):
    return [session.update(student, question, correct)["p_correct"] for question, correct in answers]


ANSWERS = [("q1", 1), ("q5", 0), ("q2", 1), ("q4", 1), ("q6", 0), ("q5", 1)]


def test_an_answer_is_answered_with_what_was_known_before_and_is_known_after(tracing_bundle):
    session = TracingSession(tracing_bundle)
    got = session.update("ann", "q5", 1)
    assert got["p_correct"] == pytest.approx(sigmoid(-0.5), abs=1e-6)
    # median question of b and c is q5; each was answered once
    assert got["mastery"] == pytest.approx({"b": sigmoid(0.0), "c": sigmoid(0.0)}, abs=1e-6)
    assert got["flags"] == []
    assert json.loads(json.dumps(got)) == got
    assert session.update("ann", "q4", 0)["p_correct"] == pytest.approx(sigmoid(0.25 + 0.5), abs=1e-6)


def test_asking_leaves_the_state_as_it_was(tracing_bundle):
    session, other = TracingSession(tracing_bundle), TracingSession(tracing_bundle)
    wanted = play(session, "a", ANSWERS)
    got = []
    for question, correct in ANSWERS:
        p = other.ask("a", ["q3", question])[1]
        assert other.update("a", question, None)["p_correct"] == p
        other.mastery("a")
        other.recommend("a", 2, target="gain")
        other.recommend("a", 2, target="review")
        got.append(other.update("a", question, correct)["p_correct"])
        assert got[-1] == p
    assert got == wanted


def test_a_student_who_only_asked_is_not_kept(tracing_bundle):
    session = TracingSession(tracing_bundle)
    assert session.update("a", "q1", None)["mastery"] == pytest.approx({"a": sigmoid(0.5)}, abs=1e-6)
    assert len(session) == 0
    assert session.mastery("a") == []
    assert session.recommend("a", 3, target="review") == []


def test_students_do_not_touch_each_other(tracing_bundle):
    mixed = TracingSession(tracing_bundle)
    turned = [(q, 1 - c) for q, c in reversed(ANSWERS)]
    pairs = [(play(mixed, "a", [x])[0], play(mixed, 7, [y])[0]) for x, y in zip(ANSWERS, turned, strict=True)]
    assert [x for x, _ in pairs] == play(TracingSession(tracing_bundle), "b", ANSWERS)
    assert [y for _, y in pairs] == play(TracingSession(tracing_bundle), "b", turned)
    assert "7" in mixed
    assert len(mixed) == 2


@pytest.mark.parametrize("monotone", [False, True])
def test_state_file_carries_over_a_restart(tracing_bundle, tmp_path, monotone):
    file = tmp_path / "state.npz"
    whole = TracingSession(tracing_bundle, monotone=monotone)
    before = TracingSession(tracing_bundle, file, monotone=monotone)
    for session, answers in ((whole, ANSWERS), (before, ANSWERS[:3])):
        for i, (question, correct) in enumerate(answers):
            session.update("a", question, correct, timestamp=START + timedelta(hours=i))
    before.save(file)
    after = TracingSession(tracing_bundle, file, monotone=monotone)
    for i, (question, correct) in enumerate(ANSWERS[3:], 3):
        after.update("a", question, correct, timestamp=START + timedelta(hours=i))
    assert after.mastery("a") == whole.mastery("a")
    assert after.recommend("a", 3, target="review") == whole.recommend("a", 3, target="review")
    with pytest.raises(ValueError, match="monotone"):
        TracingSession(tracing_bundle, file, monotone=not monotone)


def test_an_empty_session_is_kept_too(tracing_bundle, tmp_path):
    TracingSession(tracing_bundle).save(tmp_path / "state.npz")
    assert len(TracingSession(tracing_bundle, tmp_path / "state.npz")) == 0


def test_memory_of_a_student_does_not_grow(tracing_bundle, tmp_path):
    session, sizes = TracingSession(tracing_bundle), []
    for answer in range(1, 301):
        session.update("a", "q1", answer % 2)
        if answer in (10, 300):
            session.save(tmp_path / "state.npz")
            with np.load(tmp_path / "state.npz") as file:
                sizes.append(sum(file[name].nbytes for name in file.files))
    assert sizes[0] == sizes[1]
    assert (
        session.state_bytes == 2 * 4 * 4 + 3 * 4 * 4 + 4 * 8
    )  # graph; notes; offsets of three concepts and none


def test_state_of_another_bundle_or_app_is_refused(
    tracing_bundle, make_tracing_bundle, online_bundle, tmp_path
):
    session = TracingSession(tracing_bundle)
    session.save(tmp_path / "state.npz")
    (tmp_path / "other").mkdir()
    other = make_tracing_bundle(tmp_path / "other" / "bundle")
    file = json.loads((other / "manifest.json").read_text())
    (other / "note.txt").write_text("another")
    file["files"]["note.txt"] = hashlib.sha256(b"another").hexdigest()
    (other / "manifest.json").write_text(json.dumps(file))
    with pytest.raises(ValueError, match="saved with bundle"):
        TracingSession(other, tmp_path / "state.npz")
    with pytest.raises(ValueError, match="the app of this bundle is 'battery'"):
        TracingSession(online_bundle)
    with pytest.raises(ValueError, match="a stream of answers a TracingSession"):
        StreamSession(tracing_bundle)
    assert isinstance(open_stream(tracing_bundle), TracingSession)
    assert isinstance(open_stream(online_bundle), StreamSession)


def test_interrupted_save_leaves_the_old_file(tracing_bundle, tmp_path, monkeypatch):
    session = TracingSession(tracing_bundle)
    session.update("a", "q1", 1)
    session.save(tmp_path / "state.npz")
    kept = (tmp_path / "state.npz").read_bytes()

    def torn(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(states.np, "savez", torn)
    with pytest.raises(KeyboardInterrupt):
        session.save(tmp_path / "state.npz")
    assert (tmp_path / "state.npz").read_bytes() == kept


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, "q1", 1), "student_id is None"),
        ((True, "q1", 1), "student_id is True"),
        ((" ", "q1", 1), "student_id is ' '"),
        (("a", ["q1"], 1), r"question_id is \['q1'\]"),
        (("a", "q1", 2), "correct is 2; wanted 0 or 1"),
        (("a", "q1", 0.5), "correct is 0.5"),
        (("a", "q1", "maybe"), "correct is 'maybe'"),
        (("a", "q1", 1, {"a": 1}), "concepts is"),
        (("a", "q1", 1, [None]), "a concept is None"),
        (("a", "q1", 1, None, "yesterday"), "timestamp"),
        (("a", "q1", 1, None, "2090-01-01T00:00:00"), "within 31 years"),
    ],
)
def test_what_cannot_be_used_is_refused_and_changes_nothing(tracing_bundle, arguments, message):
    session = TracingSession(tracing_bundle)
    play(session, "a", ANSWERS[:3])
    with pytest.raises(ValueError, match=message):
        session.update(*arguments)
    assert play(session, "a", ANSWERS[3:]) == play(TracingSession(tracing_bundle), "b", ANSWERS)[3:]
    assert len(session) == 1


def test_labels_and_ids_as_files_write_them(tracing_bundle):
    session = TracingSession(tracing_bundle)
    for right in (1, True, "1", "true", "True ", 1.0):
        session.update(3, "q1", right)
    for wrong in (0, False, "0", "false", "FALSE"):
        session.update(" 3", "q1 ", wrong)
    assert session.ask("3", ["q1"])[0] == pytest.approx(sigmoid(1.5 + 0.5), abs=1e-6)


def test_unknown_questions_and_concepts_are_flagged(tracing_bundle):
    session = TracingSession(tracing_bundle)
    session.update("a", "q1", 1)
    got = session.update("a", "new", None, ["a", "strange"])
    assert got["flags"] == ["unknown_concept", "unknown_question"]
    assert got["p_correct"] == pytest.approx(sigmoid(0.5), abs=1e-6)
    assert session.update("a", "new", None)["p_correct"] == pytest.approx(0.5, abs=1e-6)
    assert session.update("a", None, None, "a")["flags"] == []


def test_time_does_not_run_backwards(tracing_bundle):
    session = TracingSession(tracing_bundle)
    session.update("a", "q1", 1, timestamp=START)
    assert session.ask("a", ["q1"], timestamp=START + timedelta(days=1))[0] == pytest.approx(
        sigmoid(1.5 + 0.25), abs=1e-6
    )
    got = session.update("a", "q1", 1, timestamp="2022-02-01T00:00:00Z")
    assert got["flags"] == ["earlier_than_last"]
    assert got["p_correct"] == pytest.approx(sigmoid(2.0), abs=1e-6)
    zoned = session.ask("a", ["q1"], timestamp="2022-03-02T11:00:00+02:00")[0]
    assert zoned == pytest.approx(sigmoid(1.5 + 0.5), abs=1e-6)


def test_target_picks_the_nearest(tracing_bundle):
    session = TracingSession(tracing_bundle)
    play(session, "a", [("q1", 1), ("q4", 0)])
    p = dict(
        zip(
            ["q1", "q2", "q3", "q4", "q5", "q6"],
            session.ask("a", [f"q{i}" for i in range(1, 7)]),
            strict=True,
        )
    )
    for target in (0.2, 0.5, 0.7, 0.95):
        got = session.recommend("a", 6, target=target)
        assert [row["question_id"] for row in got] == sorted(p, key=lambda q: abs(p[q] - target))
        assert {row["question_id"]: row["p_correct"] for row in got} == pytest.approx(p)
    few = session.recommend("a", 1, candidates=["q5", "q3"], target=1)
    assert [row["question_id"] for row in few] == ["q3"]
    both = session.recommend("a", 9, candidates=["q5", "q3"])
    assert [row["concepts"] for row in both] == [["a"], ["b", "c"]]


def test_gain_is_the_expected_rise_of_mastery(tracing_bundle):
    session = TracingSession(tracing_bundle)
    play(session, "a", [("q1", 1), ("q4", 0), ("q6", 1)])
    names = [f"q{i}" for i in range(1, 7)]
    got = {row["question_id"]: row["gain"] for row in session.recommend("a", 6, target="gain")}
    median = {"a": "q2", "b": "q5", "c": "q5"}
    concepts = {"q1": ["a"], "q2": ["a"], "q3": ["a"], "q4": ["b"], "q5": ["b", "c"], "q6": ["c"]}

    def mastery(answers, names):
        fresh = TracingSession(tracing_bundle)
        play(fresh, "x", [("q1", 1), ("q4", 0), ("q6", 1), *answers])
        return sum(fresh.ask("x", [median[c]], [[c]])[0] for c in names)

    for name in names:
        p = session.ask("a", [name])[0]
        now = mastery([], concepts[name])
        rise = p * mastery([(name, 1)], concepts[name]) + (1 - p) * mastery([(name, 0)], concepts[name]) - now
        assert got[name] == pytest.approx(rise, abs=1e-6)
    assert list(got.values()) == sorted(got.values(), reverse=True)


def test_review_is_what_fell_most_or_was_longest_not_practised(tracing_bundle):
    timed, timeless = TracingSession(tracing_bundle), TracingSession(tracing_bundle)
    # a: practised first, once; c: practised three times since, then left as long as b
    answers = [("q1", 1), ("q6", 1), ("q6", 1), ("q6", 1), ("q4", 1)]
    for i, (question, correct) in enumerate(answers):
        timed.update("a", question, correct, timestamp=START + timedelta(minutes=i))
        timeless.update("a", question, correct)
    fell = timed.recommend("a", 3, target="review", timestamp=START + timedelta(days=2))
    assert fell[0]["concept"] == "c"
    assert fell[0]["fall"] > fell[1]["fall"] >= fell[2]["fall"] > 0
    assert fell[0]["question_id"] == "q5"  # the question that is as hard as the mastery of c says
    old = timeless.recommend("a", 5, target="review")
    assert [(row["concept"], row["answers_since"]) for row in old] == [("a", 4), ("c", 1), ("b", 0)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "best"}, "target is 'best'"),
        ({"target": 1.5}, "target is 1.5"),
        ({"k": 0}, "k is 0"),
        ({"candidates": ["q1", "zz"]}, "1 candidates are not known to the bundle, first 'zz'"),
    ],
)
def test_recommend_refuses_what_it_does_not_know(tracing_bundle, arguments, message):
    with pytest.raises(ValueError, match=message):
        TracingSession(tracing_bundle).recommend("a", **arguments)


def test_mastery_has_a_narrower_band_after_more_answers(tracing_bundle):
    session, widths = TracingSession(tracing_bundle), []
    for i in range(6):
        session.update("a", "q2", i % 2, timestamp=START)
        row = session.mastery("a")[0]
        assert row["lo"] < row["mastery"] < row["hi"]
        assert (row["concept"], row["answers"]) == ("a", i + 1)
        widths.append(row["hi"] - row["lo"])
    assert widths[1] < widths[0]
    assert widths[5] < widths[3]
    assert session.mastery("nobody", ["a"])[0]["half_life_days"] is None


WITHOUT_TORCH = """
import sys
for name in ("torch", "lightning", "sklearn", "xgboost", "matplotlib"):
    sys.modules[name] = None
from remem.serving import TracingPredictor, TracingSession
import polars as pl
session = TracingSession(sys.argv[1])
session.update("a", "q1", 1)
print(session.recommend("a", 1, target="gain"), session.mastery("a"))
frame = pl.DataFrame({"student_id": ["a"], "question_id": ["q1"], "correct": [1]})
print(TracingPredictor(sys.argv[1]).mastery(frame))
"""


def test_no_torch_is_needed(tracing_bundle):
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tracing_bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

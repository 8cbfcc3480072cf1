"""`remem predict|evaluate|stream` on tracing bundles, without torch."""

import io
import json
import math
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from remem.apps.cli import main
from remem.apps.tracing.judge import PROTOCOLS, judge_log
from remem.data.tracing.metrics import auc
from remem.data.tracing.opening import open_log
from remem.serving import TracingPredictor, TracingSession

WITHOUT_TORCH = """
import sys
for name in ("torch", "lightning", "sklearn", "xgboost", "matplotlib"):
    sys.modules[name] = None
from remem.apps.cli import main
sys.exit(main())
"""


def remem(*arguments, given=""):
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False)


@pytest.fixture
def log_file(tmp_path):
    """Skill-expanded rows of twelve students, those of each student apart, some questions new."""
    rng = np.random.default_rng(7)
    concepts = {
        "q1": ["a"],
        "q2": ["a"],
        "q3": ["a"],
        "q4": ["b"],
        "q5": ["b", "c"],
        "q6": ["c"],
        "new": ["a"],
    }
    rows = []
    for student in range(12):
        for step in range(20):
            question = str(rng.choice(list(concepts)))
            correct = int(rng.random() < 0.3 + 0.05 * student)
            rows += [(student, 2 * step + i, question, c, correct) for i, c in enumerate(concepts[question])]
    frame = pl.DataFrame(rows, schema=["student", "step", "problem", "skill", "correct"], orient="row")
    file = tmp_path / "log.parquet"
    frame.sort("step", "student").write_parquet(file)
    return file


def test_predict_writes_a_row_for_every_row_in_its_order(tracing_bundle, log_file, tmp_path):
    done = remem("predict", tracing_bundle, log_file, "-o", tmp_path / "out.parquet")
    assert done.returncode == 0, done.stderr
    assert "unknown_question" in done.stderr
    assert "repeat_rows" in done.stderr
    frame, out = pl.read_parquet(log_file), pl.read_parquet(tmp_path / "out.parquet")
    assert out.columns == ["student", "step", "problem", "skill", "p_correct", "p_question", "p_memory"]
    assert out.select(frame.columns[:4]).equals(frame.select(frame.columns[:4]))
    assert out.equals(TracingPredictor(tracing_bundle).predict(open_log(log_file)))


def test_predict_writes_csv_with_lists_of_concepts(tracing_bundle, tmp_path):
    frame = pl.DataFrame(
        {"student_id": ["x"], "question_id": ["q5"], "concepts": [["b", "c"]], "correct": [1]}
    )
    frame.write_parquet(tmp_path / "log.parquet")
    done = remem("predict", tracing_bundle, tmp_path / "log.parquet")
    assert done.returncode == 0, done.stderr
    out = pl.read_csv(done.stdout.encode())
    assert out["concepts"].to_list() == ["b;c"]
    assert out["p_correct"][0] == pytest.approx(1 / (1 + math.exp(0.5)), abs=1e-6)


def test_evaluate_gives_the_figures_of_one_forecast_an_answer(tracing_bundle, log_file):
    done = remem("evaluate", tracing_bundle, log_file, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    frame = open_log(log_file).frame
    y = TracingPredictor(tracing_bundle).forecasts(frame)
    rows = {row["model"]: row for row in told["rows"]}
    assert rows["bundle"]["auc"] == pytest.approx(auc(frame["correct"].to_numpy(), y[:, 0]))
    assert rows["bundle"]["n"] == frame.height == 12 * 20 < pl.read_parquet(log_file).height
    assert told["headline"] == f"AUC {rows['bundle']['auc']:.4f} (honest, 240 answers)"
    assert list(rows) == ["bundle", "p_question", "p_memory", "question mean"]
    # the planted base logits order the questions as their training shares do, except for ties
    assert rows["question mean"]["auc"] != rows["bundle"]["auc"]
    slices = {row["slice"]: row for row in told["slices"]}
    unseen = frame["question_id"] == "new"
    assert slices["unseen_question"]["n"] == unseen.sum()
    assert slices["first_answer"]["n"] == 12
    assert slices["several_concepts"]["n"] == (frame["question_id"] == "q5").sum()


def test_protocols_score_other_rows(tracing_bundle, log_file):
    log = open_log(log_file)
    pairs = int((log.frame["question_id"] == "q5").sum())
    own, pykt, legacy = (
        judge_log(TracingPredictor(tracing_bundle), log, protocol).rows()[0] for protocol in PROTOCOLS
    )
    assert [own["n"], pykt["n"], legacy["n"]] == [240, 240 - 12, 240 + pairs]
    assert own["leak_share"] == pykt["leak_share"] == 0
    # a question that comes twice in a row repeats under another concept too
    assert pairs / (240 + pairs) <= legacy["leak_share"] < 0.3
    with pytest.raises(ValueError, match="protocol is 'best'"):
        judge_log(TracingPredictor(tracing_bundle), log, "best")


def test_evaluate_for_people_begins_with_the_one_number(tracing_bundle, log_file, capsys):
    assert main(["evaluate", str(tracing_bundle), str(log_file)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("AUC 0.")
    assert "first_answer" in out


def test_evaluate_refuses_what_has_no_labels_and_protocols_of_others(tracing_bundle, online_bundle, tmp_path):
    frame = pl.DataFrame({"student_id": ["x"], "question_id": ["q5"], "correct": [None]})
    frame.with_columns(pl.col("correct").cast(pl.Int8)).write_parquet(tmp_path / "log.parquet")
    done = remem("evaluate", tracing_bundle, tmp_path / "log.parquet")
    assert done.returncode == 1
    assert "no answer of the 1 rows is scored" in done.stderr
    assert remem("evaluate", online_bundle, tmp_path / "log.parquet", "--protocol", "pykt").returncode == 2


def test_stream_answers_line_by_line_and_goes_on_after_a_restart(tracing_bundle, tmp_path):
    lines = [
        {"student_id": 1, "question_id": "q5", "correct": 1},
        {"student_id": 1, "question_id": "q4"},
        {"student_id": 1},
        {"question_id": "q1"},
        [],
        {"student_id": 1, "concepts": "b", "correct": 0, "timestamp": "2024-01-01T10:00:00Z"},
    ]
    text = "\n".join([*map(json.dumps, lines), "not json"]) + "\n"
    done = remem("stream", tracing_bundle, "--state", tmp_path / "state.npz", given=text)
    assert done.returncode == 1
    assert "4 lines could not be used" in done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer.get("line") for answer in answers] == [None, None, 3, 4, 5, None, 7]
    session = TracingSession(tracing_bundle)
    assert answers[0] == session.update(1, "q5", 1)
    assert answers[1] == session.update(1, "q4", None)
    assert answers[5] == session.update(1, None, 0, "b", "2024-01-01T10:00:00Z")
    again = remem("stream", tracing_bundle, "--state", tmp_path / "state.npz", given=json.dumps(lines[1]))
    assert json.loads(again.stdout) == session.update(1, "q4", None)


def test_stream_in_this_process(tracing_bundle, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "stdin", io.StringIO('{"student_id": "a", "question_id": "q1", "correct": "true"}\n')
    )
    assert main(["stream", str(tracing_bundle)]) == 0
    assert json.loads(capsys.readouterr().out)["p_correct"] == pytest.approx(
        1 / (1 + math.exp(-1.5)), abs=1e-6
    )


def test_answers_that_are_all_right_have_no_auc_and_json_stays_json(tracing_bundle, tmp_path, capsys):
    file = tmp_path / "right.csv"
    file.write_text("student_id,question_id,correct\na,q1,1\na,q2,1\n")
    assert main(["evaluate", str(tracing_bundle), str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert told["rows"][0]["auc"] is None
    assert told["headline"].startswith(
        "no AUC (honest, 2 answers): the scored answers are all right or all wrong"
    )


def test_a_log_without_labels_is_told_so(tracing_bundle, tmp_path, capsys):
    file = tmp_path / "asked.csv"
    file.write_text("student,step,problem,skill\na,1,q1,a\n")
    assert main(["predict", str(tracing_bundle), str(file)]) == 1
    told = capsys.readouterr().err
    assert "no column 'correct'" in told
    assert "--columns old=new" in told


def test_the_forecast_of_a_row_does_not_know_its_label_even_where_rows_repeat(tracing_bundle, log_file):
    frame = pl.read_parquet(log_file).sort("student", "step")
    last = pl.col("step") == pl.col("step").max().over("student")
    flipped = frame.with_columns(
        pl.when(last).then(1 - pl.col("correct")).otherwise("correct").alias("correct")
    )
    predictor = TracingPredictor(tracing_bundle, device="cpu")
    assert predictor.predict(frame).equals(predictor.predict(flipped))


def test_a_line_that_is_no_json_is_told_what_was_wanted(tracing_bundle, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("foo\n"))
    assert main(["stream", str(tracing_bundle)]) == 1
    assert "not JSON" in json.loads(capsys.readouterr().out)["error"]

"""`remem tracing fit|test|predict` as a user meets it: what it prints, leaves behind and refuses."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import yaml

from remem.apps import cli
from remem.apps.tracing.cli import CONFIGS, with_config
from remem.data.tracing.metrics import auc
from remem.data.tracing.simulate import simulate_log
from remem.serving import TracingPredictor

CLEAN = {name: value for name, value in os.environ.items() if name not in ("REMEM_DATA", "REMEM_DEBUG")}
SMALL = ["--model.num_trees=20", "--model.d_model=16", "--trainer.max_epochs=2"]


def remem(*arguments, cwd):
    run = "import sys; from remem.apps.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", run, *map(str, arguments)]
    return subprocess.run(command, env=CLEAN, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A fit on a csv of one's own with other names, judged on other students."""
    folder = tmp_path_factory.mktemp("own")
    log = simulate_log(80, 30, 4, seed=2, answers=(10, 40)).drop("p_true")
    log = log.with_columns(pl.col("concepts").list.join(";")).rename({"correct": "ok"})
    log.filter(pl.col("fold") < 4).drop("fold").write_csv(folder / "known.csv")
    log.filter(pl.col("fold") == 4).drop("fold").write_csv(folder / "fresh.csv")
    own = ["--data.path=known.csv", "--data.test_path=fresh.csv", "--data.columns.ok=correct"]
    done = remem("tracing", "fit", *own, *SMALL, "--out=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture
def inside(made, monkeypatch):
    """The same folder for commands run in this process."""
    monkeypatch.chdir(made[0])
    monkeypatch.delenv("REMEM_DATA", raising=False)
    monkeypatch.delenv("REMEM_DEBUG", raising=False)
    return made[0]


def test_fit_prints_results_on_stdout_and_progress_on_stderr(made):
    folder, done = made
    assert done.stdout.split()[:2] == ["split", "model"]
    assert len([line for line in done.stdout.splitlines() if "Aaren + trees" in line]) == 2
    assert "run: bundle/  model.ckpt  metrics.json  report.html" in done.stdout
    assert "data: own log known.csv, 64 students" in done.stderr
    assert "Traceback" not in done.stderr
    left = {path.name for path in (folder / "run").iterdir()}
    assert left == {"bundle", "config.yaml", "metrics.json", "model.ckpt", "report.html"}


def test_metrics_are_those_of_the_bundle_on_students_it_never_saw(made):
    folder, _ = made
    told = json.loads((folder / "run" / "metrics.json").read_text())
    rows = {(row["split"], row["model"]): row for row in told["rows"]}
    assert {model for _, model in rows} == {
        "Aaren + trees",
        "p_network",
        "p_trees",
        "question mean",
        "practice counts",
    }
    fresh = pl.read_csv(folder / "fresh.csv")
    p = TracingPredictor(folder / "run" / "bundle").predict(fresh.rename({"ok": "correct"}))["p_correct"]
    row = rows["fresh.csv", "Aaren + trees"]
    assert row["n"] == fresh.height
    assert row["auc"] == pytest.approx(auc(fresh["ok"].to_numpy(), p.to_numpy()), abs=1e-9)
    assert told["split"] == "folds 0, 2, 3, 4 trained on, 1 chosen on (by a hash of the student's id)"
    assert told["slices"]["fresh.csv"]
    manifest = json.loads((folder / "run" / "bundle" / "manifest.json").read_text())
    figures = manifest["training"]["metrics"]["fresh.csv"]
    assert figures["auc"] == pytest.approx(row["auc"], abs=1e-4)
    assert figures["ece"] == pytest.approx(row["ece"], abs=1e-3)
    assert manifest["spread"] is None or len(manifest["spread"]["sd"]) == len(manifest["spread"]["answers"])


def test_the_report_holds_its_pictures_and_needs_nothing_beside_it(made):
    page = (made[0] / "run" / "report.html").read_text()
    for heading in ("Data", "Verdict", "Calibration", "One student", "A class"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("data:image/png;base64,") >= 3
    assert "http" not in page.replace("http-equiv", "")


def test_export_gives_the_same_graphs_again(made, inside, capsys):
    assert cli.main(["export", "run/model.ckpt", "-o", "again"]) == 0
    assert capsys.readouterr().out.strip() == "again"
    for name in ("window.onnx", "step.onnx", "vocabulary.json"):
        first, second = ((inside / place / name).read_bytes() for place in ("run/bundle", "again"))
        assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()


def test_predict_answers_every_row_of_the_file_in_its_order(made, inside, capsys):
    fresh = pl.read_csv("fresh.csv")
    fresh.sample(fraction=1.0, shuffle=True, seed=1).with_columns(pl.lit(None).alias("ok")).write_csv(
        "asked.csv"
    )
    words = ["predict", "--out=run", "--data.test_path=asked.csv", "--data.columns.ok=correct"]
    assert cli.main(["tracing", *words]) == 0
    assert "run/predictions.parquet" in capsys.readouterr().out
    out, asked = pl.read_parquet("run/predictions.parquet"), pl.read_csv("asked.csv")
    assert out["question_id"].to_list() == asked["question_id"].to_list()
    assert out["student_id"].to_list() == asked["student_id"].to_list()
    assert out["p_correct"].is_between(0, 1).all()
    assert np.std(out["p_correct"].to_numpy()) > 0.02


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "--data.path=absent.csv"], "absent.csv"),
        (["fit", "--data.path=known.csv"], "correct"),
        (["fit", "--data.set=asistments2009"], "assistments2009"),
        (["fit", "--data.set=simulated", "--data.train_folds=0,1"], "a fold has one purpose"),
        (["fit", "--data.set=simulated", "--data.valid_folds=9"], "the log has folds"),
        (["fit", "--data.set=simulated", "--model.recall=lstm"], "recall"),
        (["test", "--out=nothing_here"], "--out DIR of a fit"),
        (["test", "--out=run", "--data.test_path=null"], "--data.test_folds 3 or --data.test_path"),
        (["validate", "--out=run", "--data.valid_folds=2", "--data.train_folds=0"], "judge other students"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(arguments, words, inside, capsys):
    out = [] if any(word.startswith("--out") for word in arguments) else ["--out=refused"]
    try:
        code = cli.main(["tracing", *arguments, *out])
    except SystemExit as stopped:  # the parser knows the choices of recall
        code = stopped.code
    assert code in (1, 2)
    printed, err = capsys.readouterr()
    assert printed == ""
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"]])
def test_help_is_on_stdout(arguments, inside, capsys):
    try:
        code = cli.main(["tracing", *arguments])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 0
    assert "--data.train_folds" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["fit"], ["fit", "--config", "default"], ["fit", "--data.set=simulated"]]
)
def test_the_packaged_config_is_found(arguments, inside):
    words = with_config(arguments)
    assert words[words.index("--config") + 1] == str(CONFIGS / "default.yaml")
    assert yaml.safe_load((CONFIGS / "default.yaml").read_text())["model"]

"""`remem battery fit|validate|test|predict` as a user meets it: what it prints, leaves behind and refuses."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from remem.apps import cli
from remem.apps.battery import sets
from remem.apps.battery.cli import CONFIGS, with_config
from remem.apps.battery.sets import load_cells
from remem.data.battery.simulate import simulate_curves, simulate_cycles
from remem.serving import Predictor

CLEAN = {name: value for name, value in os.environ.items() if name not in ("REMEM_DATA", "REMEM_DEBUG")}


def battery(*arguments, cwd):
    run = "import sys; from remem.apps.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", run, "battery", *map(str, arguments)]
    return subprocess.run(command, env=CLEAN, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A fit on cells of one's own, one fold of them kept for validation."""
    folder = tmp_path_factory.mktemp("own")
    cells = simulate_curves(30, seed=2, max_cycle=40)
    cells.filter(pl.col("cell_id") <= "sim_020").write_parquet(folder / "known.parquet")
    cells.filter(pl.col("cell_id") > "sim_020").write_parquet(folder / "fresh.parquet")
    own = ["--data.path=known.parquet", "--data.test_path=fresh.parquet", "--data.max_cycle=40"]
    done = battery("fit", *own, "--data.valid_fold=1", "--model.confidence=0.8", "--out=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture
def inside(made, monkeypatch):
    """The same folder for commands run in this process."""
    monkeypatch.chdir(made[0])
    monkeypatch.delenv("REMEM_DATA", raising=False)
    monkeypatch.delenv("REMEM_DEBUG", raising=False)
    return made[0]


def table(text):
    """The cells of a printed table, line by line; empty ones leave no trace."""
    lines = [line.split("  ") for line in text.splitlines()]
    return [[word.strip() for word in line if word.strip()] for line in lines]


def test_fit_prints_results_on_stdout_and_progress_on_stderr(made):
    folder, done = made
    head, rule, *rows = done.stdout.splitlines()
    assert head.split()[:3] == ["split", "model", "cells"]
    assert set(rule) == {"-"}
    assert len([row for row in rows if "ensemble" in row]) == 3  # left out, the fold, the fresh cells
    assert "run: bundle/  model.ckpt  metrics.json  report.html" in done.stdout
    assert "data: own cells from known.parquet" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    left = sorted(path.name for path in (folder / "run").iterdir())
    assert left == ["bundle", "config.yaml", "metrics.json", "model.ckpt", "report.html"]


def test_metrics_tell_the_data_the_split_and_every_figure(made):
    told = json.loads((made[0] / "run" / "metrics.json").read_text())
    assert told["task"] == "early"
    assert told["split"] == "all but fold 1 of 5"
    assert told["data"] == "own cells from known.parquet"
    assert (told["cells"], told["seed"]) == (16, 0)
    assert told["seconds"] > 0
    rows = {(row["split"], row["model"]): row for row in told["rows"]}
    assert {split for split, _ in rows} == {"training cells, left out", "fold 1", "fresh"}
    assert {model for _, model in rows} == {"ensemble", "mean log life", "variance model"}
    for (split, model), row in rows.items():
        assert row["cells"] == {"training cells, left out": 16, "fold 1": 4, "fresh": 10}[split]
        assert row["mae"] <= row["rmse"]
        assert 0 <= row["within_15"] <= 1
        if model == "ensemble":
            assert row["mape_low"] <= row["mape"] <= row["mape_high"]
    assert rows["fresh", "ensemble"]["mape"] < rows["fresh", "mean log life"]["mape"]
    assert 0.5 <= rows["fresh", "ensemble"]["coverage"] <= 1
    manifest = json.loads((made[0] / "run" / "bundle" / "manifest.json").read_text())
    assert manifest["training"]["metrics"]["training cells, left out"] == told["rows"][0] | {}
    assert manifest["input"]["max_cycle"] == 40
    assert manifest["confidence"] == 0.8


def test_report_holds_its_tables_and_pictures(made):
    page = (made[0] / "run" / "report.html").read_text()
    headings = (
        "Data",
        "Verdict",
        "What tells a long life from a short one",
        "Forecast against truth",
        "Coverage",
    )
    assert all(f"<h2>{heading}</h2>" in page for heading in headings)
    assert page.count("data:image/png;base64,") == 3
    assert "http" not in page.replace("http-equiv", ""), "the page needs nothing beside it"


def test_the_figures_are_those_of_the_bundle(made):
    folder, _ = made
    fresh = pl.read_parquet(folder / "fresh.parquet")
    out = Predictor(folder / "run" / "bundle", device="cpu").predict(fresh)
    truth = fresh.unique("cell_id", keep="first", maintain_order=True)["cycle_life"].to_numpy()
    rows = json.loads((folder / "run" / "metrics.json").read_text())["rows"]
    (row,) = [row for row in rows if (row["split"], row["model"]) == ("fresh", "ensemble")]
    assert row["mape"] == pytest.approx(
        np.mean(np.abs(out["cycle_life"].to_numpy() - truth) / truth), rel=1e-6
    )


def test_test_goes_on_from_the_folder_of_the_fit(made, inside, capsys):
    folder, done = made
    config = (folder / "run" / "config.yaml").read_bytes()
    assert cli.main(["battery", "test", "--out", "run"]) == 0
    printed = capsys.readouterr().out
    wanted = [sorted(row) for row in table(done.stdout) if row and row[0] == "fresh"]
    assert [sorted(row) for row in table(printed)[2:]] == wanted  # the order of columns may differ
    assert (folder / "run" / "config.yaml").read_bytes() == config, "only a fit writes how it was done"


def test_predict_writes_a_table_of_cells_without_labels(made):
    folder, _ = made
    bare = (
        pl.read_parquet(folder / "fresh.parquet")
        .drop("cycle_life")
        .with_columns(pl.format("new_{}", "cell_id").alias("cell_id"))
    )
    bare.write_parquet(folder / "bare.parquet")
    done = battery("predict", "--out=run", "--data.test_path=bare.parquet", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "run/predictions.parquet: 10 forecasts"
    out = pl.read_parquet(folder / "run" / "predictions.parquet")
    assert out.columns == ["cell_id", "cycle", "rul", "rul_lo", "rul_hi", "cycle_life", "flags"]
    assert out["cell_id"].to_list() == [f"new_sim_{i:03d}" for i in range(21, 31)]
    assert out.equals(Predictor(folder / "run" / "bundle", device="cpu").predict(bare))


def test_validate_judges_the_fold_that_was_kept(inside, capsys):
    assert cli.main(["battery", "validate", "--out=run"]) == 0
    out, err = capsys.readouterr()
    rows = json.loads((inside / "run" / "metrics.json").read_text())["rows"]
    (row,) = [row for row in rows if (row["split"], row["model"]) == ("fold 1", "ensemble")]
    assert table(out)[2][:4] == [
        "fold 1",
        "ensemble",
        "4",
        f"{row['rmse']:.{0 if row['rmse'] >= 100 else 1}f}",
    ]
    assert "val_mape" in err


def test_validate_refuses_cells_that_the_model_has_seen(inside, capsys):
    assert cli.main(["battery", "validate", "--out=run", "--data.valid_fold=2"]) == 1
    assert "all but fold 1 of 5 (seed 0), so fold 2 would not be new" in capsys.readouterr().err
    assert cli.main(["battery", "validate", "--out=run", "--data.valid_fold=null"]) == 1
    assert "no fold to validate on" in capsys.readouterr().err


def test_fitting_again_replaces_the_run_and_gives_the_same_numbers(inside, capsys):
    run = inside / "twice"
    again = [
        "battery", "fit", "--data.path=known.parquet", "--data.max_cycle=20", "--model.confidence=0.8", "--out=twice"
    ]  # fmt: skip
    digests = []
    for _ in range(2):
        assert cli.main(again) == 0
        assert not (run / "bundle" / "stray").exists()
        digests.append(hashlib.sha256((run / "bundle" / "model.onnx").read_bytes()).hexdigest())
        (run / "bundle" / "stray").write_text("of an older run")
    assert digests[0] == digests[1]
    assert json.loads((run / "bundle" / "manifest.json").read_text())["input"]["max_cycle"] == 20
    assert cli.main(["battery", "predict", "--out=twice"]) == 1
    assert "no cells to predict; give some with --data.test_path" in capsys.readouterr().err


def test_a_folder_that_is_no_bundle_is_not_overwritten(inside, capsys):
    precious = inside / "mine" / "bundle" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work")
    words = [
        "fit",
        "--data.path=known.parquet",
        "--data.max_cycle=20",
        "--model.confidence=0.8",
        "--out=mine",
    ]
    assert cli.main(["battery", *words]) == 1
    assert "is no bundle; choose another folder" in capsys.readouterr().err
    assert precious.read_text() == "years of work"


def test_a_fit_goes_on_from_a_checkpoint_written_on_the_way(inside, capsys):
    words = [
        "battery",
        "fit",
        "--data.path=known.parquet",
        "--data.max_cycle=20",
        "--model.layer=remem.core.Aaren",
    ]
    words += ["--model.confidence=0.8", "--model.calibration_folds=2", "--trainer.enable_progress_bar=false"]
    assert (
        cli.main([*words, "--trainer.max_epochs=1", "--trainer.enable_checkpointing=true", "--out=first"])
        == 0
    )
    (way,) = (inside / "first").rglob("epoch*.ckpt")
    assert cli.main([*words, "--trainer.max_epochs=3", f"--ckpt_path={way}", "--out=second"]) == 0
    steps = [
        torch.load(inside / n / "model.ckpt", weights_only=True)["global_step"] for n in ("first", "second")
    ]
    assert steps == [1, 3]
    assert json.loads((inside / "second" / "metrics.json").read_text())["rows"][0]["model"] == "Aaren"
    capsys.readouterr()
    assert cli.main([*words, "--ckpt_path=first/model.ckpt", "--out=third"]) == 1
    assert "holds weights alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "--data.set=seversn"], "near: 'severson'"),
        (["fit", "--data.set=hust"], "serves --data.task online; for early take one of severson"),
        (["fit", "--data.set=generated", "--data.valid_fold=5"], "take 0..4"),
        (["fit", "--data.path=absent.parquet"], "absent.parquet"),
        (["fit", "--data.path=known.parquet", "--data.root=.", "--data.max_cycle=4"], "max_cycle"),
        (["fit", "--data.path=few.parquet"], "cells cannot carry"),
        (["fit", "--data.path=bare_known.parquet"], "cycle_life"),
        (["fit", "--data.root=.", "--data.set=severson"], "severson is not there"),
        (["test", "--out=nothing_here"], "--out DIR of a fit"),
        (["test", "--out=run", "--ckpt_path=absent.ckpt"], "no such checkpoint"),
        (["predict", "--out=run", "--ckpt_path=known.parquet"], "not a checkpoint"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(arguments, words, inside, capsys):
    known = pl.read_parquet("known.parquet")
    known.filter(pl.col("cell_id") <= "sim_003").write_parquet("few.parquet")
    known.drop("cycle_life").write_parquet("bare_known.parquet")
    out = [] if any(word.startswith("--out") for word in arguments) else ["--out=refused"]
    assert cli.main(["battery", *arguments, *out]) == 1
    printed, err = capsys.readouterr()
    assert printed == ""
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments", [[], ["fitt"], ["fit", "--data.sett=severson"], ["fit", "--data.max_cycle=many"]]
)
def test_wrong_usage_is_exit_code_two(arguments, inside):
    try:
        code = cli.main(["battery", *arguments])
    except SystemExit as stopped:  # the parser stops by itself
        code = stopped.code
    assert code == 2


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["predict", "--help"]])
def test_help_is_on_stdout(arguments, inside, capsys):
    try:
        code = cli.main(["battery", *arguments])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 0
    assert "--data.valid_fold" in capsys.readouterr().out


def config_of(*arguments):
    words = with_config(list(arguments))
    return words[words.index("--config") + 1], words


@pytest.mark.parametrize(
    ("arguments", "preset"),
    [
        (["fit"], "default"),
        (["fit", "--data.task", "online"], "online"),
        (["fit", "--data.task=online", "--model.layer=remem.core.Aaren"], "online"),
        (["fit", "--model.layer=remem.core.LSTMAttention"], "sequence"),
        (["fit", "--data.view=sequence"], "sequence"),
        (["fit", "--config", "sequence"], "sequence"),
        (["test", "--out", "nowhere"], "default"),
    ],
)
def test_the_preset_follows_from_the_wish(arguments, preset, inside):
    path, words = config_of(*arguments)
    assert path == str(CONFIGS / f"{preset}.yaml")
    assert words[0] == arguments[0]
    assert yaml.safe_load((CONFIGS / f"{preset}.yaml").read_text())["model"]


def test_a_config_of_ones_own_is_left_alone(inside):
    assert with_config(["fit", "--config=mine.yaml", "--out=x"]) == ["fit", "--config=mine.yaml", "--out=x"]
    path, words = config_of("test", "--out=run", "--data.seed=3")
    assert path == "run/config.yaml"
    assert words[words.index("--ckpt_path") + 1] == "run/model.ckpt"
    assert words[-2:] == ["--out=run", "--data.seed=3"]


@pytest.fixture
def few(monkeypatch):
    """Generated sets of a few short records."""
    monkeypatch.setattr(sets, "simulate_curves", lambda n, seed: simulate_curves(3, seed, max_cycle=5))
    monkeypatch.setattr(sets, "simulate_cycles", lambda n, seed: simulate_cycles(3, seed, life=(50, 60)))


@pytest.mark.parametrize("task", ["early", "online"])
def test_generated_test_cells_are_none_of_the_training_cells(task, few):
    cells = load_cells(task, name="generated")
    test = cells.tests["generated test"]
    assert not set(test["cell_id"]) & set(cells.train["cell_id"])
    assert test.columns == cells.train.columns


def test_cells_of_ones_own_judge_a_named_set_too(made, few):
    cells = load_cells("early", name="generated", test_paths=[str(made[0] / "fresh.parquet")])
    assert list(cells.tests) == ["fresh"]
    assert cells.train["cell_id"].n_unique() == 3

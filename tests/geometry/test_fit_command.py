"""`remem tsp|hull|delaunay fit`: a minute of training must reach its figure, and leave all that is promised."""

import json

import numpy as np
import polars as pl
import pytest

from remem.apps import cli
from remem.serving.bundle import open_bundle

QUIET = "--trainer.enable_progress_bar=false"
SMOKE = {
    "tsp": (
        "--model.d_model=64",
        "--model.num_layers=2",
        "--model.num_heads=4",
        "--data.sizes=[10,20]",
        "--data.shares=[0.3,0.7]",
        "--data.kinds={uniform: 1.0}",
        "--data.instances=4000",
        "--data.steps=250",
        "--trainer.max_epochs=2",
        "--trainer.check_val_every_n_epoch=1",
    ),
    "hull": ("--trainer.max_epochs=2",),
    "delaunay": ("--trainer.max_epochs=2",),
}


@pytest.fixture(scope="module", params=SMOKE)
def fitted(request, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param) / "run"
    assert cli.main([request.param, "fit", *SMOKE[request.param], QUIET, f"--out={out}"]) == 0
    return request.param, out


def figure(out, n, model, name):
    rows = json.loads((out / "metrics.json").read_text())["rows"]
    [row] = [row for row in rows if row["n"] == n and row["model"] == model]
    return row[name]


def test_a_minute_is_enough(fitted):
    task, out = fitted
    if task == "tsp":
        assert figure(out, 20, "greedy", "gap_%") <= 6.0
        assert figure(out, 20, "x8", "gap_%") <= 2.0
        assert figure(out, 20, "greedy", "gap_%") < figure(out, 20, "nearest neighbour", "gap_%")
    elif task == "hull":
        assert figure(out, 50, "local-frame pointer, glimpses", "exact_%") >= 88.0
    else:
        assert figure(out, 50, "local-frame pointer, glimpses", "coverage_%") >= 97.0


def test_what_a_fit_leaves(fitted):
    task, out = fitted
    assert open_bundle(out / "bundle").task == task
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in log] == list(range(1, len(log) + 1))
    assert any(name.startswith("val_") for name in log[-1])
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") == 2
    assert "inductive bias" in page


def test_test_and_predict_go_on_from_it(fitted, tmp_path, capsys):
    task, out = fitted
    assert cli.main([task, "test", f"--out={out}", QUIET]) == 0
    told = capsys.readouterr().out
    assert "cpu_ms" in told
    points = tmp_path / "points.parquet"
    rng = np.random.default_rng(0)
    sizes = (7, 12)
    pl.DataFrame(
        {
            "instance": ["a", "b"],
            "x": [rng.random(n).tolist() for n in sizes],
            "y": [rng.random(n).tolist() for n in sizes],
        }
    ).write_parquet(points)
    assert cli.main([task, "predict", f"--out={out}", f"--data.path={points}", QUIET]) == 0
    answers = pl.read_parquet(out / "predictions.parquet")
    assert answers["instance"].to_list() == ["a", "b"]
    if task == "tsp":
        assert [sorted(tour) for tour in answers["tour"].to_list()] == [list(range(n)) for n in sizes]

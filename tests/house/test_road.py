"""The whole road as a user walks it, each command in a process of its own: fit, export, predict, evaluate."""

import hashlib
import json
import os
import subprocess
import sys

import polars as pl
import pytest

from remem.data.battery.simulate import simulate_curves


def remem(*arguments):
    run = "import sys; from remem.apps.cli import main; sys.exit(main())"
    clean = {name: value for name, value in os.environ.items() if name != "REMEM_DATA"}
    command = [sys.executable, "-c", run, *map(str, arguments)]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("road")
    cells = simulate_curves(32, seed=11)
    cells.filter(pl.col("cell_id") <= "sim_024").write_parquet(folder / "known.parquet")
    cells.filter(pl.col("cell_id") > "sim_024").write_parquet(folder / "fresh.parquet")
    known, fresh = f"--data.path={folder / 'known.parquet'}", f"--data.test_path={folder / 'fresh.parquet'}"
    told = remem("battery", "fit", known, fresh, "--out", folder / "run")
    return folder, told


def test_fit_leaves_everything_behind_and_prints_the_table(fitted):
    folder, told = fitted
    left = {path.name for path in (folder / "run").iterdir()}
    assert {"bundle", "model.ckpt", "metrics.json", "report.html"} <= left
    assert "rmse" in told.splitlines()[0]


def test_export_gives_the_same_bundle_again(fitted):
    folder, _ = fitted
    assert remem("export", folder / "run" / "model.ckpt", "-o", folder / "again").strip() == str(
        folder / "again"
    )
    graphs = [folder / place / "model.onnx" for place in ("run/bundle", "again")]
    first, second = (hashlib.sha256(path.read_bytes()).hexdigest() for path in graphs)
    assert first == second


def test_evaluate_prints_the_figures_of_the_fit(fitted):
    folder, _ = fitted
    rows = json.loads(remem("evaluate", folder / "run" / "bundle", folder / "fresh.parquet", "--json"))[
        "rows"
    ]
    written = json.loads((folder / "run" / "metrics.json").read_text())["rows"]
    got = next(row for row in rows if row["split"] == "all" and row["model"] == "bundle")
    assert any(row.get("rmse") == pytest.approx(got["rmse"], abs=1e-6) for row in written)
    assert {row["model"] for row in rows} > {"bundle"}


def test_predict_answers_every_cell(fitted):
    folder, _ = fitted
    remem("predict", folder / "run" / "bundle", folder / "fresh.parquet", "-o", folder / "out.parquet")
    out = pl.read_parquet(folder / "out.parquet")
    assert out["cell_id"].to_list() == [f"sim_{i:03d}" for i in range(25, 33)]
    assert ((out["rul_lo"] <= out["rul"]) & (out["rul"] <= out["rul_hi"])).all()

"""Whole tables in, one row a cell or a row out: complete, in order, whatever the chunks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from remem.data.battery.early import early_features
from remem.data.battery.simulate import simulate_curves, simulate_cycles
from remem.serving import Predictor
from remem.serving.battery import predictor

COLUMNS = ["cell_id", "cycle", "rul", "rul_lo", "rul_hi", "cycle_life", "flags"]


@pytest.fixture(scope="module")
def curves():
    return simulate_curves(5, seed=1).drop("cycle_life")


@pytest.fixture(scope="module")
def cycles():
    """Three cells of 20 to 40 cycles."""
    lengths = {"sim_001": 20, "sim_002": 40, "sim_003": 31}
    frame = simulate_cycles(3, seed=2)
    return frame.filter(pl.col("cycle") <= pl.col("cell_id").replace_strict(lengths))


def shuffled(frame, seed=0):
    return frame[np.random.default_rng(seed).permutation(frame.height)]


def test_early_is_the_graph_on_the_features_of_each_cell(early_bundle, curves):
    out = Predictor(early_bundle).predict(curves)
    cells = early_features(curves)
    life = cells.columns(("last_cycle", "q_now")) @ [1.0, 500.0]
    assert out.columns == COLUMNS
    assert tuple(out["cell_id"]) == cells.cell_id
    np.testing.assert_allclose(out["cycle_life"], life, rtol=1e-6)
    np.testing.assert_array_equal(out["cycle"], cells.last_cycle)
    np.testing.assert_allclose(out["rul"], life - cells.last_cycle, rtol=1e-5)
    np.testing.assert_allclose(out["rul_lo"] + out["cycle"], 0.8 * life, rtol=1e-5)
    np.testing.assert_allclose(out["rul_hi"] + out["cycle"], 1.2 * life, rtol=1e-5)


def test_early_looks_at_no_cycle_beyond_its_own(early_bundle, curves):
    beyond = curves.filter(pl.col("cycle") == 100).with_columns(pl.lit(101, pl.Int32).alias("cycle"))
    beyond = beyond.with_columns(pl.Series("q_ah", np.zeros((5, 1000), np.float32)))
    longer = pl.concat([curves, beyond.select(curves.columns)], how="vertical_relaxed")
    predict = Predictor(early_bundle).predict
    assert predict(longer).equals(predict(curves))


def test_early_rows_follow_the_first_appearance_of_cells(early_bundle, curves):
    mixed = shuffled(curves)
    out = Predictor(early_bundle).predict(mixed)
    assert out["cell_id"].to_list() == mixed["cell_id"].unique(maintain_order=True).to_list()
    assert out.sort("cell_id").equals(Predictor(early_bundle).predict(curves).sort("cell_id"))


def test_early_in_chunks_is_the_same(early_bundle, curves, monkeypatch):
    whole = Predictor(early_bundle).predict(curves)
    monkeypatch.setattr(predictor, "CELLS_AT_ONCE", 2)
    assert Predictor(early_bundle).predict(curves).equals(whole)


def test_cell_that_fails_already_is_flagged_and_no_other(early_bundle, curves):
    fade = 1 - 0.004 * pl.col("cycle").cast(pl.Float32) * (pl.col("cell_id") == "sim_003")
    rows = curves.with_columns(fade.alias("fade"))
    q_ah = rows["q_ah"].to_numpy() * rows["fade"].to_numpy()[:, None]
    out = Predictor(early_bundle).predict(curves.with_columns(pl.Series("q_ah", q_ah.astype(np.float32))))
    failing = out.filter(pl.col("flags").str.contains("already_failing"))
    assert failing["cell_id"].to_list() == ["sim_003"]


def test_a_cell_without_enough_cycles_is_an_error_that_names_it(early_bundle, curves):
    short = curves.filter((pl.col("cell_id") != "sim_002") | (pl.col("cycle") <= 3))
    with pytest.raises(ValueError, match="sim_002"):
        Predictor(early_bundle).predict(short)


def test_early_forecast_never_ends_before_the_last_cycle_seen(early_bundle, curves):
    # a capacity near 0, so that the graph says cycle_life = last_cycle and a lower bound before it
    small = curves.with_columns(pl.Series("q_ah", curves["q_ah"].to_numpy() * np.float32(0.01)))
    out = Predictor(early_bundle).predict(small)
    assert (out["rul_lo"] >= 0).all()
    assert (out["cycle_life"] >= out["cycle"]).all()


def test_online_answers_every_row_in_the_order_of_the_input(online_bundle, cycles):
    mixed = shuffled(cycles)
    out = Predictor(online_bundle).predict(mixed)
    assert out.columns == COLUMNS
    assert out.select("cell_id", "cycle").rows() == mixed.select("cell_id", "cycle").rows()
    ordered = cycles.with_columns(
        mean=pl.col("capacity_ah").cum_sum().over("cell_id") / pl.col("cycle"),
        largest=pl.col("capacity_ah").cum_max().over("cell_id"),
    )
    wanted = mixed.join(ordered, on=["cell_id", "cycle"], how="left", maintain_order="left")
    rul = 1000 * wanted["mean"] + wanted["largest"]
    np.testing.assert_allclose(out["rul"], rul, rtol=1e-5)
    np.testing.assert_allclose(out["rul_lo"], 0.8 * rul, rtol=1e-5)
    np.testing.assert_allclose(out["cycle_life"], rul + out["cycle"], rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 45, 80])
def test_online_in_chunks_is_the_same(online_bundle, cycles, steps, monkeypatch):
    whole = Predictor(online_bundle).predict(cycles)
    monkeypatch.setattr(predictor, "STEPS_AT_ONCE", steps)
    assert Predictor(online_bundle).predict(cycles).equals(whole)


def test_online_forecast_rests_on_the_past_alone(online_bundle, cycles):
    predict = Predictor(online_bundle).predict
    past = cycles.filter(pl.col("cycle") <= 12)
    wanted = predict(cycles).filter(pl.col("cycle") <= 12)
    assert predict(past).drop("flags").equals(wanted.drop("flags"))


def test_rows_with_holes_stay_and_are_flagged(online_bundle, cycles):
    hole = (pl.col("cell_id") == "sim_002") & (pl.col("cycle") == 7)
    holed = cycles.with_columns(pl.when(~hole).then(pl.col("capacity_ah")).alias("capacity_ah"))
    out = Predictor(online_bundle).predict(holed)
    assert out.height == holed.height
    assert out["rul"].is_finite().all()
    row = out.filter(hole).row(0, named=True)
    assert "missing_value" in row["flags"]
    assert not out.filter(~hole)["flags"].str.contains("missing_value").any()


def test_each_group_is_judged_by_its_own_capacity(online_bundle, cycles):
    small = (pl.col("cell_id") == "sim_002").alias("small")
    table = cycles.with_columns(
        pl.when(small).then(pl.col("capacity_ah") / 2).otherwise(pl.col("capacity_ah")).alias("capacity_ah"),
        pl.when(small).then(pl.lit("half")).otherwise(pl.lit("full")).alias("group"),
    )
    assert (
        Predictor(online_bundle).predict(table).filter(small)["flags"].str.contains("already_failing").any()
    )
    file = online_bundle / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["input"]["nominal_capacity_ah"] = {"full": 1.1, "half": 0.55}
    file.write_text(json.dumps(manifest))
    wanted = Predictor(online_bundle).predict(table.with_columns(pl.lit("full").alias("group")))
    out = Predictor(online_bundle).predict(table)
    assert not out["flags"].str.contains("already_failing").any()
    assert wanted.filter(small)["flags"].str.contains("already_failing").any()


def test_own_columns_called_like_ours_do_no_harm(online_bundle, cycles):
    wanted = Predictor(online_bundle).predict(cycles)
    assert Predictor(online_bundle).predict(cycles.with_columns(pl.lit(3).alias("_row"))).equals(wanted)


def test_a_feature_that_the_table_lacks_is_named(make_online_bundle, cycles, tmp_path):
    bundle = make_online_bundle(tmp_path / "charge", feature="v_slope")
    with pytest.raises(ValueError, match=r"needs columns \['v_slope'\]"):
        Predictor(bundle).predict(cycles.drop("v_slope"))


@pytest.mark.parametrize("bundle", ["early_bundle", "online_bundle"])
def test_the_wrong_table_is_refused_by_name(bundle, request):
    with pytest.raises(ValueError, match="cell_id"):
        Predictor(request.getfixturevalue(bundle)).predict(pl.DataFrame({"a": [1]}))
    with pytest.raises(ValueError, match="polars DataFrame"):
        Predictor(request.getfixturevalue(bundle)).predict({"a": [1]})


def test_manifest_and_graph_must_agree_on_the_features(early_bundle):
    file = early_bundle / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["input"]["features"] = ["last_cycle"]
    file.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="takes 2 features, the manifest names 1"):
        Predictor(early_bundle)


WITHOUT_TORCH = """
import sys

class Without:
    "A finder that knows no training stack, as where it is not installed."

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        hidden = {"torch", "lightning", "pytorch_lightning", "sklearn", "xgboost", "matplotlib"}
        return None if name.partition(".")[0] in hidden else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from remem.apps.cli import main
raise SystemExit(main(sys.argv[1:]))
"""


def remem_without_torch(*arguments, **kwargs):
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


def test_predict_command_needs_no_torch(early_bundle, curves, tmp_path):
    curves.write_parquet(tmp_path / "cells.parquet")
    out = tmp_path / "new" / "out.parquet"
    done = remem_without_torch("predict", early_bundle, tmp_path / "cells.parquet", "-o", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert pl.read_parquet(out).equals(Predictor(early_bundle).predict(curves))
    assert [file.name for file in out.parent.iterdir()] == ["out.parquet"]


def test_predict_command_renames_columns_and_writes_csv_to_stdout(online_bundle, cycles, tmp_path):
    mixed = shuffled(cycles).rename({"cell_id": "cell", "capacity_ah": "Capacity"})
    mixed.write_csv(tmp_path / "cells.csv")
    names = "cell=cell_id,Capacity=capacity_ah"
    done = remem_without_torch("predict", online_bundle, tmp_path / "cells.csv", "--columns", names)
    assert done.returncode == 0, done.stderr
    out = pl.read_csv(done.stdout.encode())
    assert out.columns == COLUMNS
    assert out.select("cell_id", "cycle").rows() == mixed.select("cell", "cycle").rows()


def test_predict_command_fails_in_one_line(early_bundle, tmp_path):
    (tmp_path / "cells.parquet").write_bytes(b"PAR1 and then nothing")
    done = remem_without_torch(
        "predict", early_bundle, tmp_path / "cells.parquet", "-o", tmp_path / "out.parquet"
    )
    assert done.returncode == 1
    assert done.stderr.startswith("remem predict: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.parquet").exists()


def test_real_cells_each_get_a_row(early_bundle):
    root = os.environ.get("REMEM_DATA")
    file = Path(root or "") / "battery" / "severson_qv_test1.parquet"
    if not root or not file.exists():
        pytest.skip("set REMEM_DATA to the folder of real data sets")
    out = Predictor(early_bundle).predict(pl.read_parquet(file))
    assert out["cell_id"].to_list() == [f"test1_{i:02d}" for i in range(1, 44)]
    assert "test1_22" in out.filter(pl.col("flags").str.contains("already_failing"))["cell_id"]
    assert "capacity_spike" in out.filter(pl.col("cell_id") == "test1_39")["flags"].item()

"""`remem evaluate`: the model beside its baselines, with and without the cells that fade already."""

import json

import numpy as np
import polars as pl
import pytest

from remem.apps.cli import main
from remem.data.battery.metrics import life_metrics
from remem.data.battery.simulate import simulate_curves
from remem.serving import Predictor


@pytest.fixture
def labelled(tmp_path):
    """Six cells, the third of which fades fast and dies at cycle 150."""
    curves = simulate_curves(6, seed=3, life=(400, 900))
    failing = pl.col("cell_id") == "sim_003"
    fade = curves.select((1 - 0.001 * pl.col("cycle") * failing).alias("fade"))["fade"].to_numpy()
    q_ah = (curves["q_ah"].to_numpy() * fade[:, None]).astype(np.float32)
    curves = curves.with_columns(
        pl.Series("q_ah", q_ah),
        pl.when(failing).then(150).otherwise(pl.col("cycle_life")).alias("cycle_life"),
    )
    curves.write_parquet(tmp_path / "cells.parquet")
    return curves


@pytest.fixture
def with_baseline(early_bundle):
    file = early_bundle / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["baselines"] = {"mean life": {"kind": "constant", "value": 650.0}}
    file.write_text(json.dumps(manifest))
    return early_bundle


def test_every_figure_comes_twice_where_a_cell_fails_already(with_baseline, labelled, tmp_path, capsys):
    assert main(["evaluate", str(with_baseline), str(tmp_path / "cells.parquet"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["already_failing"] == ["sim_003"]
    rows = {(row["split"], row["model"]): row for row in result["rows"]}
    out = Predictor(with_baseline).predict(labelled)
    truth = labelled.group_by("cell_id", maintain_order=True).first()["cycle_life"].to_numpy()
    for split, kept in (("all", np.ones(6, bool)), ("without already_failing", np.arange(6) != 2)):
        part = out.filter(kept)
        bounds = [(part["cycle"] + part[name]).to_numpy() for name in ("rul_lo", "rul_hi")]
        wanted = life_metrics(truth[kept], part["cycle_life"].to_numpy(), *bounds)
        row = rows[split, "bundle"]
        assert row["cells"] == kept.sum()
        for name in ("rmse", "mape", "within_15", "coverage", "width"):
            assert row[name] == pytest.approx(wanted[name]), name
        mean = life_metrics(truth[kept], np.full(kept.sum(), 650.0))
        assert rows[split, "mean life"]["rmse"] == pytest.approx(mean["rmse"])
        assert "coverage" not in rows[split, "mean life"]


def test_table_is_for_people(with_baseline, labelled, tmp_path, capsys):
    assert main(["evaluate", str(with_baseline), str(tmp_path / "cells.parquet")]) == 0
    out = capsys.readouterr().out
    assert "mean life" in out
    assert out.splitlines()[0].split()[:3] == ["split", "model", "cells"]


@pytest.mark.parametrize("change", ["drop", "null"])
def test_cells_without_a_known_life_are_an_error(change, with_baseline, labelled, tmp_path, capsys):
    life = pl.when(pl.col("cell_id") == "sim_004").then(None).otherwise(pl.col("cycle_life"))
    changed = (
        labelled.drop("cycle_life") if change == "drop" else labelled.with_columns(life.alias("cycle_life"))
    )
    changed.write_parquet(tmp_path / "cells.parquet")
    assert main(["evaluate", str(with_baseline), str(tmp_path / "cells.parquet")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "cycle_life" in err


def test_online_labels_are_counted_back_from_the_end_of_life(make_online_bundle, tmp_path, capsys):
    # 1.1 Ah falling by 0.004 a cycle: 0.88 Ah at cycle 55. The bundle says rul = 10 * (mean of all cycles) + last one
    bundle = make_online_bundle(tmp_path / "by_cycle", feature="cycle", scale=10.0)
    cycle = np.arange(1, 61)
    frame = pl.DataFrame({"cell_id": ["a"] * 60, "cycle": cycle, "capacity_ah": 1.1 - 0.004 * cycle})
    frame.write_csv(tmp_path / "cycles.csv")
    assert main(["evaluate", str(bundle), str(tmp_path / "cycles.csv"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert "'reached': 1" in err
    (row,) = json.loads(out)["rows"]
    judged = cycle[cycle <= 0.9 * 55]
    point = 10.0 * (judged + 1) / 2 + judged
    wanted = life_metrics(55 - judged, point, 0.8 * point, 1.2 * point)
    assert row["cells"] == 1
    assert row["mape"] == pytest.approx(wanted["mape"], rel=1e-4)
    assert row["coverage"] == pytest.approx(wanted["coverage"])


def test_cells_that_all_fail_already_are_judged_once(with_baseline, labelled, tmp_path, capsys):
    labelled.filter(pl.col("cell_id") == "sim_003").write_parquet(tmp_path / "one.parquet")
    assert main(["evaluate", str(with_baseline), str(tmp_path / "one.parquet"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["already_failing"] == ["sim_003"]
    assert {row["split"] for row in result["rows"]} == {"all"}


def test_a_cell_of_two_lives_is_refused(with_baseline, labelled, tmp_path, capsys):
    later = (pl.col("cell_id") == "sim_002") & (pl.col("cycle") > 50)
    torn = labelled.with_columns(pl.when(later).then(9).otherwise("cycle_life").alias("cycle_life"))
    torn.write_parquet(tmp_path / "torn.parquet")
    assert main(["evaluate", str(with_baseline), str(tmp_path / "torn.parquet")]) == 1
    assert "1 cells have more than one cycle_life, first sim_002" in capsys.readouterr().err

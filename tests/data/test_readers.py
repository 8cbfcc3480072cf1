"""Each layout is read into its table; what was done on the way is in the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from remem.data.battery.readers import read, read_curves, read_cycles, read_samples
from remem.data.battery.schema import CHARGE_FEATURES, VOLTAGE_GRID, curve_matrix
from remem.data.battery.simulate import simulate_curves, simulate_cycles, simulate_samples

Real = Callable[[str], Path]


@pytest.fixture(scope="module")
def curves() -> pl.DataFrame:
    return simulate_curves(3, 1, max_cycle=6)


@pytest.fixture(scope="module")
def cycles() -> pl.DataFrame:
    return simulate_cycles(2, 1, life=(40, 60))


def _grid_csv(curves: pl.DataFrame, folder: Path) -> Path:
    """The layout of the re-analysis: one csv per cell, a row per voltage, a column per cycle, no header."""
    folder.mkdir()
    for i, part in enumerate(curves.partition_by("cell_id", maintain_order=True), start=1):
        np.savetxt(folder / f"cell{i}.csv", curve_matrix(part).T, delimiter=",")
    return folder


# --- own tables ----------------------------------------------------------------------------------------------


def test_curves_come_back_bit_for_bit(curves: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    curves.write_parquet(path)
    reading = read(path)
    assert reading.kind == "curves"
    assert_frame_equal(reading.frame, curves)
    assert len(reading.report) == 0


def test_curves_as_lists_as_json_and_as_long_rows(curves: pl.DataFrame, tmp_path: Path) -> None:
    lists = curves.with_columns(pl.col("q_ah").cast(pl.List(pl.Float64)))
    lists.write_parquet(tmp_path / "lists.parquet")
    assert_frame_equal(read(tmp_path / "lists.parquet").frame, curves)

    joined = pl.col("q_ah").cast(pl.List(pl.String)).list.join(",")
    text = lists.with_columns(pl.format("[{}]", joined).alias("q_ah"))
    text.write_csv(tmp_path / "text.csv")
    assert_frame_equal(read(tmp_path / "text.csv").frame, curves)

    volts = pl.Series("voltage_v", [VOLTAGE_GRID.tolist()] * curves.height)
    long = lists.with_columns(volts).explode("q_ah", "voltage_v").sample(fraction=1, shuffle=True, seed=0)
    long.write_csv(tmp_path / "long.csv")
    assert_frame_equal(read(tmp_path / "long.csv").frame.sort("cell_id", "cycle"), curves)


def test_cycles_from_csv_with_other_names(cycles: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    cycles.rename({"cell_id": "Cell", "capacity_ah": "Q"}).write_csv(path)
    reading = read(path, columns={"Cell": "cell_id", "Q": "capacity_ah"})
    assert reading.kind == "cycles"
    assert_frame_equal(reading.frame, cycles)
    assert set(CHARGE_FEATURES) <= set(reading.frame.columns)


def test_unsorted_rows_are_sorted_and_their_order_kept(cycles: pl.DataFrame, tmp_path: Path) -> None:
    shuffled = cycles.sample(fraction=1, shuffle=True, seed=3)
    shuffled.write_csv(tmp_path / "a.csv")
    reading = read_cycles(tmp_path / "a.csv")
    assert_frame_equal(reading.frame.sort("cell_id"), cycles)
    assert_frame_equal(reading.frame[np.argsort(reading.order)], shuffled)


def test_rows_become_cycles_and_names_come_from_the_file(tmp_path: Path) -> None:
    pl.DataFrame({"row": [1, 2], "capacity_ah": [1.0, 0.9]}).write_csv(tmp_path / "b7.csv")
    reading = read(tmp_path / "b7.csv")
    assert reading.frame["cell_id"].to_list() == ["b7", "b7"]
    assert reading.frame["cycle"].to_list() == [1, 2]
    assert reading.report.counts == {"cell_from_file_name": 2, "cycle_from_order": 2}

    pl.DataFrame({"cell_id": ["a", "b", "a"], "capacity_ah": [1.0, 2.0, 0.9]}).write_csv(tmp_path / "c.csv")
    assert read(tmp_path / "c.csv").frame.select("cell_id", "cycle").rows() == [("a", 1), ("a", 2), ("b", 1)]


def test_infinite_and_missing_values_are_counted(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "cell_id": ["a"] * 4,
            "cycle": [1, 2, 3, 4],
            "capacity_ah": [1.0, float("nan"), 0.9, 0.9],
            "v_entropy": [1.0, 2.0, float("-inf"), None],
        }
    ).write_parquet(tmp_path / "a.parquet")
    reading = read(tmp_path / "a.parquet")
    assert reading.frame["v_entropy"].to_list() == [1.0, 2.0, None, None]
    assert reading.frame["capacity_ah"].null_count() == 1
    assert reading.report.counts == {"infinite_value": 1, "missing_value": 2}
    assert reading.report.table.filter(flag="infinite_value")["cycle"].to_list() == [3]


def test_several_files_are_one_table(cycles: pl.DataFrame, tmp_path: Path) -> None:
    for i, part in enumerate(cycles.partition_by("cell_id")):
        part.write_parquet(tmp_path / f"{i}.parquet")
    both = read_cycles([tmp_path / "0.parquet", tmp_path / "1.parquet"])
    assert_frame_equal(both.frame, cycles)
    assert both.order.tolist() == list(range(cycles.height))
    with pytest.raises(ValueError, match=r"0\.parquet.*has cycle 1 2 times"):
        read_cycles([tmp_path / "0.parquet", tmp_path / "0.parquet"])


def test_samples_serve_as_cycles_and_as_curves(tmp_path: Path) -> None:
    samples, truth = simulate_samples(2, 0, cycles=(1, 2))
    path = tmp_path / "raw.parquet"
    samples.write_parquet(path)
    assert_frame_equal(read_samples(path).frame.select(samples.columns), samples)
    np.testing.assert_allclose(read_cycles(path).frame["capacity_ah"], truth["capacity_ah"], rtol=1e-4)
    curves = read_curves(path)
    assert curves.frame.select("cell_id", "cycle").equals(truth.select("cell_id", "cycle"))


def test_curves_serve_as_cycles_but_cycles_not_as_curves(
    curves: pl.DataFrame, cycles: pl.DataFrame, tmp_path: Path
) -> None:
    curves.write_parquet(tmp_path / "a.parquet")
    frame = read_cycles(tmp_path / "a.parquet").frame
    np.testing.assert_array_equal(frame["capacity_ah"].to_numpy(), curve_matrix(curves)[:, -1])
    cycles.write_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet: holds a cycles table.*wanted curves"):
        read_curves(tmp_path / "b.parquet")


# --- layouts of others ---------------------------------------------------------------------------------------


def test_severson_folder_with_lives(curves: pl.DataFrame, tmp_path: Path) -> None:
    folder = _grid_csv(curves, tmp_path / "train")
    (tmp_path / "cycle_lives").mkdir()
    lives = curves.group_by("cell_id", maintain_order=True).agg(pl.col("cycle_life").first())["cycle_life"]
    (tmp_path / "cycle_lives" / "train_cycle_lives.csv").write_text("\n".join(str(int(x)) for x in lives))
    reading = read(folder)
    assert reading.frame["cell_id"].unique(maintain_order=True).to_list() == [
        "train_01",
        "train_02",
        "train_03",
    ]
    assert reading.frame["cycle_life"].to_list() == curves["cycle_life"].to_list()
    np.testing.assert_allclose(curve_matrix(reading.frame), curve_matrix(curves), atol=1e-7)
    assert reading.frame["cycle"].to_list() == curves["cycle"].to_list()


def test_severson_single_file_and_given_lives(curves: pl.DataFrame, tmp_path: Path) -> None:
    folder = _grid_csv(curves, tmp_path / "test1")
    one = read(folder / "cell2.csv")
    assert one.frame["cell_id"].unique().to_list() == ["test1_02"]
    assert "cycle_life" not in one.frame.columns
    lives = tmp_path / "mine.csv"
    lives.write_text("700\n800\n")
    with pytest.raises(ValueError, match=r"mine\.csv: got 2 cycle lives for 3 cells"):
        read(folder, lives=lives)
    lives.write_text("700, 800, 900\n")
    assert read(folder, lives=lives).frame["cycle_life"].unique().to_list() == [700, 800, 900]


def test_severson_cells_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    for n in (10, 2, 1):
        np.savetxt(folder / f"cell{n}.csv", np.full((1000, 2), float(n)), delimiter=",")
    frame = read(folder).frame
    assert frame["cell_id"].unique(maintain_order=True).to_list() == ["train_01", "train_02", "train_10"]
    assert curve_matrix(frame)[:, 0].tolist() == [1, 1, 2, 2, 10, 10]


def test_battery_archive_cycle_data(tmp_path: Path) -> None:
    path = tmp_path / "CALCE_CX2-16_a_cycle_data.csv"
    pl.DataFrame(
        {
            "Cycle_Index": [1.0, 2.0],
            "Start_Time": ["", ""],
            "Test_Time (s)": [10.0, 20.0],
            "Charge_Capacity (Ah)": [1.2, 1.1],
            "Discharge_Capacity (Ah)": [1.1, 1.0],
        }
    ).write_csv(path)
    reading = read(path)
    assert reading.kind == "cycles"
    assert reading.frame["cell_id"].unique().to_list() == ["CALCE_CX2-16_a"]
    assert reading.frame["capacity_ah"].to_list() == pytest.approx([1.1, 1.0])
    assert reading.report.counts["vendor_capacity"] == 2


def test_calce_cut_discharges_have_no_capacity(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "cell": ["CS2_35"] * 2,
            "cycle": [1, 2],
            "discharge_capacity_ah": [1.1, 0.2],
            "complete_discharge": [True, False],
        }
    ).write_parquet(tmp_path / "a.parquet")
    reading = read(tmp_path / "a.parquet")
    assert reading.frame["capacity_ah"].to_list() == [pytest.approx(1.1), None]
    assert reading.report.counts["incomplete_discharge"] == 1


# --- the real sets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "rows", "cells", "counts"),
    [
        ("severson_qv_train.parquet", "curves", 4059, 41, {}),
        ("severson_qv_test1.parquet", "curves", 4257, 43, {}),
        ("hust_percycle.parquet", "cycles", 108774, 57, {"cycle_from_order": 108774}),
        ("xjtu_percycle.parquet", "cycles", 17671, 42, {"cycle_from_order": 17671, "infinite_value": 112}),
        ("tju_percycle.parquet", "cycles", 57465, 130, {"cycle_from_order": 57465}),
        ("nasa_capacity.parquet", "cycles", 2794, 34, {"vendor_capacity": 2794, "missing_value": 25}),
        ("nasa_discharge_curves.parquet", "samples", 185721, 4, {}),
        ("calce_cs2_cycles.parquet", "cycles", 3937, 4, {"incomplete_discharge": 26, "missing_value": 26}),
        ("calce_cs2_curves.parquet", "samples", 1060405, 4, {"time_restarts": 3937}),
    ],
)
def test_real_sets(real: Real, name: str, kind: str, rows: int, cells: int, counts: dict[str, int]) -> None:
    reading = read(real(name))
    assert (reading.kind, reading.frame.height, reading.frame["cell_id"].n_unique()) == (kind, rows, cells)
    assert reading.report.counts == counts


def test_real_curves_give_the_published_correlation(real: Real) -> None:
    """log10 var(Q100 - Q10) against log10 life: -0.904 on train, -0.937 on test1."""
    for name, wanted in (("train", -0.904), ("test1", -0.937)):
        frame = read_curves(real(f"severson_qv_{name}.parquet")).frame
        spread, life = [], []
        for part in frame.partition_by("cell_id"):
            q = curve_matrix(part.filter(pl.col("cycle").is_in([10, 100])))
            spread.append(np.log10(np.var(q[1] - q[0])))
            life.append(np.log10(part["cycle_life"][0]))
        assert np.corrcoef(spread, life)[0, 1] == pytest.approx(wanted, abs=5e-4)

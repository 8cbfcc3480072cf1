"""Small files in the layouts of cyclers, written here, all read back as the same samples."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from remem.data.battery import cyclers
from remem.data.battery.integrate import samples_to_cycles
from remem.data.battery.readers import read, read_cycles
from remem.data.battery.schema import conform

Raw = tuple[pl.DataFrame, pl.DataFrame]


def _clock(seconds: float, *, days: bool) -> str:
    day, rest = divmod(seconds, 86400) if days else (0, seconds)
    clock = f"{int(rest // 3600):02d}:{int(rest // 60) % 60:02d}:{rest % 60:06.3f}"
    return f"{int(day)}d {clock}" if days else clock


def _arbin(samples: pl.DataFrame, path: Path) -> Path:
    charge = (
        samples["current_a"].clip(lower_bound=0).cum_sum()
    )  # a column that never resets: must not be trusted
    table = samples.select(
        pl.int_range(1, pl.len() + 1).alias("Data_Point"),
        pl.lit("\t09/20/2024 08:32:34.558").alias("Date_Time"),
        pl.col("test_time_s").alias("Test_Time(s)"),
        pl.lit(0.0).alias("Step_Time(s)"),
        pl.col("step_id").alias("Step_Index"),
        pl.col("cycle").alias("Cycle_Index"),
        pl.col("current_a").alias("Current(A)"),
        pl.col("voltage_v").alias("Voltage(V)"),
        charge.alias("Charge_Capacity(Ah)"),
        pl.col("temperature_c").alias("Aux_Temperature_1(C)"),
    )
    table.write_csv(path)
    return path


def _arbin_mits(samples: pl.DataFrame, path: Path) -> Path:
    names = {
        "test_time_s": "Test Time (s)",
        "step_id": "Step Index",
        "cycle": "Cycle Index",
        "current_a": "Current (A)",
        "voltage_v": "Voltage (V)",
    }
    samples.rename(names).select(names.values()).write_csv(path)
    return path


def _arbin_excel(samples: pl.DataFrame, path: Path) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "Info"
    book.active.append(["TEST REPORT", "", "made by hand"])
    statistics = book.create_sheet("Statistics_1-008")
    statistics.append(["Cycle_Index", "Test_Time(s)", "Current(A)", "Voltage(V)", "Vmax_On_Cycle(V)"])
    statistics.append([1, 100.0, -1.0, 3.0, 3.6])
    half = samples.height // 2
    for i, part in enumerate((samples[:half], samples[half:]), start=1):
        sheet = book.create_sheet(f"Channel_1-008_{i}")
        sheet.append(["Data_Point", "Test_Time(s)", "Step_Index", "Cycle_Index", "Current(A)", "Voltage(V)"])
        for n, row in enumerate(part.iter_rows(named=True), start=1):
            sheet.append(
                [n, *(row[c] for c in ("test_time_s", "step_id", "cycle", "current_a", "voltage_v"))]
            )
    book.save(path)
    return path


def _neware(samples: pl.DataFrame, path: Path) -> Path:
    table = samples.select(
        pl.int_range(1, pl.len() + 1).alias("Record"),
        pl.col("cycle").alias("Cycle"),
        pl.col("step_id").alias("Step"),
        pl.lit("00:00:10").alias("Time"),
        pl.lit("CC DChg").alias("Step Type"),
        pl.col("test_time_s").map_elements(lambda s: _clock(s, days=False), pl.String).alias("Total Time"),
        (pl.col("current_a") * 1000).alias("Current(mA)"),
        pl.col("voltage_v").alias("Voltage(V)"),
        pl.lit(123.0).alias("Capacity(mAh)"),
    )
    table.write_csv(path, include_bom=True)
    return path


def _neware_step_clock(samples: pl.DataFrame, path: Path) -> Path:
    start = pl.col("test_time_s").min().over("cycle", "step_id")
    samples.select(
        pl.col("cycle").alias("Cycle"),
        pl.col("step_id").alias("Step"),
        (pl.col("test_time_s") - start).alias("Time(s)"),
        pl.col("voltage_v").alias("Voltage(V)"),
        pl.col("current_a").alias("Current(A)"),
    ).write_csv(path)
    return path


def _maccor(samples: pl.DataFrame, path: Path) -> Path:
    """One line of preamble, tabs, minutes, magnitudes of current with a state letter, a tab at the end of rows."""
    lines = [
        "Today's Date 05/05/2021\tDate of Test: 04/01/2021\tFilename: cell",
        "Rec#\tCyc#\tStep\tTest (Min)\tStep (Min)\tAmp-hr\tAmps\tVolts\tState\tES",
    ]
    for n, row in enumerate(samples.iter_rows(named=True), start=1):
        state = {1: "C", -1: "D", 0: "R"}[int(np.sign(row["current_a"]))]
        fields = [n, row["cycle"], row["step_id"], row["test_time_s"] / 60, 0.0, 9.9, abs(row["current_a"])]
        lines.append("\t".join(map(str, [*fields, row["voltage_v"], state, 1])) + "\t")
    path.write_text("\r\n".join(lines) + "\r\n")
    return path


def _maccor_days(samples: pl.DataFrame, path: Path) -> Path:
    lines = ["Rec\tCycle P\tStep\tTest Time\tCurrent\tVoltage\tMD"]
    for n, row in enumerate(samples.iter_rows(named=True), start=1):
        state = {1: "C", -1: "D", 0: "R"}[int(np.sign(row["current_a"]))]
        time = _clock(row["test_time_s"], days=True)
        fields = [n, row["cycle"], row["step_id"], time, abs(row["current_a"]), row["voltage_v"], state]
        lines.append("\t".join(map(str, fields)))
    path.write_text("\n".join(lines))
    return path


def _bdf(samples: pl.DataFrame, path: Path) -> Path:
    names = {
        "test_time_s": "Test Time / s",
        "voltage_v": "Voltage / V",
        "current_a": "Current / A",
        "cycle": "Cycle Count / 1",
        "step_id": "Step Count / 1",
    }
    samples.rename(names).select(names.values()).write_csv(path)
    return path


def _bdf_machine(samples: pl.DataFrame, path: Path) -> Path:
    names = {
        "test_time_s": "test_time_second",
        "voltage_v": "voltage_volt",
        "current_a": "current_ampere",
        "cycle": "cycle_count",
        "step_id": "step_count",
    }
    samples.rename(names).select(names.values()).write_parquet(path)
    return path


def _landt(samples: pl.DataFrame, path: Path) -> Path:
    samples.rename({"cycle": "cycle_index", "step_id": "step_index"}).drop("cell_id").write_csv(path)
    return path


def _archive(samples: pl.DataFrame, path: Path) -> Path:
    samples.select(
        pl.lit("2020-01-01").alias("Date_Time"),
        pl.col("test_time_s").alias("Test_Time (s)"),
        pl.col("cycle").alias("Cycle_Index"),
        pl.col("current_a").alias("Current (A)"),
        pl.col("voltage_v").alias("Voltage (V)"),
        pl.lit(1.0).alias("Discharge_Capacity (Ah)"),
        pl.col("temperature_c").alias("Cell_Temperature (C)"),
    ).write_csv(path)
    return path


def _basytec(samples: pl.DataFrame, path: Path) -> Path:
    lines = [
        "~Resultfile from Basytec Battery Test System",
        "~Start of Test: 19.06.2023 17:56:53",
        "~",
        "~Time[h]\tt-Step[h]\tCommand\tU[V]\tI[A]\tCyc-Count\tT1[°C]\tState",
        *(
            f"{r['test_time_s'] / 3600}\t0\tPause\t{r['voltage_v']}\t{r['current_a']}\t{r['cycle']}\t25.0\t1"
            for r in samples.iter_rows(named=True)
        ),
    ]
    path.write_text("\n".join(lines), encoding="latin-1")
    return path


def _biologic(samples: pl.DataFrame, path: Path) -> Path:
    """A preamble, tabs and decimal commas."""
    header = "Ns\ttime/s\tEcell/V\t<I>/mA\tstep time/s\tcycle number\tTemperature/°C\t"
    lines = ["EC-Lab ASCII FILE", "Nb header lines : 5", "", "Safety Limits :\tEcell max = 4.30 V", header]
    for r in samples.iter_rows(named=True):
        time, volts, amps = r["test_time_s"], r["voltage_v"], r["current_a"] * 1000
        fields = [r["step_id"], f"{time:.15E}", f"{volts:.7E}", f"{amps:.9E}", 0.0, float(r["cycle"]), 25.0]
        lines.append("\t".join(str(f).replace(".", ",") for f in fields))
    path.write_text("\r\n".join(lines), encoding="latin-1")
    return path


def _novonix(samples: pl.DataFrame, path: Path) -> Path:
    head = '[Summary]\nNovonix\n[End Summary]\n[Protocol]\n{"Steps": [{"StepType": 3, "Current": "10"}]}\n[Data]\n'
    table = samples.select(
        pl.lit("2025-07-19 15:26:20").alias("Date and Time"),
        pl.col("cycle").alias("Cycle Number"),
        pl.lit(7).alias("Step Type"),
        (pl.col("test_time_s") / 3600).alias("Run Time (h)"),
        pl.lit(0.0).alias("Step Time (h)"),
        pl.lit(25.0).alias("Temperature (°C)"),
        pl.col("step_id").alias("Step Number"),
        pl.col("current_a").alias("Current (A)"),
        pl.col("voltage_v").alias("Potential (V)"),
    )
    path.write_text(head + table.write_csv())
    return path


LAYOUTS: list[tuple[Callable[[pl.DataFrame, Path], Path], str]] = [
    (_arbin, "cell.csv"),
    (_arbin_mits, "cell.csv"),
    (_arbin_excel, "cell.xlsx"),
    (_neware, "cell.csv"),
    (_neware_step_clock, "cell.csv"),
    (_maccor, "cell.001"),
    (_maccor_days, "cell.txt"),
    (_bdf, "cell.bdf.csv"),
    (_bdf_machine, "cell.bdf.parquet"),
    (_landt, "cell.csv"),
    (_archive, "cell_timeseries.csv"),
    (_basytec, "cell.txt"),
    (_biologic, "cell.mpt"),
    (_novonix, "cell.csv"),
]


@pytest.mark.parametrize(("write", "name"), LAYOUTS, ids=[w.__name__.strip("_") for w, _ in LAYOUTS])
def test_every_layout_is_the_same_samples(
    write: Callable[[pl.DataFrame, Path], Path], name: str, raw: Raw, tmp_path: Path
) -> None:
    samples, truth = raw
    path = write(samples, tmp_path / name)
    reading = read(path)
    assert reading.kind == "samples"
    assert reading.frame["cell_id"].unique().to_list() in (["cell"], ["cell.bdf"])
    assert reading.frame["cycle"].to_list() == samples["cycle"].to_list()
    np.testing.assert_allclose(reading.frame["current_a"], samples["current_a"], atol=1e-9)
    np.testing.assert_allclose(reading.frame["voltage_v"], samples["voltage_v"], atol=1e-9)
    steps = np.diff(reading.frame["test_time_s"].to_numpy())
    real_steps = np.diff(samples["test_time_s"].to_numpy())
    np.testing.assert_allclose(
        steps, real_steps, atol=0.02
    )  # h:m:s text keeps ms; step clocks lose the switch
    cycles = read_cycles(path).frame
    np.testing.assert_allclose(cycles["capacity_ah"], truth["capacity_ah"], rtol=1e-4)


def test_conversions_are_reported(raw: Raw, tmp_path: Path) -> None:
    maccor = read(_maccor(raw[0], tmp_path / "cell.001")).report
    assert maccor.counts["unit_converted"] == raw[0].height
    assert maccor.counts["sign_flipped"] == raw[0].filter(pl.col("current_a") < 0).height
    assert "times 60" in str(maccor)
    steps = read(_neware_step_clock(raw[0], tmp_path / "a.csv")).report
    assert steps.counts["time_restarts"] == 11  # 3 cycles of 4 steps


def test_a_file_without_cycles_says_so(raw: Raw, tmp_path: Path) -> None:
    path = tmp_path / "cell.csv"
    raw[0].select(Time=pl.col("test_time_s"), Voltage="voltage_v", Current="current_a").write_csv(path)
    reading = read(path)
    assert reading.report.counts["constant_cycle_count"] == raw[0].height
    assert reading.frame["cycle"].unique().to_list() == [1]


def test_renaming_goes_before_recognition(raw: Raw, tmp_path: Path) -> None:
    path = _arbin(raw[0].rename({"cell_id": "Device"}), tmp_path / "cell.csv")
    table = pl.read_csv(path).with_columns(pl.lit("b7").alias("Device"))
    table.write_csv(path)
    assert read(path, columns={"Device": "cell_id"}).frame["cell_id"].unique().to_list() == ["b7"]


def test_batterydf_parses_and_units_are_ours(raw: Raw, tmp_path: Path) -> None:
    pytest.importorskip("bdf")
    samples, truth = raw
    found = cyclers.cycler(cyclers.read_batterydf(_basytec(samples, tmp_path / "cell.txt")))
    assert found is not None
    frame = found[0].with_columns(cell_id=pl.lit("cell"))
    cycles, _ = samples_to_cycles(conform(frame, "samples", source="cell.txt")[0])
    np.testing.assert_allclose(cycles["capacity_ah"], truth["capacity_ah"], rtol=1e-4)


def test_without_batterydf_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bdf", None)
    path = tmp_path / "cell.mpt"
    path.write_text("EC-Lab ASCII FILE\nNb header lines : 3\nfreq/Hz\tRe(Z)/Ohm\n1\t3.3\n")
    with pytest.raises(ValueError, match=r"cell\.mpt.*batterydf.*pip install 'remem\[cyclers\]'"):
        read(path)


def test_a_file_batterydf_cannot_read_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("bdf")
    path = tmp_path / "cell.nda"
    path.write_bytes(b"not a neware file")
    with pytest.raises(ValueError, match=r"cell\.nda: .*(export|no known layout)"):
        read(path)


def test_a_workbook_without_records_is_refused(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["a", "b"])
    book.active.append([1, 2])
    book.save(tmp_path / "x.xlsx")
    with pytest.raises(ValueError, match=r"x\.xlsx.*Sheet"):
        read(tmp_path / "x.xlsx")
    (tmp_path / "y.xlsx").write_bytes(b"PK not a workbook")
    with pytest.raises(ValueError, match=r"y\.xlsx"):
        read(tmp_path / "y.xlsx")

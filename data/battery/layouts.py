"""Raw tables -> the words of `schema`. A layout is recognised by its columns, never by the name of its file.

A new layout is one function `frame -> (frame, Report) | None` in `_LAYOUTS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from . import cyclers
from .flags import Report
from .schema import GRID_POINTS, VOLTAGE_GRID, curve_series, kind_of, near

Layout = Callable[[pl.DataFrame], "tuple[pl.DataFrame, Report] | None"]


def recognise(frame: pl.DataFrame, path: Path) -> tuple[pl.DataFrame, Report]:
    """`frame` in the words of `schema`, and what that took.

    Raises:
        ValueError: no layout fits; the message lists the columns and the near names.
    """
    for layout in _LAYOUTS:
        found = layout(frame)
        if found is not None:
            return found
    known = ["cell_id", "cycle", "q_ah", "capacity_ah", "test_time_s", "voltage_v", "current_a"]
    close = [near(c, known) for c in frame.columns if "near" in near(c, known)]
    raise ValueError(
        f"{path}: no known layout; got columns {frame.columns[:20]}; wanted curves (cell_id, cycle, q_ah), cycles "
        "(cell_id, cycle, capacity_ah) or samples (cell_id, cycle, test_time_s, voltage_v, current_a); rename with "
        f"columns={{'old': 'new'}} (--columns old=new){'; ' + ', '.join(close) if close else ''}"
    )


def _archive_cycles(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report] | None:
    """BatteryArchive `*_cycle_data.csv`: one row per cycle, capacities from the cycler."""
    if not {"Cycle_Index", "Discharge_Capacity (Ah)"} <= set(frame.columns) or "Voltage (V)" in frame.columns:
        return None
    names = {
        "Cycle_Index": "cycle",
        "Discharge_Capacity (Ah)": "capacity_ah",
        "Charge_Capacity (Ah)": "charge_capacity_ah",
        "Discharge_Energy (Wh)": "energy_wh",
        "Charge_Energy (Wh)": "charge_energy_wh",
        "Test_Time (s)": "test_time_s",
        "Min_Voltage (V)": "voltage_min_v",
        "Max_Voltage (V)": "voltage_max_v",
        "Min_Current (A)": "current_min_a",
        "Max_Current (A)": "current_max_a",
    }
    frame = frame.rename(names, strict=False)
    told = "Discharge_Capacity (Ah) of BatteryArchive; give the timeseries file to have it integrated"
    return frame, Report.of([(None, None, "vendor_capacity", frame.height, told)])


def _nasa_capacity(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report] | None:
    if not {"battery_id", "capacity_ah", "cycle"} <= set(frame.columns):
        return None
    told = "capacity of the NASA files (current integrated there down to 2.7 V)"
    return frame.rename({"battery_id": "cell_id"}), Report.of(
        [(None, None, "vendor_capacity", frame.height, told)]
    )


def _nasa_discharge(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report] | None:
    if not {"battery_id", "cycle", "time_s", "voltage_v", "current_a"} <= set(frame.columns):
        return None
    return frame.rename({"battery_id": "cell_id", "time_s": "test_time_s"}), Report()


def _calce_cycles(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report] | None:
    if not {"cell", "cycle", "discharge_capacity_ah", "complete_discharge"} <= set(frame.columns):
        return None
    frame = frame.rename({"cell": "cell_id"})
    cut = frame.filter(~pl.col("complete_discharge"))
    whole = pl.when(pl.col("complete_discharge")).then(pl.col("discharge_capacity_ah"))
    rows = [
        (cell, cycle, "incomplete_discharge", 1, "capacity made null; discharge_capacity_ah keeps the figure")
        for cell, cycle in cut.select("cell_id", "cycle").iter_rows()
    ]
    return frame.with_columns(whole.alias("capacity_ah")), Report.of(rows)


def _calce_curves(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report] | None:
    """CALCE samples: the clock restarts in each phase, so phases are laid end to end in the order of a cycle."""
    if not {"cell", "cycle", "phase", "time_s", "voltage_v", "current_a"} <= set(frame.columns):
        return None
    order = {"charge_cc": 1, "charge_cv": 2, "discharge": 3}
    frame = frame.rename({"cell": "cell_id"}).with_columns(
        pl.col("phase").replace_strict(order, default=0, return_dtype=pl.Int32).alias("step_id"),
        pl.col("time_s").cast(pl.Float64),
    )
    frame = frame.sort("cell_id", "cycle", "step_id", maintain_order=True)
    ends = (
        frame.group_by("cell_id", "cycle", "step_id", maintain_order=True)
        .agg(pl.col("time_s").max().alias("_long"))
        .with_columns((pl.col("_long").cum_sum() - pl.col("_long")).over("cell_id", "cycle").alias("_offset"))
    )
    frame = frame.join(ends, on=["cell_id", "cycle", "step_id"], how="left", maintain_order="left")
    frame = frame.with_columns((pl.col("time_s") + pl.col("_offset")).alias("test_time_s")).drop(
        "_long", "_offset", "time_s"
    )
    cycles = ends.select("cell_id", "cycle").n_unique()
    told = f"phases of {cycles} cycles laid end to end; rests between them are not in the file"
    return frame, Report.of([(None, None, "time_restarts", cycles, told)])


def _long_curves(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report] | None:
    """One row per cell, cycle and voltage: interpolated onto the grid."""
    columns = set(frame.columns)
    if not {"q_ah", "voltage_v", "cycle"} <= columns or frame["q_ah"].dtype.is_nested():
        return None
    keys = [c for c in ("cell_id", "cycle") if c in columns]
    carried = [c for c in ("cycle_life",) if c in columns]
    heads, curves = [], []
    rows: list[tuple[str | None, int | None, str, int, str]] = []
    wanted = [*keys, *carried, "voltage_v", "q_ah"]
    for group in frame.select(wanted).partition_by(keys, maintain_order=True):
        points = group.drop_nulls(["voltage_v", "q_ah"]).sort("voltage_v")
        if points.height < 2:
            rows.append(
                (
                    None,
                    group["cycle"][0],
                    "missing_value",
                    group.height,
                    "fewer than two points; cycle left out",
                )
            )
            continue
        heads.append(points.select([*keys, *carried]).head(1))
        curves.append(np.interp(VOLTAGE_GRID, points["voltage_v"], points["q_ah"]))
    if not curves:
        return None
    told = f"q_ah at voltage_v interpolated onto the {GRID_POINTS} voltages of the grid"
    out = pl.concat(heads).with_columns(curve_series(np.stack(curves)))
    return out, Report.of([*rows, (None, None, "unit_converted", len(curves), told)])


def _own(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report] | None:
    """Tables already in the words of `schema` (HUST, XJTU, Tongji per-cycle tables among them)."""
    kind = kind_of(frame.columns)
    if kind == "samples" and "cycle" not in frame.columns:
        return None  # some cyclers write voltage_v and current_a too
    return (frame, Report()) if kind else None


_LAYOUTS: tuple[Layout, ...] = (
    _archive_cycles,
    _nasa_capacity,
    _nasa_discharge,
    _calce_cycles,
    _calce_curves,
    _long_curves,
    _own,
    cyclers.cycler,
)


def name_rows(frame: pl.DataFrame, path: Path) -> tuple[pl.DataFrame, Report]:
    """Fill in `cell_id` and `cycle` where a file has none: from its name, from `row`, from the order of rows."""
    rows: list[tuple[str | None, int | None, str, int, str]] = []
    if "cell_id" not in frame.columns:
        if near_cell := [
            c for c in frame.columns if c.lower() in ("cell", "cellid", "battery", "battery_id", "barcode")
        ]:
            raise ValueError(
                f"{path}: has no column 'cell_id' but {near_cell}; wanted the name of each row's cell; rename with "
                f"columns={{'{near_cell[0]}': 'cell_id'}} (--columns {near_cell[0]}=cell_id)"
            )
        name = re.sub(r"_(cycle_data|timeseries)$", "", path.stem)
        frame = frame.with_columns(pl.lit(name).alias("cell_id"))
        rows.append((name, None, "cell_from_file_name", frame.height, f"no cell_id in {path.name}"))
    if "cycle" not in frame.columns and kind_of(frame.columns) != "samples":
        if "row" in frame.columns:
            frame, told = (
                frame.rename({"row": "cycle"}),
                "column row is the order of cycles, not always their number",
            )
        else:
            order = (pl.int_range(pl.len()) + 1).over("cell_id").alias("cycle")
            frame, told = frame.with_columns(order), "no column cycle; rows of a cell numbered from 1"
        rows.append((None, None, "cycle_from_order", frame.height, told))
    return frame, Report.of(rows)

"""Samples -> cycles and curves by integrating the current here.

Cyclers' own capacity columns reset per step, per cycle or never, depending on the make and its settings, so they
are not used: charge is the trapezoidal integral of I dt inside a cycle, separately for either sign.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from .flags import Report
from .schema import VOLTAGE_GRID, conform, curve_series

SECONDS_PER_HOUR = 3600.0
NOT_COVERED_V = 0.05
"""A discharge that stops further than this (V) from an end of the grid is reported as `not_covered`."""


def samples_to_cycles(samples: pl.DataFrame) -> tuple[pl.DataFrame, Report]:
    """One row per cell and cycle from a samples table.

    Columns: `capacity_ah` (discharge), `charge_capacity_ah`, `discharge_time_s`, `charge_time_s`, `voltage_min_v`,
    `voltage_max_v`, `current_min_a`, `current_max_a`, and `temperature_max_c` where there is a temperature. A cycle
    without any discharge has a null capacity and the flag `incomplete_discharge`. Pairs of samples between which time
    does not advance, or which miss a value, contribute nothing.
    """
    keys = ["cell_id", "cycle"]
    dt = pl.col("test_time_s").diff().over(keys).clip(lower_bound=0)
    parts = []
    for name, sign in (("discharge", -1), ("charge", 1)):
        flow = (sign * pl.col("current_a")).clip(lower_bound=0)
        before = flow.shift(1).over(keys)
        parts += [
            ((flow + before) / 2 * dt / SECONDS_PER_HOUR).alias(f"_{name}_ah"),
            pl.when((flow > 0) & (before > 0)).then(dt).alias(f"_{name}_s"),
        ]
    sums = [
        pl.col("_discharge_ah").sum().alias("capacity_ah"),
        pl.col("_charge_ah").sum().alias("charge_capacity_ah"),
        pl.col("_discharge_s").sum().alias("discharge_time_s"),
        pl.col("_charge_s").sum().alias("charge_time_s"),
        pl.col("voltage_v").min().alias("voltage_min_v"),
        pl.col("voltage_v").max().alias("voltage_max_v"),
        pl.col("current_a").min().alias("current_min_a"),
        pl.col("current_a").max().alias("current_max_a"),
    ]
    if "temperature_c" in samples.columns:
        sums.append(pl.col("temperature_c").max().alias("temperature_max_c"))
    cycles = samples.with_columns(parts).group_by(keys, maintain_order=True).agg(sums)
    empty = cycles.filter(pl.col("capacity_ah") <= 0)
    cycles = cycles.with_columns(
        pl.when(pl.col("capacity_ah") > 0).then(pl.col("capacity_ah")).alias("capacity_ah")
    )
    report = Report.of(
        (cell, cycle, "incomplete_discharge", 1, "no discharge current; capacity_ah made null")
        for cell, cycle in empty.select(keys).iter_rows()
    )
    cycles, _ = conform(cycles, "cycles", source="samples_to_cycles")
    return cycles, report


def samples_to_curves(samples: pl.DataFrame) -> tuple[pl.DataFrame, Report]:
    """Q(V) of every discharge in a samples table, on `VOLTAGE_GRID`.

    The discharge of a cycle is all its samples with current below 0; where voltage bounces back, its running minimum
    counts. Beyond the voltages that were reached the curve is held constant, reported as `not_covered` where that is
    more than 0.05 V short of an end of the grid. Cycles with fewer than two discharging samples are left out and
    reported as `incomplete_discharge`.

    Raises:
        ValueError: where no cycle has a discharge.
    """
    heads: list[tuple[str, int]] = []
    rows: list[tuple[str | None, int | None, str, int, str]] = []
    curves: list[np.ndarray] = []
    wanted = ["cell_id", "cycle", "test_time_s", "voltage_v", "current_a"]
    for (cell, cycle), part in samples.select(wanted).group_by("cell_id", "cycle", maintain_order=True):
        time, volts, amps = (part.drop_nulls()[c].to_numpy() for c in wanted[2:])
        flow = np.clip(-amps, 0, None)
        on = flow > 0
        if on.sum() < 2:
            rows.append(
                (str(cell), int(str(cycle)), "incomplete_discharge", 1, "no discharge; cycle left out")
            )
            continue
        step = np.clip(np.diff(time), 0, None) * (flow[1:] + flow[:-1]) / 2 / SECONDS_PER_HOUR
        charge = np.concatenate([[0.0], np.cumsum(step)])[on]
        falling = np.minimum.accumulate(volts[on])
        # np.interp wants rising voltages; of equal ones the last, i.e. the largest charge, must win
        curves.append(np.interp(VOLTAGE_GRID, falling[::-1], charge[::-1]))
        heads.append((str(cell), int(str(cycle))))
        short = [
            f"{end:.1f} V (the discharge spans {falling[0]:.2f} to {falling[-1]:.2f} V)"
            for end, gap in (
                (VOLTAGE_GRID[0], VOLTAGE_GRID[0] - falling[0]),
                (VOLTAGE_GRID[-1], falling[-1] - VOLTAGE_GRID[-1]),
            )
            if gap > NOT_COVERED_V
        ]
        if short:
            rows.append((*heads[-1], "not_covered", 1, "held constant up to " + " and ".join(short)))
    if not curves:
        raise ValueError(
            f"samples of {samples['cell_id'].n_unique()} cells: no cycle has two samples with current_a < 0; wanted "
            "discharges, with + as charge; if this file counts discharge as +, use checks.repair_sign first"
        )
    frame = pl.DataFrame(heads, schema={"cell_id": pl.String, "cycle": pl.Int32}, orient="row")
    frame, _ = conform(
        frame.with_columns(curve_series(np.stack(curves))), "curves", source="samples_to_curves"
    )
    return frame, Report.of(rows)

"""What can be wrong with battery data, found from the data alone and named: see `flags.FLAGS`.

A check never changes a table; `repairs` does, one function a fault, when it is asked to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import polars as pl

from .flags import Report
from .integrate import SECONDS_PER_HOUR, samples_to_cycles
from .schema import CHARGE_FEATURES, REQUIRED, Kind, curve_matrix, kind_of, near
from .spikes import spikes

Row = tuple[str | None, int | None, str, int, str]

LONGEST_HALF_CYCLE_H = 60.0
"""Nobody cycles slower than this while also sampling every five minutes or more: such time is in milliseconds."""
SLOWEST_SAMPLING_S = 300.0
LARGEST_CELL_AH = 400.0
"""Capacities above this are milliampere hours where no nominal capacity is given."""
VOLTAGE_RANGE_V = (0.5, 5.0)
TEMPERATURE_RANGE_C = (-60.0, 150.0)
SWING_V = 0.05
"""Volts that a sum of voltage steps must reach to speak against the sign of the current."""
UNSIGNED_SWING_V = 0.2
"""More than the drop where a charger steps its current down."""
FADE_WINDOW = 30
"""Cycles over which the present fade is measured."""
FAILING_CYCLES = 300
"""A cell whose present fade, kept up, ends its life within so many cycles counts as failing already."""


def check(
    frame: pl.DataFrame,
    *,
    nominal_ah: float | None = None,
    eol_fraction: float = 0.8,
    domain: Mapping[str, tuple[float, float]] | None = None,
) -> Report:
    """Every flag that a samples, cycles or curves table earns.

    Args:
        frame: a table of `schema`; the order of rows is part of what is judged.
        nominal_ah: nominal capacity, Ah. Without it a cell's first ten cycles stand in, and capacities are taken for
            mAh above 400.
        eol_fraction: end of life as a share of nominal.
        domain: {column: (lowest, highest)} seen in training; rows outside are `out_of_domain`.

    Raises:
        ValueError: the table is none of the three, lacks a column, or has no rows.
    """
    kind = kind_of(frame.columns)
    if kind is None:
        raise ValueError(
            f"check: columns {frame.columns} are none of the battery tables; wanted q_ah (curves), voltage_v and "
            "current_a (samples) or capacity_ah (cycles)"
        )
    for name in REQUIRED[kind]:
        if name not in frame.columns:
            raise ValueError(
                f"check: a {kind} table needs column {near(name, frame.columns)}; got {frame.columns}"
            )
    if frame.height == 0:
        raise ValueError(f"check: the {kind} table has no rows")
    if nominal_ah is not None and nominal_ah <= 0:
        raise ValueError(f"check: nominal_ah is {nominal_ah}; wanted Ah above 0")
    rows = list(_holes(frame, kind))
    for name, bounds in (domain or {}).items():
        rows += _outside(frame, name, bounds, "the training data")
    judge: dict[Kind, Callable[..., Iterator[Row]]] = {
        "samples": _samples,
        "cycles": _cycles,
        "curves": _curves,
    }
    rows += judge[kind](frame, nominal_ah, eol_fraction)
    return Report.of(rows)


def domain_of(
    frame: pl.DataFrame, columns: list[str], *, margin: float = 0.1
) -> dict[str, tuple[float, float]]:
    """The range of each column, widened by `margin` of itself on either side: `check(domain=...)` of new data."""
    out = {}
    for name in columns:
        values = frame[name].cast(pl.Float64).drop_nulls().drop_nans()
        low, high = float(values.min() or 0), float(values.max() or 0)  # type: ignore[arg-type]
        out[name] = (low - margin * (high - low), high + margin * (high - low))
    return out


# --- every table ---------------------------------------------------------------------------------------------


def _holes(frame: pl.DataFrame, kind: Kind) -> Iterator[Row]:
    measured = [c for c in REQUIRED[kind] if c not in ("cell_id", "cycle")]
    measured += [c for c in (*CHARGE_FEATURES, "temperature_c") if c in frame.columns]
    for name in measured:
        column = frame[name]
        if isinstance(column.dtype, pl.Array | pl.List):
            matrix = curve_matrix(frame)
            for flag, bad in (("missing_value", np.isnan(matrix)), ("infinite_value", np.isinf(matrix))):
                counts = bad.sum(axis=1)
                for i in map(int, np.flatnonzero(counts)):
                    yield (
                        frame["cell_id"][i],
                        frame["cycle"][i],
                        flag,
                        int(counts[i]),
                        f"{name}: {counts[i]} values",
                    )
            continue
        numbers = column.cast(pl.Float64)
        yield from _rows(
            frame, numbers.is_null() | numbers.is_nan().fill_null(False), "missing_value", f"{name}: no value"
        )
        yield from _rows(frame, numbers.is_infinite().fill_null(False), "infinite_value", f"{name}: infinite")


def _rows(frame: pl.DataFrame, bad: pl.Series | pl.Expr, flag: str, detail: str) -> Iterator[Row]:
    """One row per cell and cycle where `bad` holds."""
    for cell, cycle, n in (
        frame.filter(bad).group_by("cell_id", "cycle", maintain_order=True).len().iter_rows()
    ):
        yield cell, cycle, flag, n, detail


def _outside(frame: pl.DataFrame, name: str, bounds: tuple[float, float], of: str) -> Iterator[Row]:
    if name not in frame.columns:
        raise ValueError(
            f"check: domain names column {near(name, frame.columns)}, which the table lacks; got {frame.columns}"
        )
    low, high = bounds
    bad = pl.col(name).is_finite() & ((pl.col(name) < low) | (pl.col(name) > high))
    yield from _rows(
        frame, bad, "out_of_domain", f"{name} outside {low:.6g} to {high:.6g}, the range of {of}"
    )


def _counting(frame: pl.DataFrame) -> Iterator[Row]:
    """Cycle numbers of a table with one row per cycle: repeats, gaps, no counting at all."""
    for (cell,), part in frame.group_by("cell_id", maintain_order=True):
        numbers = part["cycle"].drop_nulls()
        if part.height > 1 and numbers.n_unique() == 1:
            told = f"all {part.height} rows say cycle {numbers[0]}"
            yield str(cell), int(numbers[0]), "constant_cycle_count", part.height, told
            continue
        for cycle, n in (
            part.group_by("cycle", maintain_order=True).len().filter(pl.col("len") > 1).iter_rows()
        ):
            yield str(cell), cycle, "duplicate_cycle", n, f"{n} rows say cycle {cycle}"
        yield from _gaps(str(cell), numbers)


def _gaps(cell: str, numbers: pl.Series) -> Iterator[Row]:
    distinct = np.unique(numbers.to_numpy())
    for at in np.flatnonzero(np.diff(distinct) > 1):
        before, after = int(distinct[at]), int(distinct[at + 1])
        yield cell, before, "cycle_gap", after - before - 1, f"cycles {before + 1} to {after - 1} are missing"


def _fading(
    cell: str, cycle: np.ndarray, capacity: np.ndarray, nominal: float | None, eol: float
) -> Iterator[Row]:
    """Judged at the last cycle from a line through the last `FADE_WINDOW` cycles, so that one bad cycle has no say."""
    known = np.isfinite(capacity)
    cycle, capacity = cycle[known], capacity[known]
    if len(capacity) == 0:
        return
    size = nominal or float(np.median(capacity[:10]))
    now = float(np.median(capacity[-3:]))
    if now < eol * size:
        told = f"{now:.4g} Ah at cycle {cycle[-1]} is below {eol:.0%} of {size:.4g} Ah"
        yield cell, int(cycle[-1]), "already_failing", 1, told
        return
    late = cycle >= cycle[-1] - FADE_WINDOW
    if late.sum() < FADE_WINDOW // 3:
        return
    fade = -_theil_sen(cycle[late], capacity[late])
    if fade * FAILING_CYCLES > now - eol * size:
        told = f"at its present fade of {fade:.2g} Ah per cycle it ends in {(now - eol * size) / fade:.0f} cycles"
        yield cell, int(cycle[-1]), "already_failing", 1, told


def _theil_sen(x: np.ndarray, y: np.ndarray) -> float:
    """Median slope over all pairs."""
    i, j = np.triu_indices(len(x), 1)
    apart = x[j] != x[i]
    return float(np.median((y[j] - y[i])[apart] / (x[j] - x[i])[apart])) if apart.any() else 0.0


def _too_large(nominal: float | None) -> float:
    """Ah above which a capacity must be in mAh."""
    return LARGEST_CELL_AH if nominal is None else 30 * nominal


def _spike_rows(cell: str, cycle: np.ndarray, values: np.ndarray) -> Iterator[Row]:
    mask, mended = spikes(values)
    for row in np.flatnonzero(mask.any(axis=1)):
        far = np.where(mask[row], np.abs(values[row] - mended[row]), -1)
        worst = int(far.argmax())
        told = f"{values[row, worst]:.4g} Ah where the neighbouring cycles have {mended[row, worst]:.4g}"
        yield cell, int(cycle[row]), "capacity_spike", int(mask[row].sum()), told


# --- the three tables ----------------------------------------------------------------------------------------


def _samples(frame: pl.DataFrame, nominal: float | None, eol: float) -> Iterator[Row]:
    keys = ["cell_id", "cycle"]
    gap = pl.col("test_time_s").diff().over([*keys, "step_id"] if "step_id" in frame.columns else keys)
    timed = frame.with_columns(gap.alias("_gap"), pl.col("test_time_s").diff().over(keys).alias("_forward"))
    yield from _rows(timed, pl.col("_gap") == 0, "duplicate_time", "test_time_s does not advance")
    yield from _rows(timed, pl.col("_forward") < 0, "non_monotone_time", "test_time_s goes backwards")
    yield from _outside(frame, "voltage_v", VOLTAGE_RANGE_V, "lithium-ion cells")
    if "temperature_c" in frame.columns:
        yield from _outside(frame, "temperature_c", TEMPERATURE_RANGE_C, "any test chamber")
    cycles, _ = samples_to_cycles(frame)
    for (cell,), part in frame.group_by("cell_id", maintain_order=True):
        name = str(cell)
        yield from _signs(name, part)
        yield from _units(name, part, cycles.filter(pl.col("cell_id") == cell), nominal)
        discharges = _discharges(part)
        if part["cycle"].n_unique() == 1 and discharges > 1:
            told = f"cycle is {part['cycle'][0]} throughout, with {discharges} discharges"
            yield name, int(part["cycle"][0]), "constant_cycle_count", part.height, told
        yield from _gaps(name, part["cycle"])


def _signs(cell: str, part: pl.DataFrame) -> Iterator[Row]:
    """Charging lifts the voltage of any cell, whatever its make: sums of dV while current flows one way."""
    whole = part.drop_nulls(["current_a", "voltage_v"])
    amps, volts = whole["current_a"].to_numpy(), whole["voltage_v"].to_numpy()
    flows = np.abs(amps) > 0.05 * np.abs(amps).max(initial=0)
    same = flows[1:] & flows[:-1] & (np.sign(amps[1:]) == np.sign(amps[:-1]))
    lift = np.diff(volts)[same]
    charging, discharging = lift[amps[1:][same] > 0], lift[amps[1:][same] < 0]
    path = np.concatenate([[0.0], np.cumsum(charging)])
    rise = float((path - np.minimum.accumulate(path)).max())
    drop = float((np.maximum.accumulate(path) - path).max())
    if len(discharging) == 0 and min(rise, drop) > UNSIGNED_SWING_V:
        told = (
            f"current is never below 0, yet under it voltage rises by {rise:.2f} V and falls by {drop:.2f} V"
        )
        yield cell, None, "unsigned_current", part.height, told
    elif charging.sum() - discharging.sum() < -SWING_V:
        told = f"voltage moves by {charging.sum():+.2f} V in all while current_a > 0, and by "
        yield cell, None, "sign_flipped", part.height, told + f"{discharging.sum():+.2f} V while < 0"


def _units(cell: str, part: pl.DataFrame, cycles: pl.DataFrame, nominal: float | None) -> Iterator[Row]:
    amps = np.abs(part["current_a"].cast(pl.Float64).fill_null(0).to_numpy())
    time = part["test_time_s"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    largest = float(np.nanmax(amps, initial=0))
    if largest == 0:
        return
    moved = cycles.select(pl.max_horizontal("capacity_ah", "charge_capacity_ah").median()).item() or 0.0
    hours = moved / largest
    gaps = np.abs(np.diff(time))[amps[1:] > 0.05 * largest]
    every = float(np.nanmedian(gaps)) if np.isfinite(gaps).any() else 0.0
    if hours > LONGEST_HALF_CYCLE_H and every > SLOWEST_SAMPLING_S:
        told = f"a half cycle lasts {hours:.0f} h at {largest:.3g} A, sampled every {every:.0f} s"
        yield cell, None, "time_in_ms", part.height, told
        moved /= 1000
    if moved > _too_large(nominal):
        told = f"current up to {largest:.4g} moves {moved:.4g} 'Ah' per cycle: milliampere"
        yield cell, None, "capacity_in_mah", part.height, told


def _discharges(part: pl.DataFrame) -> int:
    """Number of separate discharges that move at least a fifth of what the largest moves."""
    keys = ["cell_id", "cycle"]
    sign = pl.col("current_a").sign().fill_null(0)
    runs = part.with_columns((sign != sign.shift(1)).fill_null(True).cum_sum().alias("_run"))
    moved = (
        runs.with_columns(
            (pl.col("current_a") * pl.col("test_time_s").diff().clip(lower_bound=0)).alias("_as")
        )
        .group_by([*keys, "_run"])
        .agg(pl.col("_as").sum())["_as"]
        .to_numpy()
    )
    out = np.maximum(-moved, 0)
    return int((out > 0.2 * out.max(initial=0)).sum()) if out.any() else 0


def _cycles(frame: pl.DataFrame, nominal: float | None, eol: float) -> Iterator[Row]:
    yield from _counting(frame)
    for name in ("v_mean", "voltage_min_v", "voltage_max_v"):
        if name in frame.columns:
            yield from _outside(frame, name, VOLTAGE_RANGE_V, "lithium-ion cells")
    for (cell,), part in frame.group_by("cell_id", maintain_order=True):
        name = str(cell)
        ordered = part.sort("cycle")
        capacity = ordered["capacity_ah"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        capacity = np.where(np.isinf(capacity), np.nan, capacity)
        cycle = ordered["cycle"].to_numpy()
        typical = float(np.nanmedian(capacity)) if np.isfinite(capacity).any() else 0.0
        if typical <= 0:
            flag = "sign_flipped" if typical < 0 else "out_of_domain"
            yield name, None, flag, part.height, f"capacity_ah is {typical:.4g} in the median"
            continue
        if typical > _too_large(nominal):
            yield name, None, "capacity_in_mah", part.height, f"capacity_ah is {typical:.4g} in the median"
        elif {"cc_q_ah", "cc_time"} <= set(frame.columns):
            seconds = part.select((pl.col("cc_time") / pl.col("cc_q_ah")).median()).item() or 0.0
            if (hours := seconds * typical / SECONDS_PER_HOUR) > LONGEST_HALF_CYCLE_H:
                yield (
                    name,
                    None,
                    "time_in_ms",
                    part.height,
                    f"at cc_time a full charge would take {hours:.0f} h",
                )
        yield from _spike_rows(name, cycle, capacity[:, None])
        yield from _fading(name, cycle, capacity, nominal, eol)


def _curves(frame: pl.DataFrame, nominal: float | None, eol: float) -> Iterator[Row]:
    yield from _counting(frame)
    for (cell,), part in frame.group_by("cell_id", maintain_order=True):
        name = str(cell)
        ordered = part.sort("cycle")
        cycle, matrix = ordered["cycle"].to_numpy(), curve_matrix(ordered).astype(np.float64)
        matrix[np.isinf(matrix)] = np.nan
        capacity = matrix[:, -1]
        typical = float(np.nanmedian(capacity)) if np.isfinite(capacity).any() else 0.0
        first = float(np.nanmedian(matrix[:, 0])) if np.isfinite(matrix[:, 0]).any() else 0.0
        if typical <= first:
            flag = "sign_flipped" if typical < first else "out_of_domain"
            told = f"q_ah runs from {first:.4g} to {typical:.4g} Ah; wanted about 0 at 3.6 V and capacity at 2.0 V"
            yield name, None, flag, part.height, told
            continue
        if typical > _too_large(nominal):
            yield name, None, "capacity_in_mah", part.height, f"q_ah at 2.0 V is {typical:.4g} in the median"
        elif nominal is not None and typical > 2 * nominal:
            told = f"{typical:.4g} Ah is over twice nominal, {nominal:.4g} Ah"
            yield name, None, "out_of_domain", part.height, told
        yield from _spike_rows(name, cycle, matrix)
        yield from _fading(name, cycle, capacity, nominal, eol)

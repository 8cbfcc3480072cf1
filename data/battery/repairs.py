"""Repairs of faults that `checks` names. Each is asked for by name and returns the table and what it changed."""

from __future__ import annotations

import numpy as np
import polars as pl

from .checks import check
from .flags import Report
from .schema import curve_matrix, curve_series, kind_of
from .spikes import spikes

MS_PER_S = 1000.0
MAH_PER_AH = 1000.0


def repair_spikes(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report]:
    """Curves or cycles with every spiking point replaced by the median of its neighbouring cycles.

    Neighbours are the three cycles on either side of the same cell, whatever their numbers. Points that are not spikes
    are returned bit for bit. Rows keep their order.

    Raises:
        ValueError: the table holds samples, whose spikes are points in time, not in cycles.
    """
    kind = kind_of(frame.columns)
    if kind not in ("curves", "cycles"):
        raise ValueError(f"repair_spikes: wanted curves or cycles; got {kind} with columns {frame.columns}")
    column = "q_ah" if kind == "curves" else "capacity_ah"
    values = curve_matrix(frame) if kind == "curves" else _numbers(frame, column)[:, None]
    values = values.copy()
    rows = []
    numbered = frame.select("cell_id", "cycle").with_row_index("_row")
    for (cell,), part in numbered.group_by("cell_id", maintain_order=True):
        at = part.sort("cycle")["_row"].to_numpy()
        mask, mended = spikes(values[at])
        for i in np.flatnonzero(mask.any(axis=1)):
            values[at[i], mask[i]] = mended[i, mask[i]]
            n = int(mask[i].sum())
            told = f"{column}: {n} spiking values replaced by the median of neighbouring cycles"
            rows.append((str(cell), int(frame["cycle"][int(at[i])]), "repaired", n, told))
    if rows and kind == "curves":
        frame = frame.with_columns(curve_series(values))
    elif rows:
        frame = frame.with_columns(pl.Series(column, values[:, 0], dtype=frame[column].dtype).fill_nan(None))
    return frame, Report.of(rows)


def _numbers(frame: pl.DataFrame, column: str) -> np.ndarray:
    return np.asarray(frame[column].cast(pl.Float64).fill_null(float("nan")).to_numpy())


def _flagged(frame: pl.DataFrame, flag: str) -> list[str]:
    return sorted(check(frame).table.filter(pl.col("flag") == flag)["cell_id"].drop_nulls().unique())


def _scale(
    frame: pl.DataFrame, flag: str, columns: list[str], factor: float, told: str
) -> tuple[pl.DataFrame, Report]:
    """Multiply `columns` by `factor` in the cells that earn `flag`."""
    cells = _flagged(frame, flag)
    if not cells:
        return frame, Report()
    there = [c for c in columns if c in frame.columns]
    hit = pl.col("cell_id").is_in(cells)
    counts = frame.filter(hit).group_by("cell_id", maintain_order=True).len()
    changed = [
        pl.when(hit).then(pl.col(c) * factor).otherwise(pl.col(c)).cast(frame[c].dtype).alias(c)
        for c in there
    ]
    if "q_ah" in there:
        raise ValueError("repair: curves are scaled by repair_capacity_unit")
    rows = [(cell, None, "repaired", n, f"{', '.join(there)} {told}") for cell, n in counts.iter_rows()]
    return frame.with_columns(changed), Report.of(rows)


def repair_sign(samples: pl.DataFrame) -> tuple[pl.DataFrame, Report]:
    """Samples with current negated in the cells flagged `sign_flipped`."""
    return _scale(samples, "sign_flipped", ["current_a"], -1.0, "negated, so that + is charge")


def repair_time_unit(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report]:
    """Samples or cycles with times divided by 1000 in the cells flagged `time_in_ms`."""
    times = ["test_time_s", "cc_time", "cv_time", "charge_time_s", "discharge_time_s"]
    return _scale(frame, "time_in_ms", times, 1 / MS_PER_S, "divided by 1000: milliseconds to seconds")


def repair_capacity_unit(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report]:
    """Any table with capacities (samples: currents) divided by 1000 in the cells flagged `capacity_in_mah`."""
    told = "divided by 1000: milli to whole units"
    if kind_of(frame.columns) == "curves":
        cells = _flagged(frame, "capacity_in_mah")
        hit = frame["cell_id"].is_in(cells).to_numpy()
        matrix = curve_matrix(frame)
        matrix = np.where(hit[:, None], matrix / MAH_PER_AH, matrix)
        rows = [(c, None, "repaired", int((frame["cell_id"] == c).sum()), f"q_ah {told}") for c in cells]
        return (frame.with_columns(curve_series(matrix)) if cells else frame), Report.of(rows)
    columns = ["current_a"] if kind_of(frame.columns) == "samples" else ["capacity_ah", "charge_capacity_ah"]
    columns += ["cc_q_ah", "cv_q_ah"]
    return _scale(frame, "capacity_in_mah", columns, 1 / MAH_PER_AH, told)


def repair_time_order(samples: pl.DataFrame) -> tuple[pl.DataFrame, Report]:
    """Samples sorted by time inside each cycle, the first kept of those with the same time (and step).

    For records whose rows were shuffled or doubled. A clock that restarts inside a cycle needs its steps told apart
    first, or this would shuffle them together: such a cycle is one where time falls back to near its start.
    """
    keys = ["cell_id", "cycle"]
    step = [c for c in ("step_id",) if c in samples.columns]
    order = samples.select(pl.struct(keys).rle_id()).to_series()
    late = samples.with_columns(order.alias("_run")).with_row_index("_row")
    sorted_rows = late.sort("_run", "test_time_s", maintain_order=True)
    kept = sorted_rows.unique([*keys, *step, "test_time_s"], keep="first", maintain_order=True)
    rows = []
    for flag, told in (("non_monotone_time", "sorted by time"), ("duplicate_time", "repeated times dropped")):
        found = check(samples).table.filter(pl.col("flag") == flag)
        rows += [
            (r["cell_id"], r["cycle"], "repaired", r["values"], told) for r in found.iter_rows(named=True)
        ]
    return kept.drop("_run", "_row"), Report.of(rows)


def repair_cycle_count(samples: pl.DataFrame) -> tuple[pl.DataFrame, Report]:
    """Samples with cycles counted anew in the cells flagged `constant_cycle_count`: each charge after a discharge
    begins a cycle."""
    cells = _flagged(samples, "constant_cycle_count")
    if not cells:
        return samples, Report()
    large = pl.col("current_a").abs() > 0.02 * pl.col("current_a").abs().max().over("cell_id")
    way = pl.when(large).then(pl.col("current_a").sign()).forward_fill().over("cell_id")
    starts = ((way > 0) & (way.shift(1).over("cell_id") < 0)).fill_null(False)
    counted = (starts.cast(pl.Int32).cum_sum() + 1).over("cell_id").cast(pl.Int32)
    hit = pl.col("cell_id").is_in(cells)
    frame = samples.with_columns(pl.when(hit).then(counted).otherwise(pl.col("cycle")).alias("cycle"))
    rows = []
    for cell in cells:
        n = frame.filter(pl.col("cell_id") == cell)["cycle"].n_unique()
        told = f"{n} cycles counted, each from a charge after a discharge"
        rows.append((cell, None, "repaired", n, told))
    return frame, Report.of(rows)

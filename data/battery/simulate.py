"""Simulated cells with known truth: the data of the demo, and of tests, where no real data is at hand.

The cells are those of `cell_model`. Sizes, lives and noise are set to resemble Severson et al. (2019) for curves and
the HUST set (Ma et al., 2022) for cycles; nothing is fitted to single cells.

Shape legend: R rows (cell and cycle), K points of a curve.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy.stats import kurtosis, skew

from .cell_model import EOL_AH, NOMINAL_AH, Cells, Chemistry, cell_voltage
from .integrate import SECONDS_PER_HOUR
from .schema import CHARGE_FEATURES, VOLTAGE_GRID, curve_series

FIRST_CYCLE = 2
"""Curves start here, as in the real set."""

_END = np.linspace(0, 1, 300)
DEPTH = np.concatenate([0.05 * _END[:-1] ** 2, 0.05 + 0.95 * (1 - (1 - _END) ** 2)])
"""(K,) depths of discharge, dense at both ends, where voltage moves fast."""


def simulate_curves(
    n_cells: int = 60,
    seed: int = 0,
    *,
    life: tuple[float, float] = (150, 2200),
    max_cycle: int = 100,
    missing: float = 0.0,
    noise: float = 1.0,
    spikes: int = 0,
) -> pl.DataFrame:
    """Discharge curves of early cycles with the cycle life of each cell, as in Severson et al.: a curves table.

    Args:
        n_cells: number of cells, `sim_001` on.
        life: shortest and longest cycle life; lives are log-spread between them.
        max_cycle: cycles 2 to `max_cycle` are given, as in the real set.
        missing: share of cycles left out at random, 0 to < 1; each cell keeps its first and its last.
        noise: factor on measurement and temperature noise; 0 for none.
        spikes: number of cycles (all cells together) that get an interpolation spike, as the real set has.

    Returns:
        `cell_id, cycle, q_ah, cycle_life`, at 4 C; cycle_life is the first cycle below 0.88 Ah.

    Raises:
        ValueError: where an argument is out of its range.
    """
    _refuse(n_cells=n_cells, life=life, missing=missing)
    if max_cycle < FIRST_CYCLE:
        raise ValueError(
            f"simulate_curves: max_cycle is {max_cycle}; the first cycle is {FIRST_CYCLE}; give more"
        )
    rng = np.random.default_rng(seed)
    cells = Cells.draw(rng, n_cells, life=life, capacity_ah=1.062)
    cycle = np.tile(np.arange(FIRST_CYCLE, max_cycle + 1), n_cells)
    cell = np.repeat(np.arange(n_cells), max_cycle - FIRST_CYCLE + 1)
    kept = (rng.random(len(cycle)) >= missing) | (cycle == FIRST_CYCLE) | (cycle == max_cycle)
    cycle, cell = cycle[kept], cell[kept]
    rows = cells.take(cell)
    # temperature moves the capacity and the resistance of a whole cycle, and does so slowly
    drift = noise * 0.0006 * rng.standard_normal(len(cycle))
    weather = noise * 0.004 * np.sin(cycle / 11 + rng.uniform(0, 2 * np.pi, n_cells)[cell])
    ohm = rows.resistance_ohm * (1 + weather + noise * 0.003 * rng.standard_normal(len(cycle)))
    charge = rows.charge_ah(cycle) * (1 + drift)
    volts = cell_voltage(charge, rows.lam(cycle), ohm, DEPTH, current_a=4 * NOMINAL_AH, chemistry="lfp")
    q = np.empty((len(cycle), len(VOLTAGE_GRID)), np.float32)
    for i in range(len(cycle)):
        falling = np.minimum.accumulate(volts[i])
        q[i] = np.interp(VOLTAGE_GRID, falling[::-1], (charge[i] * DEPTH)[::-1])
    q += (noise * 2e-5 * rng.standard_normal(q.shape)).astype(np.float32)
    for _ in range(spikes):
        at = rng.integers(len(q))
        q[at, rng.integers(100, 900, 5)] = rng.uniform(-9.7, 48.8, 5)
    return pl.DataFrame(
        {"cell_id": [f"sim_{i + 1:03d}" for i in cell], "cycle": cycle.astype(np.int32)}
    ).with_columns(curve_series(q), pl.Series("cycle_life", cells.life[cell], dtype=pl.Float32))


def simulate_cycles(
    n_cells: int = 30,
    seed: int = 0,
    *,
    life: tuple[float, float] = (300, 1500),
    missing: float = 0.0,
    noise: float = 1.0,
) -> pl.DataFrame:
    """The whole life of each cell, one row per cycle, with the columns of the HUST set: a cycles table.

    The 16 features are statistics of a simulated end of charge: at constant current from 0.2 V below the limit, then
    at constant voltage from 0.5 to 0.1 A.

    Args:
        n_cells: number of cells, `sim_001` on; `group` is one of four charge protocols.
        life: shortest and longest cycle life; lives are log-spread between them.
        missing: share of cycles left out at random, 0 to < 1; each cell keeps its first and its last.
        noise: factor on measurement noise; 0 for none.

    Returns:
        `cell_id, cycle, capacity_ah, group`, the 16 `CHARGE_FEATURES`. The last row of a cell is its last cycle at or
        above 0.88 Ah, so the remaining life after row `cycle` is `last cycle - cycle`.

    Raises:
        ValueError: where an argument is out of its range.
    """
    _refuse(n_cells=n_cells, life=life, missing=missing)
    rng = np.random.default_rng(seed)
    cells = Cells.draw(rng, n_cells, life=life, capacity_ah=1.17)
    last = cells.life.astype(np.int64)
    cell = np.repeat(np.arange(n_cells), last)
    cycle = np.concatenate([np.arange(1, n + 1) for n in last])
    kept = (rng.random(len(cycle)) >= missing) | (cycle == 1) | (cycle == last[cell])
    cell, cycle = cell[kept], cycle[kept]
    rows = cells.take(cell)
    group = rng.integers(4, size=n_cells)
    features = _end_of_charge(rng, rows, cycle, protocol=group[cell], noise=noise)
    capacity = rows.charge_ah(cycle) + noise * 0.0006 * rng.standard_normal(len(cycle))
    return pl.DataFrame(
        {
            "cell_id": [f"sim_{i + 1:03d}" for i in cell],
            "cycle": cycle.astype(np.int32),
            "capacity_ah": np.maximum(capacity, EOL_AH).astype(np.float32),
            "group": [str(g + 1) for g in group[cell]],
            **{name: features[name].astype(np.float32) for name in CHARGE_FEATURES},
        }
    )


def _end_of_charge(
    rng: np.random.Generator, cells: Cells, cycle: np.ndarray, *, protocol: np.ndarray, noise: float
) -> dict[str, np.ndarray]:
    """The 16 statistics (R,) of the ends of R charges.

    Constant current: voltage climbs its last 0.2 V, the later and steeper the less charge is left to take (a smaller
    inventory, and a higher polarisation, cut that charge). Constant voltage: current decays with a time constant that
    grows with the polarisation.
    """
    lam, charge = cells.lam(cycle), cells.charge_ah(cycle)
    wobble = 1 + noise * 0.01 * rng.standard_normal((3, len(cycle)))
    cc_q = (0.235 + 0.25 * (charge - 1.17) - 0.25 * lam - 0.006 * protocol) * wobble[0]
    cc_time = cc_q * SECONDS_PER_HOUR / NOMINAL_AH
    convexity = 2.6 - 4.0 * lam + 0.05 * protocol
    tau = (105 + 450 * lam + 4 * protocol) * cells.resistance_ohm / 0.017 * wobble[1]
    cv_time = tau * np.log(0.5 / 0.1)

    share = np.linspace(0, 1, 48)
    volts = 3.4 + 0.2 * share[None, :] ** convexity[:, None]
    amps = 0.5 * np.exp(-share[None, :] * np.log(5.0))  # the same curve in every cycle, on another clock
    amps = amps + 0.06 * (1 - 3 * lam[:, None]) * np.sin(np.pi * share)[None, :] * wobble[2][:, None]
    volts += noise * 2e-4 * rng.standard_normal(volts.shape)
    amps += noise * 5e-4 * rng.standard_normal(amps.shape)
    out: dict[str, np.ndarray] = {}
    for letter, curve, time, sampling in (("v", volts, cc_time, 5.0), ("i", amps, cv_time, 5.0)):
        weight = curve - curve.min(axis=1, keepdims=True) + 1e-6
        weight /= weight.sum(axis=1, keepdims=True)
        points = np.log(np.maximum(time / sampling, 2)) - np.log(len(share))
        out |= {
            f"{letter}_mean": curve.mean(axis=1),
            f"{letter}_std": curve.std(axis=1),
            f"{letter}_kurtosis": kurtosis(curve, axis=1),
            f"{letter}_skewness": skew(curve, axis=1),
            f"{letter}_slope": (curve[:, -8:].mean(axis=1) - curve[:, :8].mean(axis=1)) / (time * 40 / 48),
            f"{letter}_entropy": -(weight * np.log(weight)).sum(axis=1) + points,
        }
    out |= {"cc_q_ah": cc_q, "cc_time": cc_time, "cv_time": cv_time}
    out["cv_q_ah"] = amps.mean(axis=1) * cv_time / SECONDS_PER_HOUR
    return out


def simulate_samples(
    n_cells: int = 2,
    seed: int = 0,
    *,
    cycles: Sequence[int] = (1, 2, 3),
    chemistry: Chemistry = "lfp",
    discharge_c: float = 4.0,
    step_s: float = 10.0,
    irregular: float = 0.0,
    noise: float = 1.0,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Raw measurements of a few cycles, and their true capacities.

    A cycle is a charge at 1 C to the capacity of that cycle, a rest of ten minutes, a discharge at `discharge_c` and
    a rest. Both half cycles move the same charge, so the truth needs no integration.

    Args:
        n_cells: number of cells.
        cycles: the cycle numbers to run, rising; ageing follows these numbers.
        chemistry: "lfp" (3.6 to 2.0 V) or "nmc" (to 4.2 V).
        step_s: seconds between samples.
        irregular: share of samples left out at random, 0 to < 1; ends of steps are kept.
        noise: factor on the voltage (0.5 mV) and temperature (0.1 K) noise; current is noise-free.

    Returns:
        samples table (`cell_id, cycle, test_time_s, voltage_v, current_a, temperature_c, step_id`; time runs on
        through a cell's cycles, + is charge) and a table `cell_id, cycle, capacity_ah` of true capacities.

    Raises:
        ValueError: where an argument is out of its range.
    """
    _refuse(n_cells=n_cells, life=(300, 1500), missing=irregular)
    rng = np.random.default_rng(seed)
    cells = Cells.draw(rng, n_cells, life=(300, 1500), capacity_ah=1.1)
    parts, truth = [], []
    for n in range(n_cells):
        clock = 0.0
        name = f"sim_{n + 1:03d}"
        for cycle in cycles:
            one, at = cells.take(np.array([n])), np.array([cycle], float)
            charge = one.charge_ah(at)
            truth.append((name, cycle, float(charge[0])))
            for step, current in enumerate((NOMINAL_AH, 0.0, -discharge_c * NOMINAL_AH, 0.0), start=1):
                seconds = charge[0] / abs(current) * SECONDS_PER_HOUR if current else 600.0
                time = np.append(np.arange(0, seconds, step_s), seconds)
                kept = rng.random(len(time)) >= irregular
                kept[[0, -1]] = True
                time = time[kept]
                done = time / seconds
                depth = {1: 1 - done, 2: 0 * done, 3: done, 4: 0 * done + 1}[step]
                volts = cell_voltage(
                    charge, one.lam(at), one.resistance_ohm, depth, current_a=-current, chemistry=chemistry
                )[0]
                parts.append(
                    pl.DataFrame(
                        {
                            "cell_id": [name] * len(time),
                            "cycle": np.full(len(time), cycle, np.int32),
                            "test_time_s": clock + time,
                            "voltage_v": volts + noise * 5e-4 * rng.standard_normal(len(time)),
                            "current_a": np.full(len(time), current),
                            "temperature_c": 25
                            + abs(current) * done
                            + noise * 0.1 * rng.standard_normal(len(time)),
                            "step_id": np.full(len(time), step, np.int32),
                        }
                    )
                )
                clock += seconds + 0.01  # a cycler needs a moment to switch
    schema = {"cell_id": pl.String, "cycle": pl.Int32, "capacity_ah": pl.Float64}
    return pl.concat(parts), pl.DataFrame(truth, schema=schema, orient="row")


def _refuse(*, n_cells: int, life: tuple[float, float], missing: float) -> None:
    if n_cells < 1:
        raise ValueError(f"simulate: n_cells is {n_cells}; wanted 1 or more")
    if not 1 < life[0] <= life[1]:
        raise ValueError(f"simulate: life is {life}; wanted (shortest, longest) cycles, both above 1")
    if not 0 <= missing < 1:
        raise ValueError(f"simulate: missing is {missing}; wanted a share from 0 to below 1")

"""Charge is integrated from current; the truth is planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from remem.data.battery.integrate import samples_to_curves, samples_to_cycles
from remem.data.battery.readers import read_curves, read_cycles
from remem.data.battery.schema import VOLTAGE_GRID, curve_matrix
from remem.data.battery.simulate import simulate_samples


def _by_hand(current: list[float], time: list[float], voltage: list[float] | None = None) -> pl.DataFrame:
    n = len(current)
    return pl.DataFrame(
        {
            "cell_id": ["a"] * n,
            "cycle": pl.Series([1] * n, dtype=pl.Int32),
            "test_time_s": time,
            "voltage_v": voltage or [3.3] * n,
            "current_a": current,
        }
    )


def test_charge_and_discharge_by_hand() -> None:
    # two hours at +1 A, a switch inside one second, half an hour at -2 A
    samples = _by_hand([1, 1, 1, -2, -2], [0, 3600, 7200, 7200, 9000])
    cycles, report = samples_to_cycles(samples)
    row = cycles.row(0, named=True)
    assert row["charge_capacity_ah"] == pytest.approx(2.0)
    assert row["capacity_ah"] == pytest.approx(1.0)
    assert row["charge_time_s"] == pytest.approx(7200)
    assert row["discharge_time_s"] == pytest.approx(1800)
    assert len(report) == 0


def test_a_ramp_is_trapezoidal() -> None:
    cycles, _ = samples_to_cycles(_by_hand([-1, -3], [0, 3600]))
    assert cycles["capacity_ah"][0] == pytest.approx(2.0)


@pytest.mark.parametrize("irregular", [0.0, 0.4])
@pytest.mark.parametrize("chemistry", ["lfp", "nmc"])
def test_planted_capacity_is_found(chemistry: str, irregular: float) -> None:
    samples, truth = simulate_samples(3, 2, cycles=(1, 60, 200), chemistry=chemistry, irregular=irregular)
    cycles, report = samples_to_cycles(samples)
    assert cycles["cell_id"].to_list() == truth["cell_id"].to_list()
    np.testing.assert_allclose(cycles["capacity_ah"], truth["capacity_ah"], rtol=1e-4)
    np.testing.assert_allclose(cycles["charge_capacity_ah"], truth["capacity_ah"], rtol=1e-4)
    assert len(report) == 0


def test_cells_and_cycles_do_not_leak_into_each_other() -> None:
    samples, truth = simulate_samples(2, 3, cycles=(1, 2))
    alone = [samples_to_cycles(part)[0] for part in samples.partition_by("cell_id", "cycle")]
    both, _ = samples_to_cycles(samples)
    assert_frame_equal(both, pl.concat(alone))
    assert both.height == truth.height


def test_a_cycle_without_discharge_has_no_capacity_and_says_so() -> None:
    cycles, report = samples_to_cycles(_by_hand([1, 1], [0, 3600]))
    assert cycles["capacity_ah"].to_list() == [None]
    assert report.counts == {"incomplete_discharge": 1}


def test_time_that_stands_still_or_turns_back_adds_nothing() -> None:
    cycles, _ = samples_to_cycles(_by_hand([-1, -1, -1, -1], [0, 3600, 1800, 1800]))
    assert cycles["capacity_ah"][0] == pytest.approx(1.0)


def test_curve_by_hand() -> None:
    # 1 A for one hour while voltage falls linearly from 3.6 to 2.0 V, with a rebound that must not count
    volts = np.linspace(3.6, 2.0, 101)
    samples = _by_hand([-1.0] * 101, np.linspace(0, 3600, 101).tolist(), volts.tolist())
    rebound = pl.concat([samples, _by_hand([0.0], [4000.0], [2.6])])
    curves, report = samples_to_curves(rebound)
    np.testing.assert_allclose(curve_matrix(curves)[0], (3.6 - VOLTAGE_GRID) / 1.6, atol=1e-6)
    assert len(report) == 0


def test_a_curve_ends_at_the_capacity(raw: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    samples, truth = raw
    q = curve_matrix(samples_to_curves(samples)[0])
    np.testing.assert_allclose(q[:, -1], truth["capacity_ah"], rtol=1e-3)
    assert (np.diff(q, axis=1) >= 0).all()


def test_a_discharge_that_stops_early_is_reported() -> None:
    samples = _by_hand([-1.0] * 3, [0, 1800, 3600], [3.6, 3.2, 2.8])
    curves, report = samples_to_curves(samples)
    assert report.counts == {"not_covered": 1}
    assert curve_matrix(curves)[0, -1] == pytest.approx(1.0)


def test_no_discharge_at_all_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="repair_sign"):
        samples_to_curves(_by_hand([1.0, 1.0], [0, 3600]))


def test_nasa_capacity_is_reproduced(real: Callable[[str], Path]) -> None:
    """Down to 2.7 V, as the source integrates; it quotes a median difference of 5e-8 Ah."""
    samples = pl.read_parquet(real("nasa_discharge_curves.parquet"))
    below = (pl.col("voltage_v") < 2.7) & (pl.col("current_a") < -0.5)
    first = (below.cast(pl.Int32).cum_sum().over("battery_id", "cycle") >= 1).shift(1, fill_value=False)
    to_end = samples.filter(~first.over("battery_id", "cycle"))
    ours = samples_to_cycles(to_end.rename({"battery_id": "cell_id", "time_s": "test_time_s"}))[0]
    theirs = read_cycles(real("nasa_capacity.parquet")).frame.select(
        "cell_id", "cycle", capacity="capacity_ah"
    )
    both = ours.join(theirs, on=["cell_id", "cycle"])
    assert both.height == 636
    assert both.select((pl.col("capacity_ah") - pl.col("capacity")).abs().median()).item() < 2e-3


def test_calce_capacity_is_reproduced(real: Callable[[str], Path]) -> None:
    ours = read_cycles(real("calce_cs2_curves.parquet")).frame
    theirs = read_cycles(real("calce_cs2_cycles.parquet")).frame
    both = ours.join(theirs.filter("complete_discharge"), on=["cell_id", "cycle"], suffix="_theirs")
    assert both.height == 880 + 970 + 1036 + 1025
    gap = both.select((pl.col("capacity_ah") - pl.col("capacity_ah_theirs")).abs().quantile(0.99)).item()
    assert gap < 1e-6


def test_curves_of_real_samples_are_the_capacity_at_the_last_volt(real: Callable[[str], Path]) -> None:
    path = real("nasa_discharge_curves.parquet")
    curves, cycles = read_curves(path), read_cycles(path)
    assert curves.frame.height == 636
    np.testing.assert_allclose(curve_matrix(curves.frame)[:, -1], cycles.frame["capacity_ah"], atol=0.015)
    assert curves.report.counts["not_covered"] > 500  # LCO cells stop at 2.2 to 2.7 V

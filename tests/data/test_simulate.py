"""Simulated cells: repeatable, physical, with the truth they claim, and shaped like the real sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from remem.data.battery.cell_model import EOL_AH, Cells, graphite_v, lfp_v, nmc_v
from remem.data.battery.checks import check
from remem.data.battery.schema import CHARGE_FEATURES, conform, curve_matrix
from remem.data.battery.simulate import simulate_curves, simulate_cycles, simulate_samples


@pytest.fixture(scope="module")
def curves() -> pl.DataFrame:
    return simulate_curves(60, 0)


@pytest.fixture(scope="module")
def cycles() -> pl.DataFrame:
    return simulate_cycles(20, 0)


def test_potentials_fall_with_lithiation() -> None:
    x = np.linspace(0.02, 0.98, 200)
    for potential in (graphite_v, lfp_v):
        assert (np.diff(potential(x)) <= 0).all()
    assert (np.diff(nmc_v(np.linspace(0.27, 0.95, 200))) < 0).all()
    assert lfp_v(np.array(0.5)) == pytest.approx(3.43, abs=0.01)  # its plateau
    assert 0.05 < graphite_v(np.array(0.8)) < 0.15  # the first stage of graphite


def test_curves_satisfy_the_schema_and_earn_no_flag(curves: pl.DataFrame) -> None:
    conformed, report = conform(curves, "curves", source="simulated")
    assert_frame_equal(conformed, curves)
    assert len(report) == 0
    assert set(check(curves, nominal_ah=1.1).counts) <= {"already_failing"}
    assert curves["cycle"].unique().sort().to_list() == list(range(2, 101))
    q = curve_matrix(curves)
    assert np.abs(q[:, 0]).max() < 0.02
    assert (np.diff(simulate_curves(3, 1, noise=0).pipe(curve_matrix), axis=1) >= 0).all()


def test_same_seed_same_cells(curves: pl.DataFrame) -> None:
    assert_frame_equal(simulate_curves(60, 0), curves)
    assert not simulate_curves(60, 1).equals(curves)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_early_spread_tells_life_as_in_the_real_set(seed: int) -> None:
    frame = simulate_curves(60, seed)
    spread, life = [], []
    for part in frame.partition_by("cell_id"):
        q = curve_matrix(part.filter(pl.col("cycle").is_in([10, 100])))
        spread.append(np.log10(np.var(q[1] - q[0])))
        life.append(np.log10(part["cycle_life"][0]))
    assert -0.98 < np.corrcoef(spread, life)[0, 1] < -0.85
    assert min(life) > np.log10(150) - 1e-9
    assert max(life) < np.log10(2200) + 1e-9
    assert max(life) - min(life) > 0.6


def test_the_stated_life_is_the_crossing_of_the_end_of_life() -> None:
    cells = Cells.draw(np.random.default_rng(0), 50, life=(150, 2200), capacity_ah=1.062)
    np.testing.assert_allclose(cells.charge_ah(cells.life), EOL_AH)
    assert (cells.charge_ah(cells.life - 1) > EOL_AH).all()
    assert (cells.charge_ah(cells.life + 1) < EOL_AH).all()


def test_curves_end_at_the_capacity() -> None:
    frame = simulate_curves(5, 3, noise=0.0)
    cells = Cells.draw(np.random.default_rng(3), 5, life=(150, 2200), capacity_ah=1.062)
    for n, part in enumerate(frame.partition_by("cell_id", maintain_order=True)):
        truth = cells.take(np.full(part.height, n)).charge_ah(part["cycle"].to_numpy())
        np.testing.assert_allclose(curve_matrix(part)[:, -1], truth, rtol=2e-3)


def test_cycles_have_the_columns_of_the_real_table(cycles: pl.DataFrame, real: Callable[[str], Path]) -> None:
    names = set(pl.read_parquet_schema(real("hust_percycle.parquet"))) - {"row"} | {"cycle"}
    assert set(cycles.columns) == names


def test_cycles_run_to_the_end_of_life(cycles: pl.DataFrame) -> None:
    conformed, report = conform(cycles, "cycles", source="simulated")
    assert_frame_equal(conformed, cycles)
    assert len(report) == 0
    ends = cycles.group_by("cell_id").agg(pl.col("capacity_ah").sort_by("cycle").last())["capacity_ah"]
    np.testing.assert_allclose(ends, EOL_AH, atol=0.004)
    assert cycles["capacity_ah"].min() >= np.float32(EOL_AH)
    assert set(check(cycles, nominal_ah=1.1).counts) == {"already_failing"}


def test_charge_features_move_with_age(cycles: pl.DataFrame) -> None:
    for part in cycles.partition_by("cell_id"):
        young, old = part.head(30).mean(), part.tail(30).mean()
        assert old["cc_time"][0] < young["cc_time"][0]
        assert old["cv_time"][0] > young["cv_time"][0]
    assert cycles.select(pl.col(CHARGE_FEATURES).is_finite().all()).row(0) == (True,) * 16


def test_missing_cycles_keep_the_ends() -> None:
    frame = simulate_curves(10, 0, missing=0.5)
    assert 0.4 < frame.height / (10 * 99) < 0.6
    assert frame.group_by("cell_id").agg(pl.col("cycle").min())["cycle"].unique().to_list() == [2]
    assert frame.group_by("cell_id").agg(pl.col("cycle").max())["cycle"].unique().to_list() == [100]
    whole = simulate_cycles(5, 0)
    part = simulate_cycles(5, 0, missing=0.3)
    ends = [
        f.group_by("cell_id", maintain_order=True).agg(pl.col("cycle").max())["cycle"] for f in (whole, part)
    ]
    assert ends[0].equals(ends[1])
    assert part.height < 0.8 * whole.height


def test_spikes_are_planted_and_found() -> None:
    frame = simulate_curves(8, 0, spikes=4)
    found = check(frame).table.filter(flag="capacity_spike")
    assert found.height == 4
    assert np.abs(curve_matrix(frame)).max() > 5


def test_samples_have_charge_and_rest_and_rising_time() -> None:
    samples, truth = simulate_samples(2, 0, cycles=(1, 5), irregular=0.3)
    assert truth.height == 4
    for part in samples.partition_by("cell_id"):
        assert (part["test_time_s"].diff().drop_nulls() > 0).all()
        assert set(part["current_a"].sign().unique()) == {-1.0, 0.0, 1.0}
    assert check(samples, nominal_ah=1.1).counts == {"cycle_gap": 6}  # two cells, cycles 2 to 4 were not run


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: simulate_curves(0), "n_cells is 0"),
        (lambda: simulate_curves(1, max_cycle=1), "max_cycle is 1"),
        (lambda: simulate_cycles(1, life=(300, 200)), "life is"),
        (lambda: simulate_cycles(1, missing=1.0), "missing is 1"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], pl.DataFrame], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()

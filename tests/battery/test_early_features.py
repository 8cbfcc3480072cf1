"""Early features: the published figures, and what spikes, gaps and short histories may do to them."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from remem.data.battery.early import GROUPS, MATRIX, early_features, repair, thin_cycles

ROOT = Path(os.environ.get("REMEM_DATA", "/nowhere")) / "battery"
needs_data = pytest.mark.skipif(not ROOT.exists(), reason="no Severson tables here; set REMEM_DATA")


def simple_curves(cells: int = 3, cycles: int = 100, seed: int = 0) -> pl.DataFrame:
    """Discharge curves whose plateau shrinks a little with every cycle, at a rate of each cell's own."""
    rng = np.random.default_rng(seed)
    voltage = np.linspace(3.6, 2.0, 1000)
    rows = []
    for cell, rate in enumerate(rng.uniform(2e-5, 2e-4, cells)):
        for cycle in range(2, cycles + 1):
            q = (1.07 - rate * cycle) / (1 + np.exp((voltage - 3.15 + 0.5 * rate * cycle) / 0.04))
            rows.append((f"c{cell}", cycle, q + rng.normal(0, 1e-4, 1000), 0.2 / rate))
    return pl.DataFrame(rows, schema=["cell_id", "cycle", "q_ah", "cycle_life"], orient="row").with_columns(
        pl.col("q_ah").cast(pl.Array(pl.Float64, 1000))
    )


@pytest.fixture(scope="module")
def severson() -> dict[str, pl.DataFrame]:
    return {split: pl.read_parquet(ROOT / f"severson_qv_{split}.parquet") for split in ("train", "test1")}


@needs_data
@pytest.mark.parametrize(
    ("group", "model", "train_rmse", "test_rmse"),
    [
        (GROUPS["variance"], LinearRegression(), 104, 138),
        (MATRIX, PLSRegression(9, scale=False), 59, 100),
        (MATRIX, Ridge(1.0), 85, 125),
    ],
)
def test_published_figures_come_out_of_the_papers_features(severson, group, model, train_rmse, test_rmse):
    train = early_features(severson["train"], robust=False)
    test = early_features(severson["test1"], robust=False)
    fitted = make_pipeline(StandardScaler(), model).fit(train.columns(group), np.log10(train.cycle_life))
    usual = np.array([cell != "test1_22" for cell in test.cell_id])
    for cells, keep, rmse in ((train, slice(None), train_rmse), (test, usual, test_rmse)):
        life = 10 ** fitted.predict(cells.columns(group)).ravel()
        assert np.sqrt(np.mean((life - cells.cycle_life)[keep] ** 2)) == pytest.approx(rmse, abs=1)


@needs_data
def test_the_known_spikes_are_repaired_and_counted_and_no_others(severson):
    cells = early_features(severson["train"])
    flagged = {cell: flags for cell, flags in zip(cells.cell_id, cells.flags, strict=True) if flags}
    spiked = ("capacity_spike",)
    assert flagged == {
        "train_02": spiked, "train_09": spiked, "train_16": spiked, "train_21": ("already_failing",)
    }  # fmt: skip
    assert cells.repaired.sum() == pytest.approx(733 + 856 + 4, rel=0.1)


def test_a_spike_changes_no_robust_feature_and_wrecks_the_raw_ones():
    clean = simple_curves()
    q = clean["q_ah"].to_numpy().copy()
    q[40, 200:] += 40.0
    spiked = clean.with_columns(pl.Series("q_ah", q, dtype=pl.Array(pl.Float64, 1000)))
    a, b = early_features(clean), early_features(spiked)
    np.testing.assert_allclose(a.x, b.x, rtol=0.02, atol=2e-4)
    assert b.flags[0] == ("capacity_spike",)
    assert b.repaired.tolist() == [800, 0, 0]
    raw = early_features(spiked, robust=False)
    assert raw.columns(("q_gain",))[0] > 30


def test_missing_values_are_repaired_and_an_empty_voltage_is_refused():
    q = np.tile(np.linspace(0, 1, 1000), (20, 1))
    q[3, 5] = np.nan
    fixed, count = repair(q)
    assert count == 1
    assert np.isfinite(fixed).all()
    q[:, 7] = np.nan
    with pytest.raises(ValueError, match="cell b7 has a voltage without"):
        repair(q, "b7")


def test_missing_cycles_move_the_robust_variance_less_than_the_raw_one():
    curves = simple_curves(cells=6)
    thinned = thin_cycles(curves, 0.3, seed=1)
    counts = thinned.group_by("cell_id").len()["len"]
    assert set(counts) == {70}  # ceil(0.7 * 99)
    for cells in (early_features(curves), early_features(thinned)):
        assert np.isfinite(cells.x).all()
    assert all("cycle_gap" in flags for flags in early_features(thinned).flags)

    def shift(name: str, robust: bool) -> float:
        whole = early_features(curves, robust=robust).columns((name,))
        return float(np.abs(early_features(thinned, robust=robust).columns((name,)) - whole).mean())

    assert shift("trend_log_var", True) < shift("dq_log_var", False)


@pytest.mark.parametrize("max_cycle", [5, 10, 20, 50])
def test_any_k_from_five_gives_finite_features_that_see_no_later_cycle(max_cycle):
    curves = simple_curves()
    cut = curves.filter(pl.col("cycle") <= max_cycle)
    a, b = early_features(curves, max_cycle=max_cycle), early_features(cut, max_cycle=max_cycle)
    np.testing.assert_array_equal(a.x, b.x)
    assert np.isfinite(a.x).all()
    assert (a.last_cycle == max_cycle).all()


def test_a_cell_whose_history_ends_early_says_so():
    cells = early_features(simple_curves(cycles=60))
    assert cells.flags == (("short_history",),) * 3


def test_order_of_rows_and_kind_of_list_column_do_not_matter():
    curves = simple_curves()
    shuffled = curves.with_columns(pl.col("q_ah").arr.to_list()).sample(fraction=1.0, shuffle=True, seed=3)
    a, b = early_features(curves), early_features(shuffled)
    order = [b.cell_id.index(cell) for cell in a.cell_id]
    np.testing.assert_array_equal(a.x, b.x[order])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop("q_ah"), r"columns \['q_ah'\] are missing"),
        (lambda t: t.head(0), "the table is empty"),
        (lambda t: pl.concat([t, t.head(1)]), "cycle 2 twice"),
        (lambda t: t.head(2), "at least 3"),
        (lambda t: t.with_columns(pl.col("q_ah").arr.to_list().list.head(500)), "needs 1000"),
        (lambda t: t.with_columns(pl.col("cycle") + 200), "have no cycle up to 100"),
    ],
)
def test_tables_that_cannot_be_used_are_refused_with_the_reason(spoil, message):
    with pytest.raises(ValueError, match=message):
        early_features(spoil(simple_curves(cells=1)))

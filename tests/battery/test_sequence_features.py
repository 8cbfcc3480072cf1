"""Early sequences: what row t may know, and what gaps, spikes and holes may do to it."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from remem.data.battery.early_sequence import UNITS, early_sequences

SEVERSON = Path(os.environ.get("REMEM_DATA", "/nowhere")) / "battery" / "severson_qv_train.parquet"
RATES = (4e-5, 1e-4, 3e-4)
VOLTAGE = np.linspace(3.6, 2.0, 1000)


def cells(cycles=range(2, 101), noise: float = 1e-4) -> pl.DataFrame:
    """Curves whose plateau shrinks and sinks by a fixed amount per cycle, at a rate of each cell's own."""
    rows = []
    for cell, rate in enumerate(RATES):
        rng = np.random.default_rng(cell)
        for cycle in range(2, 101):
            q = (1.07 - rate * cycle) / (1 + np.exp((VOLTAGE - 3.15 + 0.5 * rate * cycle) / 0.04))
            q += rng.normal(0, noise, 1000)  # drawn for every cycle, so that a gap leaves the others alone
            if cycle in cycles:
                rows.append((f"c{cell}", cycle, q.tolist(), 0.2 / rate))
    return pl.DataFrame(
        rows,
        schema={
            "cell_id": pl.String,
            "cycle": pl.Int32,
            "q_ah": pl.Array(pl.Float32, 1000),
            "cycle_life": pl.Float32,
        },
        orient="row",
    )


def change(frame: pl.DataFrame, cell: str, cycle: int, edit) -> pl.DataFrame:
    """`frame` with one curve replaced by `edit(curve)`."""
    curves = frame["q_ah"].to_numpy().copy()
    row = frame.select((pl.col("cell_id") == cell) & (pl.col("cycle") == cycle)).to_series().arg_max()
    curves[row] = edit(curves[row].copy())
    return frame.with_columns(pl.Series("q_ah", curves, dtype=pl.Array(pl.Float32, 1000)))


def put(at: slice, value: float):
    def edit(q: np.ndarray) -> np.ndarray:
        q[at] = value
        return q

    return edit


def column(sequences, name: str) -> np.ndarray:
    return sequences.x[..., sequences.names.index(name)]


@pytest.fixture(scope="module")
def whole():
    return early_sequences(cells())


def test_shapes_labels_and_positions(whole):
    assert whole.ids == ("c0", "c1", "c2")
    assert whole.names == tuple(UNITS)
    assert whole.x.shape == (3, 99, len(UNITS))
    assert whole.x.dtype == np.float32
    assert np.isfinite(whole.x).all()
    assert whole.mask.all()
    np.testing.assert_array_equal(whole.position, np.tile(np.arange(2, 101), (3, 1)))
    np.testing.assert_allclose(whole.y, 0.2 / np.array(RATES), rtol=1e-6)
    assert early_sequences(cells().drop("cycle_life")).y is None


def test_features_mean_what_they_say(whole):
    np.testing.assert_allclose(column(whole, "q_slope")[:, -1], -90 * np.array(RATES), rtol=0.02)
    np.testing.assert_allclose(column(whole, "q_first")[:, -1], 1.07 - 3 * np.array(RATES), atol=3e-4)
    # the curve's largest loss is proportional to the rate
    for name, power in (("dq_log_min", 1), ("trend_log_min", 1), ("trend_log_var", 2)):
        steps = np.diff(column(whole, name)[1:, -1]) / power
        np.testing.assert_allclose(steps, np.log10(RATES[2] / RATES[1]), atol=0.06)
    # a rate is a rate at any length of history
    for name in ("dq_log_min", "trend_log_min"):
        values = column(whole, name)
        np.testing.assert_allclose(values[1:, 40], values[1:, -1], atol=0.1)


def test_later_cycles_leave_earlier_rows_bit_identical(whole):
    frame = cells()
    curves = frame["q_ah"].to_numpy().copy()
    curves[(frame["cycle"] > 60).to_numpy()] *= 0.5
    changed = early_sequences(frame.with_columns(pl.Series("q_ah", curves, dtype=pl.Array(pl.Float32, 1000))))
    np.testing.assert_array_equal(changed.x[:, :59], whole.x[:, :59])
    assert (changed.x[:, 70:, :-1] != whole.x[:, 70:, :-1]).any()
    shorter = early_sequences(frame, max_cycle=60)
    np.testing.assert_array_equal(shorter.x, whole.x[:, :59])


def test_other_cells_and_the_order_of_rows_do_not_matter(whole):
    frame = cells()
    alone = early_sequences(frame.filter(pl.col("cell_id") == "c1"))
    np.testing.assert_array_equal(alone.x[0], whole.x[1])
    shuffled = early_sequences(frame.sample(fraction=1.0, shuffle=True, seed=0))
    order = [shuffled.ids.index(name) for name in whole.ids]
    np.testing.assert_array_equal(shuffled.x[order], whole.x)


def test_missing_cycles_cost_precision_only(whole):
    kept = sorted(np.random.default_rng(0).choice(np.arange(2, 101), 50, replace=False).tolist())
    thin = early_sequences(cells(kept))
    np.testing.assert_array_equal(thin.position[0], kept)
    for name, scale in (
        ("dq_log_min", 0.1),
        ("trend_log_min", 0.05),
        ("trend_log_var", 0.1),
        ("q_slope", 0.01),
    ):
        np.testing.assert_allclose(
            column(thin, name)[:, -1], column(whole, name)[:, -1], atol=scale * (3 if name[:2] == "dq" else 1)
        )


def test_unequal_histories_are_padded():
    frame = cells().filter((pl.col("cell_id") != "c1") | (pl.col("cycle") <= 30))
    sequences = early_sequences(frame)
    assert sequences.lengths.tolist() == [99, 29, 99]
    assert not sequences.x[1, 29:].any()


@pytest.mark.parametrize(
    ("cycle", "edit"),
    [
        (12, put(slice(200, 1000), 48.8)),
        (9, put(slice(300, 320), -9.7)),
        (50, put(slice(0, 13), 1.0)),
        (100, put(slice(995, 1000), 40.0)),
        (70, put(slice(None), np.nan)),
        (70, put(slice(500, 520), np.nan)),
        (2, put(slice(500, 520), np.nan)),
    ],
)
def test_spikes_and_holes_change_next_to_nothing(whole, cycle, edit):
    dirty = early_sequences(change(cells(), "c2", cycle, edit))
    assert np.isfinite(dirty.x).all()
    np.testing.assert_array_equal(dirty.x[:2], whole.x[:2])
    np.testing.assert_allclose(dirty.x[2, 30:], whole.x[2, 30:], atol=0.05)


def test_a_lasting_drop_is_no_spike(whole):
    frame = cells()
    curves = frame["q_ah"].to_numpy().copy()
    curves[(frame["cycle"] > 80).to_numpy()] *= 0.8
    dropped = early_sequences(frame.with_columns(pl.Series("q_ah", curves, dtype=pl.Array(pl.Float32, 1000))))
    assert (column(dropped, "dq_log_min")[:, -1] > -0.75).all()
    # and a fade that a gap hides is no spike either
    sparse = [2, 8, 10, 12, 95, 96, 97, 98, 99, 100]
    fade = 0.0015
    curves = frame["q_ah"].to_numpy() - fade * frame["cycle"].to_numpy()[:, None] * (VOLTAGE < 3.1)
    fading = frame.with_columns(pl.Series("q_ah", curves, dtype=pl.Array(pl.Float32, 1000)))
    gap = early_sequences(fading.filter(pl.col("cycle").is_in(sparse)))
    np.testing.assert_allclose(
        column(gap, "q_slope")[:, -1], column(early_sequences(fading), "q_slope")[:, -1], rtol=0.05
    )


def test_a_history_that_begins_late_has_rates_too(whole):
    late = early_sequences(cells(range(40, 101)))
    np.testing.assert_allclose(column(late, "q_slope")[:, -1], column(whole, "q_slope")[:, -1], rtol=0.05)
    np.testing.assert_allclose(
        column(late, "dq_log_min")[1:, -1], column(whole, "dq_log_min")[1:, -1], atol=0.1
    )


def test_bad_curves_before_the_first_good_one_are_left_out():
    sequences = early_sequences(change(cells(), "c0", 2, put(slice(None), 48.8 * np.sin(np.arange(1000)))))
    assert sequences.lengths.tolist() == [98, 99, 99]
    assert sequences.position[0, 0] == 3


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        (cells().drop("q_ah"), "q_ah"),
        (cells().with_columns(pl.lit(5, pl.Int32).alias("cycle")), "cycle"),
        (change(cells([2]), "c1", 2, put(slice(None), np.nan)), "c1.*none of them plausible"),
        (cells(range(80, 101)), "0 curves up to cycle 50"),
    ],
)
def test_refuses_what_holds_no_history(frame, match):
    with pytest.raises(ValueError, match=match):
        early_sequences(frame, max_cycle=50)


@pytest.mark.skipif(not SEVERSON.exists(), reason="no Severson tables here; set REMEM_DATA")
def test_real_cells_with_their_spikes_stay_smooth():
    sequences = early_sequences(pl.read_parquet(SEVERSON))
    assert sequences.x.shape == (41, 99, len(UNITS))
    life = np.log10(sequences.y)
    for name in ("dq_log_var", "trend_log_var"):
        values = column(sequences, name)[:, 48:]
        assert np.corrcoef(values[:, -1], life)[0, 1] < -0.9
        # train_02, 09 and 16 hold spikes of up to 48.8 Ah: 17 in log10(Ah^2) if they passed
        assert np.abs(np.diff(values, axis=1)).max() < 0.5

"""Baselines from the plain numbers of a manifest."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from remem.data.battery.early import early_features
from remem.data.battery.simulate import simulate_curves
from remem.serving.battery.baselines import early_baselines, online_baselines
from remem.serving.bundle import open_bundle


def bundle_with(folder, **baselines):
    bundle = open_bundle(folder)
    return replace(bundle, manifest={**bundle.manifest, "baselines": baselines})


def test_formulas_of_early_features(early_bundle):
    cells = early_features(simulate_curves(3, seed=0))
    terms = {"features": ["dq_log_var", "q_now"], "weights": [-0.5, 2.0], "intercept": 0.25}
    got = early_baselines(
        bundle_with(
            early_bundle,
            mean={"kind": "constant", "value": 700.0},
            straight={"kind": "linear", **terms},
            variance={"kind": "log10_linear", **terms},
        ),
        cells,
    )
    line = 0.25 + cells.columns(("dq_log_var", "q_now")) @ [-0.5, 2.0]
    np.testing.assert_array_equal(got["mean"], [700.0] * 3)
    np.testing.assert_allclose(got["straight"], np.maximum(line, 0))
    np.testing.assert_allclose(got["variance"], 10**line)


def test_fade_line_reaches_the_end_of_life_of_a_straight_fade(online_bundle):
    # 1.1 Ah, 0.001 a cycle, end at 0.88 Ah: cycle 220
    frame = pl.DataFrame({"cell_id": ["a"] * 60, "cycle": np.arange(1, 61)})
    frame = frame.with_columns(capacity_ah=1.1 - 0.001 * pl.col("cycle"))
    spec = {"line": {"kind": "fade_line", "window": 10, "otherwise": 500.0}}
    got = online_baselines(bundle_with(online_bundle, **spec), frame)["line"]
    assert got[0] == 499.0
    np.testing.assert_allclose(got[1:], 220 - frame["cycle"].to_numpy()[1:], rtol=1e-6)


def test_fade_line_equals_a_fit_through_the_window_with_holes_and_gaps(online_bundle):
    rng = np.random.default_rng(0)
    cycle = np.cumsum(rng.integers(1, 4, 50))
    capacity = 1.1 - 0.001 * cycle + 0.003 * rng.standard_normal(50)
    capacity[[7, 20, 21]] = np.nan
    frame = pl.DataFrame({"cell_id": ["a"] * 50, "cycle": cycle, "capacity_ah": capacity})
    spec = {"line": {"kind": "fade_line", "window": 20, "otherwise": 500.0}}
    got = online_baselines(
        bundle_with(online_bundle, **spec), pl.concat([frame, frame.with_columns(cell_id=pl.lit("b"))])
    )
    np.testing.assert_allclose(got["line"][:50], got["line"][50:])
    for row in (19, 30, 49):
        window = slice(row - 19, row + 1)
        known = np.isfinite(capacity[window])
        slope, offset = np.polyfit(cycle[window][known], capacity[window][known], 1)
        wanted = (0.88 - offset) / slope - cycle[row] if slope < 0 else 500.0 - cycle[row]
        np.testing.assert_allclose(got["line"][row], max(wanted, 0), rtol=1e-6)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "oracle"}, "kind 'oracle'"),
        ({"kind": "linear", "features": ["dq_log_vra"], "weights": [1.0], "intercept": 0.0}, "dq_log_vra"),
    ],
)
def test_what_cannot_be_computed_is_said(early_bundle, spec, message):
    with pytest.raises(ValueError, match=message):
        early_baselines(bundle_with(early_bundle, odd=spec), early_features(simulate_curves(1, seed=0)))

"""The baselines and their table: every one fits, exports to the same numbers, and is judged where it says."""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from remem.apps.battery.baselines import BASELINES, RANDOM, LogLife, to_onnx
from remem.apps.battery.bench import battery_table
from remem.apps.battery.recurrent import RECURRENT, capacity_matrix, fit_recurrent
from remem.data.battery.simulate import simulate_curves

ROOT = Path(os.environ.get("REMEM_DATA", "/nowhere"))
needs_data = pytest.mark.skipif(
    not (ROOT / "battery").exists(), reason="no Severson tables here; set REMEM_DATA"
)


def cells(n: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Features on the scales of the real ones: logarithms, capacities, slopes of 1e-5."""
    rng = np.random.default_rng(0)
    z = rng.normal(0, 1, (n, 6))
    scale = np.array([0.3, 0.5, 5e-5, 0.01, 0.01, 1e-4])
    centre = np.array([-1.9, -4.8, -1e-4, 1.07, 1.06, -2e-4])
    return centre + scale * z, 10 ** (2.8 + 0.15 * z[:, 0] - 0.05 * z[:, 2] + rng.normal(0, 0.02, n))


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_exports_to_the_numbers_that_it_predicts(name):
    x, y = cells()
    fitted = LogLife(name).fit(x, y)
    session = onnxruntime.InferenceSession(to_onnx(fitted, x.shape[1]), providers=["CPUExecutionProvider"])
    fresh, _ = cells(57)
    for rows in (x[:1], x, fresh):  # training rows are where trees have their thresholds
        (got,) = session.run(["y"], {"x": rows.astype(np.float32)})
        assert got.shape == (len(rows), 1)
        np.testing.assert_allclose(got[:, 0], fitted.predict(rows.astype(np.float32)), rtol=1e-4)
    if name != "dummy":
        assert np.corrcoef(np.log(fitted.predict(x)), np.log(y))[0, 1] > 0.7


def test_the_fourteen_regressors_of_the_seed_paper_are_there():
    fourteen = {
        "linear", "ridge", "lasso", "elastic_net", "knn", "svr", "mlp", "decision_tree", "random_forest",
        "extra_trees", "gradient_boosting", "adaboost", "bagging", "xgboost",
    }  # fmt: skip
    assert set(BASELINES) == fourteen | {"dummy", "gaussian_process", "pls", "pcr"}


@pytest.mark.parametrize("name", BASELINES)
def test_the_seed_decides_the_random_ones_and_nothing_else(name):
    x, y = cells(20)
    a, b, c = (LogLife(name, seed).fit(x, y).predict(x + 0.3 * x.std(0)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    if name not in RANDOM:
        np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("name", ["pls", "pcr"])
def test_one_column_is_enough_for_the_component_regressions(name):
    x, y = cells()
    line, fitted = (LogLife(regressor).fit(x[:, :1], y) for regressor in ("linear", name))
    np.testing.assert_allclose(fitted.predict(x[:, :1]), line.predict(x[:, :1]), rtol=1e-6)


def test_unknown_names_wrong_widths_and_dead_cells_are_refused():
    x, y = cells()
    with pytest.raises(ValueError, match="no baseline 'forest'; choose from dummy, linear"):
        LogLife("forest").fit(x, y)
    with pytest.raises(ValueError, match="lives must be positive"):
        LogLife("ridge").fit(x, -y)
    with pytest.raises(ValueError, match="fitted on 6 columns, not on 5"):
        to_onnx(LogLife("ridge").fit(x, y), 5)


def test_capacity_matrix_starts_at_nothing_and_survives_missing_cycles():
    curves = simulate_curves(3, seed=0)
    whole = capacity_matrix(curves)
    assert whole.shape == (3, 20, 20)
    assert (whole[:, 0] == 0).all()
    assert np.isfinite(capacity_matrix(curves.filter(curves["cycle"] % 7 != 0))).all()


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_nets_learn_from_the_matrix_what_they_can_be_asked(name):
    rng = np.random.default_rng(0)
    rate = rng.uniform(0.5, 2, 40)
    ramp = np.linspace(0, 1, 20)[None, :, None]
    x = (-rate[:, None, None] * ramp * np.linspace(0.01, 0.02, 20)).astype(np.float32)
    forecast = fit_recurrent(name, x[:30], 600 / rate[:30], epochs=80).predict(x[30:])
    assert np.corrcoef(np.log(forecast), -np.log(rate[30:]))[0, 1] > 0.9


@needs_data
def test_the_table_holds_the_published_figures_and_every_judgement():
    rows = battery_table(seeds=1, root=str(ROOT), quick=True)
    json.dumps(rows)
    assert all(row["seconds"] >= 0 for row in rows)
    assert all(row["rmse_lo"] <= row["rmse"] <= row["rmse_hi"] for row in rows)
    primary = "primary test without test1_22"
    figure = {(row["model"], row["cells"]): row for row in rows}
    for name, train, test in (("variance", 104, 138), ("pls(9)", 59, 100), ("ridge(1)", 85, 125)):
        assert figure[f"{name}, as published", "train"]["rmse"] == pytest.approx(train, abs=1)
        assert figure[f"{name}, as published", primary]["rmse"] == pytest.approx(test, abs=1)
    assert figure["variance, as published", "train"]["mape"] == pytest.approx(0.141, abs=0.001)
    assert figure["variance, as published", primary]["mape"] == pytest.approx(0.132, abs=0.001)
    for model in ("ensemble (default)", "ridge", "rnn"):
        assert {"train, 5 folds", "primary test", primary} <= {
            where for name, where in figure if name == model
        }
        assert figure[model, primary]["rmse"] < figure["dummy", primary]["rmse"]
    assert figure["ensemble (default)", primary]["coverage"] >= 0.85

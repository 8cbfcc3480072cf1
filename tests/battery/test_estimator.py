"""Battery life as a scikit-learn estimator: obeys its laws, on tables and on arrays, and tells wrong inputs."""

import pickle
from collections import Counter

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.utils.estimator_checks import check_estimator

from remem import BatteryRULRegressor
from remem.apps.battery.gaussian import EarlyEnsemble
from remem.core.calibration import ConformalInterval
from remem.data.battery.simulate import simulate_curves
from remem.serving import Predictor


def quick(**changed):
    return BatteryRULRegressor(**{"folds": 3, "confidence": 0.8} | changed)


def fading(n: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Capacities of the first ten cycles, and lives that follow from how fast they fall."""
    rng = np.random.default_rng(seed)
    speed = rng.uniform(1, 4, n)
    x = 1.1 - 1e-3 * speed[:, None] * np.arange(10) + rng.normal(0, 1e-4, (n, 10))
    return x, 2000 / speed


@pytest.fixture(scope="module")
def curves():
    return simulate_curves(24, seed=3, max_cycle=40)


@pytest.fixture(scope="module")
def fitted(curves):
    return quick(max_cycle=40).fit(curves)


def lives(curves):
    return curves.unique("cell_id", keep="first", maintain_order=True)["cycle_life"].to_numpy()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_finds_nothing_to_object():
    checks = check_estimator(quick(), on_fail=None)
    failed = {check["check_name"]: check["exception"] for check in checks if check["status"] == "failed"}
    assert not failed
    skipped = {check["check_name"] for check in checks if check["status"] == "skipped"}
    assert skipped <= {"check_array_api_input"}
    # an estimator of 3-D inputs alone would pass too: by running a single check
    assert Counter(check["status"] for check in checks)["passed"] >= 50


def test_clone_keeps_every_parameter_and_no_weights(fitted):
    other = clone(fitted)
    assert other.get_params() == fitted.get_params()
    assert not hasattr(other, "model_")
    assert set(other.get_params()) == set(BatteryRULRegressor().get_params())


def test_grid_search_over_a_table_keeps_cells_whole(curves):
    seen = []

    class Watched(BatteryRULRegressor):
        def __init__(self, *, max_cycle=100, confidence=0.8, folds=3):
            super().__init__(max_cycle=max_cycle, confidence=confidence, folds=folds)

        def fit(self, X, y=None):
            seen.append(X["cell_id"].n_unique())
            return super().fit(X, y)

    search = GridSearchCV(Watched(), {"max_cycle": [10, 40]}, cv=GroupKFold(3), error_score="raise")
    search.fit(curves, curves["cycle_life"], groups=curves["cell_id"])
    assert seen[:-1] == [16] * 6
    assert seen[-1] == 24
    assert search.best_score_ > 0.3
    assert search.best_params_["max_cycle"] == 40, "forty cycles tell more than ten"


def test_grid_search_over_arrays():
    x, y = fading(36)
    search = GridSearchCV(quick(), {"folds": [2, 3]}, cv=3, error_score="raise").fit(x, y)
    assert search.best_score_ > 0.9
    assert search.best_estimator_.score(*fading(seed=9)) > 0.9


def test_lives_may_come_by_cell_by_row_or_with_the_table(curves, fitted):
    own = fitted.predict(curves)
    bare = curves.drop("cycle_life")
    by_cell = quick(max_cycle=40).fit(bare, lives(curves))
    by_row = quick(max_cycle=40).fit(bare, curves["cycle_life"])
    assert np.array_equal(by_cell.predict(bare), own)
    assert np.array_equal(by_row.predict(bare), own)
    assert (
        fitted.score(curves) == fitted.score(bare, lives(curves)) == fitted.score(bare, curves["cycle_life"])
    )
    assert 0.7 < fitted.score(curves) <= 1


def test_forecasts_follow_the_order_of_cells_and_see_no_later_cycle(curves, fitted):
    turned = pl.concat(list(reversed(curves.partition_by("cell_id", maintain_order=True))))
    np.testing.assert_allclose(fitted.predict(turned), fitted.predict(curves)[::-1], rtol=1e-12)
    later = curves.filter(pl.col("cycle") == 40).with_columns(pl.col("cycle") + 60, pl.col("q_ah") * 0.5)
    assert np.array_equal(fitted.predict(pl.concat([curves, later])), fitted.predict(curves))


def test_intervals_surround_the_point_and_hold_on_new_cells(fitted):
    new = simulate_curves(40, seed=4, max_cycle=40)
    lo, hi = fitted.predict_interval(new)
    point = fitted.predict(new)
    assert ((lo <= point) & (point <= hi) & (lo < hi)).all()
    assert np.mean((lo <= lives(new)) & (lives(new) <= hi)) >= 0.65  # 0.8 of 40: three standard errors below


@pytest.mark.parametrize("kind", ["table", "array"])
def test_a_saved_model_gives_the_same_bits(kind, curves, fitted, tmp_path):
    x, y = fading()
    model, seen = (fitted, curves) if kind == "table" else (quick().fit(x, y), x)
    path = model.save(tmp_path / "deep" / "model.pt")
    torch.load(path, weights_only=True)  # raises where anything in it needed unpickling
    again = BatteryRULRegressor.load(path)
    assert again.get_params() == model.get_params()
    for first, second in zip(model.predict_interval(seen), again.predict_interval(seen), strict=True):
        assert np.array_equal(first, second)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(seen), again.predict(seen))
    assert [file.name for file in path.parent.iterdir()] == ["model.pt"]
    resaved = torch.load(again.save(tmp_path / "again.pt"), weights_only=True)["weights"]
    assert all(torch.equal(value, again.model_.state_dict()[name]) for name, value in resaved.items())


def test_a_bundle_gives_the_same_forecasts_without_torch(curves, fitted, tmp_path):
    out = Predictor(fitted.export(tmp_path / "bundle"), device="cpu").predict(curves)
    last = out["cycle"].to_numpy()
    lo, hi = fitted.predict_interval(curves)
    for column, wanted in (("rul", fitted.predict(curves)), ("rul_lo", lo), ("rul_hi", hi)):
        # production promises no life shorter than what was already lived
        np.testing.assert_allclose(out[column] + last, np.maximum(wanted, last), rtol=1e-4)


def test_fewer_folds_than_cells_still_leave_every_cell_out():
    x, y = fading()
    alone, parts = (BatteryRULRegressor(confidence=0.8, folds=folds).fit(x, y) for folds in (None, 3))
    assert len(alone.model_.fold.unique()) == 24
    assert sorted(parts.model_.fold.unique().tolist()) == [1, 2, 3]
    np.testing.assert_allclose(
        alone.predict(x), parts.predict(x), rtol=1e-6
    )  # the point sees all cells in both
    assert not np.allclose(alone.predict_interval(x)[0], parts.predict_interval(x)[0], rtol=1e-6)


def refused(action, *words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the words are checked below)
        action()
    message = str(caught.value)
    assert all(word in message for word in words), message


def test_a_model_of_tables_refuses_arrays_and_the_other_way_round(curves, fitted, tmp_path):
    x, y = fading()
    model = quick().fit(x, y)
    refused(lambda: fitted.predict(x), "X is an array", "curves table")
    refused(lambda: model.predict(curves), "X is a table", "array")
    refused(lambda: model.export(tmp_path / "bundle"), "fitted on a plain array", "curves table")
    refused(lambda: model.predict(x[:, :4]), "4 features", "10")
    assert not (tmp_path / "bundle").exists()


def test_refitting_forgets_what_the_model_was_fitted_on(curves):
    x, y = fading()
    model = quick(max_cycle=40).fit(x, y).fit(curves)
    refused(lambda: model.predict(x), "X is an array")
    assert len(model.predict(curves)) == 24


def test_wrong_training_data_is_refused_in_words(curves, tmp_path):
    x, y = fading()
    bare = curves.drop("cycle_life")
    few = curves.filter(pl.col("cell_id").is_in(["sim_001", "sim_002", "sim_003"]))
    refused(lambda: quick().fit(bare), "no column cycle_life", "y is None")
    refused(lambda: quick().fit(bare, y[:5]), "(5,)", "(24,)", f"({bare.height},)")
    refused(lambda: quick().fit(few), "3 cells cannot carry", "0.8")
    refused(lambda: quick().fit(bare.drop("q_ah")), "q_ah")
    refused(lambda: quick().fit(x, -y), "24 lives <= 0")
    refused(lambda: quick().fit(x, y[:-1]), "inconsistent numbers of samples")
    refused(lambda: quick().fit(x[:, :, None], y), "dim 3")
    refused(lambda: quick(folds=1).fit(x, y), "folds is 1", "2..24")
    refused(lambda: quick(folds=25).fit(x, y), "folds is 25", "2..24")
    refused(lambda: quick(confidence=1.5).fit(x, y), "confidence is 1.5")
    refused(lambda: quick(max_cycle=2).fit(curves), "max_cycle")
    missing = curves.with_columns(
        pl.when(pl.col("cell_id") == "sim_004").then(None).otherwise("cycle_life").alias("cycle_life")
    )
    refused(lambda: quick().fit(missing), "cycle")


def test_files_that_are_no_saved_model_are_refused(tmp_path):
    damaged, other = tmp_path / "damaged.pt", tmp_path / "other.pt"
    damaged.write_bytes(b"no zip")
    torch.save({"schema": 99}, other)
    refused(lambda: BatteryRULRegressor.load(tmp_path / "absent.pt"), "absent.pt", "save()")
    refused(lambda: BatteryRULRegressor.load(damaged), "not a saved")
    refused(lambda: BatteryRULRegressor.load(other), "schema 1")
    torch.save(EarlyEnsemble, tmp_path / "pickled.pt")  # a class needs unpickling, which load never does
    refused(lambda: BatteryRULRegressor.load(tmp_path / "pickled.pt"), "not a saved")
    torch.save(ConformalInterval().state_dict(), tmp_path / "weights.pt")
    refused(lambda: BatteryRULRegressor.load(tmp_path / "weights.pt"), "schema 1")

"""Battery life as a scikit-learn estimator: fit, predict, predict_interval, score, export, save, load.

Shape legend: N cells, T steps.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from ...data.battery.early import EarlyFeatures, early_features
from ...data.battery.schema import conform
from .gaussian import INPUTS, EarlyEnsemble

_SCHEMA = 1


class BatteryRULRegressor(RegressorMixin, BaseEstimator):
    """Cycle life of cells from their first cycles, with conformal intervals.

    X is either a `curves` table (polars; one row per cell and cycle: `cell_id, cycle, q_ah`, see
    `remem.data.battery.schema`), one forecast per cell in order of appearance; or a 2-D array (cells, steps), one
    univariate sequence per cell, such as its capacity by cycle, NaN where missing.

    Args:
        max_cycle: tables: last cycle that may be looked at, 5..100. Arrays are taken as they are.
        confidence: of `predict_interval`, reached on average over cells alike (jackknife+).
        nominal_capacity_ah: capacity of a new cell.
        eol_fraction: share of it at which a cell's life ends.
        folds: parts of the cells that are left out in turn for the interval; None leaves out each cell by itself up
            to 60 cells, else 20 parts. Fewer are faster and give wider intervals.

    Attributes:
        model_: the fitted `EarlyEnsemble`, a torch module of buffers.
        n_features_in_: columns of a 2-D X (arrays only).

    With a table, `y` may be left out (the table's `cycle_life` is taken), be one life per cell, or one per row, so
    that `GridSearchCV(..., cv=GroupKFold()).fit(table, table["cycle_life"], groups=table["cell_id"])` works.
    """

    def __init__(
        self,
        *,
        max_cycle: int = 100,
        confidence: float = 0.9,
        nominal_capacity_ah: float = 1.1,
        eol_fraction: float = 0.8,
        folds: int | None = None,
    ) -> None:
        self.max_cycle = max_cycle
        self.confidence = confidence
        self.nominal_capacity_ah = nominal_capacity_ah
        self.eol_fraction = eol_fraction
        self.folds = folds

    def fit(self, X: pl.DataFrame | np.ndarray, y: Any = None) -> Self:
        """Fit in closed form.

        Raises:
            ValueError: where the table breaks its schema, a life is missing or not positive, there are too few cells
                for the confidence, or `folds` is out of range.
        """
        if isinstance(X, pl.DataFrame):
            cells = self._features(X)
            x_NF, names = cells.columns(INPUTS), INPUTS
            for name in ("n_features_in_", "feature_names_in_"):  # of an earlier fit on an array
                self.__dict__.pop(name, None)
            life_N = _lives(X, y, cells)
        else:
            x_NF, life_N = validate_data(
                self,
                X,
                y,
                dtype=np.float64,
                y_numeric=True,
                ensure_min_samples=2,
                ensure_all_finite="allow-nan",
            )
            if not (life_N > 0).all():
                raise ValueError(f"y holds {int((life_N <= 0).sum())} lives <= 0; lives are positive cycles")
            names = tuple(f"step_{i:04d}" for i in range(x_NF.shape[1]))
        self.names_ = names
        self.example_ = x_NF[:8].astype(np.float32)
        self.model_ = EarlyEnsemble.fit(
            x_NF,
            life_N,
            names,
            confidence=self.confidence,
            eol_ah=self.nominal_capacity_ah * self.eol_fraction,
            folds=self.folds,
        )
        return self

    def predict(self, X: pl.DataFrame | np.ndarray) -> np.ndarray:
        """(N,) forecast cycle lives."""
        return self._forecast(X)[:, 0]

    def predict_interval(self, X: pl.DataFrame | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) lower and upper bounds at `confidence`."""
        y_N3 = self._forecast(X)
        return y_N3[:, 1], y_N3[:, 2]

    def score(self, X: pl.DataFrame | np.ndarray, y: Any = None, sample_weight: Any = None) -> float:
        """R^2 of the forecast lives; `y` as in `fit`."""
        if isinstance(X, pl.DataFrame):
            y = _lives(X, y, self._features(X))
        return float(r2_score(y, self.predict(X), sample_weight=sample_weight))

    def export(self, folder: str | os.PathLike[str]) -> Path:
        """Write a bundle for `remem predict` and `remem.serving.Predictor`, and return its folder.

        Raises:
            ValueError: where the model was fitted on an array, whose columns production cannot make from a file.
        """
        from .bundle import Contract, write_battery_bundle  # noqa: PLC0415  (onnx costs a second; predict needs none)

        check_is_fitted(self)
        if tuple(self.names_) != INPUTS:
            raise ValueError(
                "export: this model was fitted on a plain array; fit it on a curves table (cell_id, cycle, q_ah), or "
                "export the graph alone with remem.core.export_tabular(model.model_, path, example=...)"
            )
        contract = Contract(
            "early_tabular",
            INPUTS,
            self.max_cycle,
            self.nominal_capacity_ah,
            self.eol_fraction,
            self.confidence,
        )
        record = {"training": {"data": "BatteryRULRegressor.fit", "cells": len(self.model_.cells)}}
        write_battery_bundle(Path(folder), self.model_, torch.from_numpy(self.example_), contract, record)
        return Path(folder)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write parameters and weights into one file, without pickle of objects; `load` opens it."""
        check_is_fitted(self)
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "schema": _SCHEMA,
            "params": json.dumps(self.get_params()),
            "names": list(self.names_),
            "n_features_in": getattr(self, "n_features_in_", None),
            "example": torch.from_numpy(self.example_),
            "weights": self.model_.state_dict(),
        }
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:  # whole or not at all
            partial = Path(scratch) / target.name
            torch.save(content, partial)
            partial.replace(target)
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Open what `save` wrote; only plain data is read.

        Raises:
            ValueError: where the file is missing, damaged, or of another version.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(
                f"{path}: not a saved BatteryRULRegressor ({error}); write one with save()"
            ) from error
        if not isinstance(content, dict) or content.get("schema") != _SCHEMA:
            raise ValueError(f"{path}: not a BatteryRULRegressor of schema {_SCHEMA}; write one with save()")
        out = cls(**json.loads(content["params"]))
        out.names_, out.example_ = tuple(content["names"]), content["example"].numpy()
        if content["n_features_in"] is not None:
            out.n_features_in_ = content["n_features_in"]
        out.model_ = EarlyEnsemble()
        out.model_.load_state_dict(content["weights"])
        out.model_.eval()
        return out

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        if tags.target_tags is not None:
            tags.target_tags.positive_only = True
        return tags

    def _features(self, table: pl.DataFrame) -> EarlyFeatures:
        frame, _ = conform(table, "curves", source="X")
        return early_features(frame, max_cycle=self.max_cycle)

    def _forecast(self, X: pl.DataFrame | np.ndarray) -> np.ndarray:
        check_is_fitted(self)
        if isinstance(X, pl.DataFrame):
            if tuple(self.names_) != INPUTS:
                raise ValueError("predict: X is a table, but this model was fitted on an array")
            x_NF = self._features(X).columns(INPUTS)
        else:
            if not hasattr(self, "n_features_in_"):
                raise ValueError("predict: X is an array, but this model was fitted on a curves table")
            x_NF = validate_data(self, X, dtype=np.float64, reset=False, ensure_all_finite="allow-nan")
        with torch.no_grad():
            return self.model_(torch.tensor(x_NF)).double().numpy()


def _lives(table: pl.DataFrame, y: Any, cells: EarlyFeatures) -> np.ndarray:
    """(N,) life of each cell from `y` (per cell, per row, or None for the table's own column)."""
    if y is None:
        if "cycle_life" not in table.columns:
            raise ValueError("X has no column cycle_life and y is None; give one or the other")
        y = table["cycle_life"]
    y = np.asarray(y, float)
    if y.shape == (len(cells.cell_id),):
        return y
    if y.shape != (table.height,):
        raise ValueError(
            f"y has shape {y.shape}; wanted one life per cell ({len(cells.cell_id)},) or per row ({table.height},)"
        )
    first = dict(zip(reversed(table["cell_id"].cast(pl.String).to_list()), y[::-1], strict=True))
    return np.array([first[cell] for cell in cells.cell_id])

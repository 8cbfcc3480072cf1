"""The classical regressors that every battery model is compared with: one table, one fitted form, one graph each.

The fourteen are those that Hilal and Saha (arXiv 2312.05717) compare for battery longevity with limited data, as far
as their paper lists them; a Gaussian process, partial least squares and principal component regression are what the
Severson re-analysis adds. All learn log10 of the cycle life.

Shape legend: N cells, F features.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto
from onnx.checker import check_model
from onnx.helper import make_graph, make_model, make_node, make_tensor_value_info
from onnx.numpy_helper import from_array
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
from skl2onnx import convert_sklearn, update_registered_converter
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostRegressor,
    BaggingRegressor,
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, DotProduct, WhiteKernel
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils.validation import check_is_fitted, validate_data
from xgboost import XGBRegressor

Factory = Callable[[int], Any]
"""From a seed to an unfitted regressor."""


def _scaled(make: Factory) -> Factory:
    return lambda seed: make_pipeline(StandardScaler(), make(seed))


# Trees see the features as they are: a scaler works in float64 and their graphs compare in float32, so that rows
# on a threshold would fall to the other side.
BASELINES: dict[str, Factory] = {
    "dummy": lambda seed: Lasso(1e9),  # a penalty that leaves the mean of log life alone
    "linear": _scaled(lambda seed: LinearRegression()),
    "ridge": _scaled(lambda seed: Ridge(1.0)),
    "lasso": _scaled(lambda seed: Lasso(0.003, max_iter=100_000)),
    "elastic_net": _scaled(lambda seed: ElasticNet(0.005, l1_ratio=0.5, max_iter=100_000)),
    "knn": _scaled(lambda seed: KNeighborsRegressor(3)),
    "svr": _scaled(lambda seed: SVR(C=1.0, epsilon=0.02, gamma=0.05)),
    "mlp": _scaled(
        lambda seed: MLPRegressor(
            hidden_layer_sizes=(16,), alpha=0.1, solver="lbfgs", max_iter=500, random_state=seed
        )
    ),
    "decision_tree": lambda seed: DecisionTreeRegressor(min_samples_leaf=2, random_state=seed),
    "random_forest": lambda seed: RandomForestRegressor(100, random_state=seed),
    "extra_trees": lambda seed: ExtraTreesRegressor(100, random_state=seed),
    "gradient_boosting": lambda seed: GradientBoostingRegressor(
        max_depth=2, subsample=0.8, random_state=seed
    ),
    "adaboost": lambda seed: AdaBoostRegressor(n_estimators=50, random_state=seed),
    "bagging": lambda seed: BaggingRegressor(n_estimators=50, random_state=seed),
    "xgboost": lambda seed: XGBRegressor(
        n_estimators=200, max_depth=2, learning_rate=0.1, subsample=0.8, n_jobs=1, random_state=seed
    ),
    "gaussian_process": _scaled(
        lambda seed: GaussianProcessRegressor(DotProduct() + RBF() + WhiteKernel(), normalize_y=True)
    ),
    "pls": _scaled(lambda seed: PLSRegression(_COMPONENTS, scale=False)),
    "pcr": lambda seed: make_pipeline(StandardScaler(), PCA(_COMPONENTS), LinearRegression()),
}
_COMPONENTS = 6
_TREES = (
    "decision_tree",
    "random_forest",
    "extra_trees",
    "gradient_boosting",
    "adaboost",
    "bagging",
    "xgboost",
)
RANDOM = ("mlp", *_TREES)
"""Those whose result depends on the seed."""

_SINGLE = ("svr", *_TREES)  # their operators exist in float32 only; the others export in float64
_OPSET = {"": 18, "ai.onnx.ml": 3}


class LogLife(RegressorMixin, BaseEstimator):
    """A baseline by name that learns log10 life and predicts life in cycles.

    Args:
        name: a key of `BASELINES`.
        seed: of the regressors that draw at random.
    """

    def __init__(self, name: str, seed: int = 0) -> None:
        self.name = name
        self.seed = seed

    def fit(self, x: np.ndarray, y: np.ndarray) -> LogLife:
        """Fit on (N, F) features and (N,) lives in cycles.

        Raises:
            ValueError: where the name is unknown or a life is not positive.
        """
        if self.name not in BASELINES:
            raise ValueError(f"there is no baseline {self.name!r}; choose from {', '.join(BASELINES)}")
        x, y = validate_data(self, x, y, dtype=np.float64, y_numeric=True)
        if (y <= 0).any():
            raise ValueError(f"baseline {self.name}: lives must be positive cycles; drop the others")
        x = _as_given(x)
        model = BASELINES[self.name](self.seed)
        for step in [model, *(part for _, part in getattr(model, "steps", []))]:
            if hasattr(step, "n_components"):
                step.set_params(n_components=min(step.n_components, *x.shape))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.model_ = model.fit(x, np.log10(y))
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(N,) lives in cycles of (N, F) features."""
        check_is_fitted(self)
        x = validate_data(self, x, reset=False, dtype=np.float64)
        return 10 ** np.ravel(self.model_.predict(_as_given(x)))


def _as_given(x: np.ndarray) -> np.ndarray:
    """What a graph will be given, float32, so that trees find their thresholds between values it can tell apart."""
    return x.astype(np.float32).astype(np.float64)


def to_onnx(fitted: LogLife, n_features: int) -> bytes:
    """The fitted baseline as a graph from `x` [batch, F] float32 to `y` [batch, 1] float32, life in cycles.

    Raises:
        ValueError: where `fitted` has not been fitted on `n_features` columns.
    """
    check_is_fitted(fitted)
    if fitted.n_features_in_ != n_features:
        raise ValueError(
            f"to_onnx: baseline {fitted.name} was fitted on {fitted.n_features_in_} columns, not on {n_features}"
        )
    update_registered_converter(
        XGBRegressor, "XGBRegressor", calculate_linear_regressor_output_shapes, convert_xgboost
    )
    exact = fitted.name not in _SINGLE
    kind, number = (DoubleTensorType, TensorProto.DOUBLE) if exact else (FloatTensorType, TensorProto.FLOAT)
    proto = convert_sklearn(
        fitted.model_, initial_types=[("features", kind([None, n_features]))], target_opset=_OPSET
    )
    inner = proto.graph
    (log_life,) = (value.name for value in inner.output)
    nodes = [
        make_node("Cast", ["x"], ["features"], to=number),
        *inner.node,
        make_node("Reshape", [log_life, "one_column"], ["column"]),
        make_node("Cast", ["column"], ["log_life"], to=TensorProto.DOUBLE),
        make_node("Pow", ["ten", "log_life"], ["life"]),
        make_node("Cast", ["life"], ["y"], to=TensorProto.FLOAT),
    ]
    constants = [from_array(np.array([-1, 1]), "one_column"), from_array(np.array(10.0), "ten")]
    graph = make_graph(
        nodes,
        fitted.name,
        [make_tensor_value_info("x", TensorProto.FLOAT, ["batch", n_features])],
        [make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])],
        [*inner.initializer, *constants],
    )
    whole = make_model(
        graph, opset_imports=proto.opset_import, ir_version=proto.ir_version, producer_name="remem"
    )
    check_model(whole, full_check=True)
    return bytes(whole.SerializeToString(deterministic=True))

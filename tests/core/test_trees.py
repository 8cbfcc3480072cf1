"""xgboost's trees in torch and in a graph: the same logits, missing values on the right side."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import xgboost as xgb
from torch import Tensor, nn

from remem.core.export import export_tabular
from remem.core.trees import TreeEnsemble


def table(rows: int = 1500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers with ties at the thresholds, missing values that tell something."""
    random = np.random.default_rng(seed)
    x = random.integers(-4, 5, (rows, 6)).astype(np.float32)
    x[random.random(x.shape) < 0.2] = np.nan
    logit = np.nan_to_num(x[:, 0]) * np.nan_to_num(x[:, 1]) / 4 + np.where(np.isnan(x[:, 2]), 2.0, -0.5)
    return x, (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64)


def booster(rounds: int = 25, **parameters: Any) -> xgb.Booster:
    x, y = table()
    options = {"objective": "binary:logistic", "max_depth": 4, "nthread": 1} | parameters
    return xgb.train(options, xgb.DMatrix(x, y), rounds)


def margins(trees: xgb.Booster, x: np.ndarray) -> np.ndarray:
    return trees.predict(xgb.DMatrix(x), output_margin=True)


class Column(nn.Module):
    def __init__(self, trees: TreeEnsemble) -> None:
        super().__init__()
        self.trees = trees

    def forward(self, z_BZ: Tensor) -> Tensor:
        return self.trees(z_BZ)[:, None]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"max_depth": 1},
        {"grow_policy": "lossguide", "max_leaves": 9, "max_depth": 0},
        {"base_score": 0.2},
        {"objective": "binary:logitraw"},
        {"objective": "reg:squarederror"},
        {"gamma": 3.0},  # prunes: nodes are left out of the numbering
    ],
)
def test_logits_are_those_of_xgboost(parameters: dict[str, Any]) -> None:
    trees = booster(**parameters)
    x, _ = table(seed=1)
    got = TreeEnsemble.from_xgboost(trees)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, margins(trees, x), rtol=1e-6, atol=1e-6)


def test_leading_axes_stay_and_a_row_more_than_a_chunk_is_like_any_other() -> None:
    trees = TreeEnsemble.from_xgboost(booster(5))
    z_Z = torch.from_numpy(table(9001)[0])
    whole = trees(z_Z)
    torch.testing.assert_close(trees(z_Z[:60].view(3, 4, 5, 6)), whole[:60].view(3, 4, 5), rtol=0, atol=0)
    torch.testing.assert_close(trees(z_Z[-10:]), whole[-10:], rtol=0, atol=0)
    assert trees(z_Z[:0]).shape == (0,)


def test_the_graph_holds_one_node_that_gives_the_same_logits() -> None:
    source = booster()
    trees = TreeEnsemble.from_xgboost(source)
    x, _ = table(3000, seed=2)
    content = export_tabular(Column(trees).eval(), example=torch.from_numpy(x[:64]))
    graph = onnx.load_from_string(content)
    onnx.checker.check_model(graph, full_check=True)
    assert {entry.domain: entry.version for entry in graph.opset_import} == {"": 20, "ai.onnx.ml": 3}
    assert [node.op_type for node in graph.graph.node if node.domain == "ai.onnx.ml"] == [
        "TreeEnsembleRegressor"
    ]
    (got,) = onnxruntime.InferenceSession(content).run(None, {"x": x})
    np.testing.assert_allclose(got[:, 0], margins(source, x), rtol=1e-5, atol=1e-6)


def test_two_ensembles_in_one_graph_keep_their_own_trees() -> None:
    class Difference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = TreeEnsemble.from_xgboost(booster(3))
            self.b = TreeEnsemble.from_xgboost(booster(7, max_depth=2))

        def forward(self, z_BZ: Tensor) -> Tensor:
            return (self.a(z_BZ) - 2 * self.b(z_BZ))[:, None]

    x, _ = table(200, seed=3)
    content = export_tabular(Difference().eval(), example=torch.from_numpy(x[:64]))
    (got,) = onnxruntime.InferenceSession(content).run(None, {"x": x})
    np.testing.assert_allclose(got, Difference()(torch.from_numpy(x)), rtol=1e-5, atol=1e-6)


def test_saved_weights_hold_the_trees() -> None:
    full, empty = TreeEnsemble.from_xgboost(booster()), TreeEnsemble(6)
    z_BZ = torch.from_numpy(table(50)[0])
    assert empty(z_BZ).tolist() == [0.0] * 50
    empty.load_state_dict(full.state_dict())
    torch.testing.assert_close(empty(z_BZ), full(z_BZ), rtol=0, atol=0)
    assert empty.num_trees == 25
    content = export_tabular(Column(empty).eval(), example=z_BZ)
    assert content == export_tabular(Column(full).eval(), example=z_BZ)


def test_other_boosters_and_columns_are_refused() -> None:
    x, y = table()
    for parameters in ({"booster": "gblinear"}, {"booster": "dart"}, {"objective": "count:poisson"}):
        with pytest.raises(ValueError, match="TreeEnsemble: got booster"):
            TreeEnsemble.from_xgboost(booster(2, **parameters))
    classes = xgb.train({"objective": "multi:softprob", "num_class": 3}, xgb.DMatrix(x, y), 2)
    with pytest.raises(ValueError, match="multi:softprob"):
        TreeEnsemble.from_xgboost(classes)
    with pytest.raises(ValueError, match="z has 5 columns, wanted 6"):
        TreeEnsemble.from_xgboost(booster(2))(torch.zeros(3, 5))


def test_the_model_file_still_holds_what_is_read_from_it() -> None:
    """One split and two leaves, by hand: what xgboost's own text says."""
    trees = booster(1, max_depth=1)
    (text,) = trees.get_dump(dump_format="json")
    root = json.loads(text)
    ensemble = TreeEnsemble.from_xgboost(trees)
    assert ensemble.feature_N[0] == int(root["split"][1:])
    assert ensemble.threshold_N[0] == pytest.approx(root["split_condition"])
    assert bool(ensemble.missing_left_N[0]) == (root["missing"] == root["yes"])
    leaves = {child["nodeid"]: child["leaf"] for child in root["children"]}
    assert ensemble.value_N[1:].tolist() == pytest.approx([leaves[1], leaves[2]])

"""Gradient-boosted trees as a module: the same numbers in torch, in the exported graph and in xgboost.

In torch a row walks down all trees at once by gathers. While torch exports, the ensemble becomes one node
`TreeEnsembleRegressor` of ONNX's ai.onnx.ml operators, many times faster. The tracer would take a minute over a node
with a hundred thousand numbers; so it sees an empty one with a name, which `fill_in` fills afterwards.

Shape legend: ... any leading axes, Z features, B rows, N nodes of all trees, T trees.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

OPSET = 3
"""Of ai.onnx.ml."""

CHUNK = 4096
"""Rows that walk down the trees together: bounds the memory."""

_OPERATOR, _NAME = "TreeEnsembleRegressor", "remem_ensemble"

_NODES = (
    "feature_N",
    "threshold_N",
    "left_N",
    "right_N",
    "missing_left_N",
    "value_N",
    "root_T",
    "base",
    "depth",
)


class TreeEnsemble(nn.Module):
    """Sum of trees, (..., Z) to (...). A new one has no tree and gives 0; `from_xgboost` makes the others.

    Whole ensembles travel in state dicts: loading one replaces the trees, whatever their number.

    Args:
        num_features: Z, columns of the input; NaN is a missing value.
    """

    feature_N: Tensor
    threshold_N: Tensor
    left_N: Tensor
    right_N: Tensor
    missing_left_N: Tensor
    value_N: Tensor
    root_T: Tensor
    base: Tensor
    depth: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        none = torch.zeros(0, dtype=torch.long)
        for name in ("feature_N", "left_N", "right_N", "root_T"):  # leaves have themselves as children
            self.register_buffer(name, none.clone())
        for name in ("threshold_N", "value_N"):
            self.register_buffer(name, torch.zeros(0))
        self.register_buffer("missing_left_N", none.bool())
        self.register_buffer("base", torch.zeros(()))
        self.register_buffer("depth", torch.zeros((), dtype=torch.long))
        self._name = ""  # of these trees, by their content: a trace may not read buffers

    @property
    def num_trees(self) -> int:
        return len(self.root_T)

    @classmethod
    def from_xgboost(cls, booster: Any) -> TreeEnsemble:
        """The trees of an `xgboost.Booster` (all of them: slice it to stop early), before any link: logits.

        Raises:
            ValueError: where the booster is not one of plain trees with one output and numbers as features.
        """
        learner = json.loads(bytes(booster.save_raw("json")))["learner"]
        kind, objective = learner["gradient_booster"]["name"], learner["objective"]["name"]
        trees = learner["gradient_booster"].get("model", {}).get("trees", [])
        plain = not any(
            tree["categories_nodes"] or int(tree["tree_param"]["size_leaf_vector"]) > 1 for tree in trees
        )
        if kind != "gbtree" or not plain or objective not in _LINKS or int(_scalar(learner, "num_class")) > 1:
            raise ValueError(
                f"TreeEnsemble: got booster {kind!r} with objective {objective!r}"
                f"{'' if plain else ' and categorical or vector splits'}; wanted 'gbtree' on numbers with one "
                f"output and an objective of {sorted(_LINKS)}"
            )
        ensemble = cls(int(_scalar(learner, "num_feature")))
        ensemble._fill(trees, _LINKS[objective](_scalar(learner, "base_score")))
        return ensemble

    def forward(self, z_Z: Tensor) -> Tensor:
        """Sums (...) in the type of the input, computed in float32."""
        if z_Z.shape[-1] != self.num_features:
            raise ValueError(f"TreeEnsemble: z has {z_Z.shape[-1]} columns, wanted {self.num_features}")
        z_BZ = z_Z.flatten(0, -2).float()
        if self.num_trees == 0:
            sum_B = torch.zeros_like(z_BZ[:, 0])
        elif torch.compiler.is_exporting():
            # "less than" sends NaN to the right; a second copy of the columns, with -inf instead, sends it left
            both_BY = torch.cat([z_BZ, z_BZ.masked_fill(z_BZ.isnan(), -torch.inf)], 1)
            node, shape = f"ai.onnx.ml::{_OPERATOR}", (z_BZ.shape[0], 1)
            sum_B = torch.onnx.ops.symbolic(
                node, (both_BY,), {_NAME: self._name}, dtype=torch.float32, shape=shape, version=OPSET
            )[:, 0]
        else:
            sum_B = torch.cat([self._walk(rows_BZ) for rows_BZ in z_BZ.split(CHUNK)])
        return (sum_B + self.base).view(z_Z.shape[:-1]).to(z_Z.dtype)

    def _walk(self, z_BZ: Tensor) -> Tensor:
        node_BT = self.root_T.expand(len(z_BZ), -1)
        for _ in range(int(self.depth)):
            value_BT = z_BZ.gather(1, self.feature_N[node_BT])
            left_BT = (value_BT < self.threshold_N[node_BT]) | (
                value_BT.isnan() & self.missing_left_N[node_BT]
            )
            node_BT = torch.where(left_BT, self.left_N[node_BT], self.right_N[node_BT])
        return self.value_N[node_BT].sum(1)

    def _fill(self, trees: Sequence[Mapping[str, Any]], base: float) -> None:
        start, depth = 0, 0
        columns: dict[str, list[Any]] = {name: [] for name in _NODES[:7]}
        for tree in trees:
            lefts, rights = tree["left_children"], tree["right_children"]
            columns["root_T"].append(start)
            depth_of = {0: 0}
            for i, (left, right) in enumerate(zip(lefts, rights, strict=True)):
                leaf = left < 0
                columns["feature_N"].append(0 if leaf else tree["split_indices"][i])
                columns["threshold_N"].append(0.0 if leaf else tree["split_conditions"][i])
                columns["value_N"].append(tree["split_conditions"][i] if leaf else 0.0)
                columns["missing_left_N"].append(bool(tree["default_left"][i]) and not leaf)
                columns["left_N"].append(start + (i if leaf else left))
                columns["right_N"].append(start + (i if leaf else right))
            pending = [0]
            while pending:  # children may stand before their parents after pruning
                i = pending.pop()
                if lefts[i] >= 0:
                    for child in (lefts[i], rights[i]):
                        depth_of[child] = depth_of[i] + 1
                        pending.append(child)
            depth = max(depth, *depth_of.values())
            start += len(lefts)
        for name, column in columns.items():
            self.register_buffer(name, torch.tensor(column, dtype=getattr(self, name).dtype))
        self.base.fill_(base)
        self.depth.fill_(depth)
        self._name = self._digest()

    def _attributes(self) -> dict[str, Any]:
        """Of the ONNX node, by the names of the standard; ids of nodes count from 0 in every tree."""
        nodes = torch.arange(len(self.feature_N), device=self.root_T.device)
        tree_N = torch.searchsorted(self.root_T, nodes, right=True) - 1
        start_N, leaf_N = self.root_T[tree_N], self.left_N == nodes
        own_N = nodes - start_N
        return {
            "n_targets": 1,
            "aggregate_function": "SUM",
            "post_transform": "NONE",
            "nodes_treeids": tree_N.tolist(),
            "nodes_nodeids": own_N.tolist(),
            "nodes_featureids": (self.feature_N + self.num_features * self.missing_left_N).tolist(),
            "nodes_values": self.threshold_N.tolist(),
            "nodes_modes": ["LEAF" if leaf else "BRANCH_LT" for leaf in leaf_N.tolist()],
            "nodes_truenodeids": torch.where(leaf_N, 0, self.left_N - start_N).tolist(),
            "nodes_falsenodeids": torch.where(leaf_N, 0, self.right_N - start_N).tolist(),
            "target_treeids": tree_N[leaf_N].tolist(),
            "target_nodeids": own_N[leaf_N].tolist(),
            "target_ids": [0] * int(leaf_N.sum()),
            "target_weights": self.value_N[leaf_N].tolist(),
        }

    def _digest(self) -> str:
        arrays = b"".join(getattr(self, name).cpu().numpy().tobytes() for name in _NODES)
        return hashlib.sha256(arrays).hexdigest()

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *others: Any) -> None:
        for name in _NODES:
            found = state_dict.get(prefix + name)
            if found is not None:
                self.register_buffer(name, torch.empty_like(found, device=self.base.device))
        super()._load_from_state_dict(state_dict, prefix, *others)
        self._name = self._digest()


def fill_in(graph: ir.Model, module: nn.Module) -> None:
    """Give the nodes that ensembles of `module` left in an exported graph their trees."""
    ensembles = {part._name: part for part in module.modules() if isinstance(part, TreeEnsemble)}
    for node in graph.graph.all_nodes():
        if node.op_type == _OPERATOR and _NAME in node.attributes:
            ensemble = ensembles[node.attributes.pop(_NAME).as_string()]
            for attribute in ir.convenience.convert_attributes(ensemble._attributes()):
                node.attributes.add(attribute)


def _scalar(learner: Mapping[str, Any], name: str) -> float:
    """A parameter of the model; newer files write numbers as text of a list."""
    return float(str(learner["learner_model_param"][name]).strip("[]"))


_LINKS = {
    "binary:logistic": lambda share: math.log(share / (1 - share)),
    "binary:logitraw": lambda logit: logit,
    "reg:logistic": lambda share: math.log(share / (1 - share)),
    "reg:squarederror": lambda mean: mean,
}
"""From a booster's base score to the number that its trees are added to."""

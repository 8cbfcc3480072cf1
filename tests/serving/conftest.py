"""Bundles small enough to be checked by hand, made without torch.

early_tabular: cycle life = last_cycle + 500 * q_now, bounds 0.8 and 1.2 of it.
online: remaining life = 1000 * (running mean of capacity) + (running largest capacity), bounds 0.8 and 1.2 of it. The
mean starts from zeros and the largest from -1e30, so a state that starts from zeros everywhere gives other numbers.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

EARLY_FEATURES = ["last_cycle", "q_now"]
BOUNDS = np.array([[1.0, 0.8, 1.2]], np.float32)
NOTHING = -1e30


def node(op: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], **attributes)


def floats(name: str, *shape: object, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def save(path: Path, nodes: list, inputs: list, outputs: list, **constants: np.ndarray) -> None:
    initial = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def write_manifest(
    folder: Path, task: str, kind: str, features: list[str], state: list[dict], **changes: object
) -> Path:
    files = sorted(folder.glob("*.onnx"))
    manifest = {
        "remem": "0.1.0",
        "schema_version": 1,
        "opset": 20,
        "app": "battery",
        "task": task,
        "input": {
            "kind": kind,
            "features": features,
            "units": {name: "1" for name in features},
            "max_cycle": 100 if task == "early" else None,
            "nominal_capacity_ah": 1.1,
            "eol_fraction": 0.8,
        },
        "output": ["cycle_life" if task == "early" else "rul", "lo", "hi"],
        "confidence": 0.9,
        "state": state,
        "state_bytes": 4 * len(state),
        "files": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
        "training": {"data": "by hand"},
        "baselines": {},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))
    return folder


@pytest.fixture
def early_bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "early"
    folder.mkdir()
    save(
        folder / "model.onnx",
        [node("MatMul", "x weight", "life"), node("Mul", "life bounds", "y")],
        [floats("x", "batch", 2)],
        [floats("y", "batch", 3)],
        weight=np.array([[1.0], [500.0]], np.float32),
        bounds=BOUNDS,
    )
    return write_manifest(folder, "early", "early_tabular", EARLY_FEATURES, [])


@pytest.fixture
def online_bundle(tmp_path: Path) -> Path:
    return _online(tmp_path / "online")


@pytest.fixture
def make_online_bundle():
    return _online


def _online(folder: Path, feature: str = "capacity_ah", scale: float = 1000.0) -> Path:
    folder.mkdir()
    state = ["count", "total", "largest"]
    constants = {
        "zero": np.float32(0),
        "one": np.float32(1),
        "tiny": np.float32(1e-9),
        "nothing": np.float32(NOTHING),
        "scale": np.float32(scale),
        "time": np.array([1], np.int64),
        "last": np.array([2], np.int64),
        "bounds": BOUNDS,
    }
    head = [
        node("Max", "count tiny", "count1"),
        node("Div", "total count1", "mean"),
        node("Mul", "mean scale", "scaled"),
        node("Add", "scaled largest", "rul"),
        node("Mul", "rul bounds", "y"),
    ]
    everywhere = np.tril(np.ones((64, 64), bool))
    save(
        folder / "window.onnx",
        [
            node("Unsqueeze", "mask last", "mask3"),
            node("IsNaN", "x", "hole"),
            node("Not", "hole", "known"),
            node("And", "known mask3", "seen"),
            node("Where", "seen x zero", "clean"),
            node("Where", "seen one zero", "ones"),
            node("CumSum", "clean time", "total"),
            node("CumSum", "ones time", "count"),
            # running largest over at most 64 steps: every earlier step against a lower triangle
            node("Shape", "x", "t", start=1, end=2),
            node("Concat", "t t", "tt", axis=0),
            node("Slice", "triangle origin tt", "corner"),
            node("Where", "seen x nothing", "only"),
            node("Transpose", "only", "row", perm=[0, 2, 1]),
            node("Where", "corner row nothing", "before"),
            node("ReduceMax", "before last", "largest", keepdims=1),
            *head,
            node("ReduceSum", "ones time", "state.count", keepdims=0),
            node("ReduceSum", "clean time", "state.total", keepdims=0),
            node("ReduceMax", "only time", "state.largest", keepdims=0),
        ],
        [floats("x", "batch", "time", 1), floats("mask", "batch", "time", kind=TensorProto.BOOL)],
        [floats("y", "batch", "time", 3), *(floats(f"state.{name}", "batch", 1) for name in state)],
        triangle=everywhere,
        origin=np.array([0, 0], np.int64),
        **constants,
    )
    save(
        folder / "step.onnx",
        [
            node("IsNaN", "x", "hole"),
            node("Where", "hole zero x", "clean"),
            node("Where", "hole zero one", "ones"),
            node("Where", "hole nothing x", "only"),
            node("Add", "clean state.total", "total"),
            node("Add", "ones state.count", "count"),
            node("Max", "only state.largest", "largest"),
            *head,
            *(node("Identity", name, f"next.{name}") for name in state),
        ],
        [floats("x", "batch", 1), *(floats(f"state.{name}", "batch", 1) for name in state)],
        [floats("y", "batch", 3), *(floats(f"next.{name}", "batch", 1) for name in state)],
        **{name: constants[name] for name in ("zero", "one", "tiny", "nothing", "scale", "bounds")},
    )
    described = [{"name": name, "shape": [1], "dtype": "float32"} for name in state]
    return write_manifest(folder, "online", "online_sequence", [feature], described)

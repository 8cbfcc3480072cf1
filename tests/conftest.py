"""What tests found out and people should read: `record_property("told", text)` prints it after the run.

And a bundle of tours for the tests of serving and of the apps, made by hand: nobody needs a trained one.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest


def pytest_terminal_summary(terminalreporter):
    # properties travel from the worker processes of pytest-xdist, prints do not
    told = [
        text
        for report in terminalreporter.stats.get("passed", [])
        for name, text in report.user_properties
        if name == "told"
    ]
    if told:
        terminalreporter.section("told by tests")
        for text in told:
            terminalreporter.write_line(text)


@pytest.fixture(scope="session")
def tour_bundle(tmp_path_factory):
    """A bundle whose graphs visit points from left to right (greedy.onnx) or from below (beam.onnx): valid tours, of
    each image another, and bad ones. Their log_p is minus the sum of what they sort by."""
    folder = tmp_path_factory.mktemp("bundles") / "tours"
    folder.mkdir()
    for name, weight in (("greedy", [1.0, 0.0]), ("beam", [0.0, 1.0])):
        _sorting_graph(folder / f"{name}.onnx", np.array(weight, np.float32))
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.onnx")}
    manifest = {
        "remem": "0.1.0",
        "schema_version": 1,
        "app": "geometry",
        "task": "tsp",
        "input": {"kind": "points", "features": ["x", "y"], "units": {}},
        "output": ["tour"],
        "confidence": 0.9,
        "state": [],
        "state_bytes": 0,
        "files": files,
        "training": {"data": "by hand"},
        "baselines": {},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def _sorting_graph(path: Path, weight: np.ndarray) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def node(op: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(op, inputs.split(), output.split(), **attributes)

    nodes = [
        node("Mul", "xy weight", "weighted"),
        node("ReduceSum", "weighted last", "key", keepdims=0),
        node("Where", "real key zero", "known"),
        node("ReduceSum", "known last1", "sum", keepdims=0),
        node("Neg", "sum", "log_p"),
        node("Shape", "xy", "size", start=1, end=2),
        node("Squeeze", "size", "n"),
        node("Range", "zero64 n one64", "number"),
        node("Cast", "number", "number32", to=TensorProto.FLOAT),
        node("Add", "number32 late", "behind"),
        node("Where", "real key behind", "padded"),
        node("Unsqueeze", "head last1", "head1"),
        node("Unsqueeze", "tail last1", "tail1"),
        node("Equal", "number head1", "is_head"),
        node("Equal", "number tail1", "is_tail"),
        node("Where", "is_tail ten padded", "ended"),
        node("Where", "is_head early ended", "order"),
        node("TopK", "order size", "values tour", largest=0, axis=1),
    ]
    constants = {
        "weight": weight,
        "last": np.array([2], np.int64),
        "last1": np.array([1], np.int64),
        "zero": np.float32(0),
        "zero64": np.int64(0),
        "one64": np.int64(1),
        "early": np.float32(-10),
        "ten": np.float32(10),
        "late": np.float32(100),
    }
    kinds = {"xy": (TensorProto.FLOAT, ["batch", "n", 2]), "real": (TensorProto.BOOL, ["batch", "n"])}
    kinds |= {name: (TensorProto.INT64, ["batch"]) for name in ("head", "tail")}
    inputs = [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()]
    outputs = [
        helper.make_tensor_value_info("tour", TensorProto.INT64, ["batch", "n"]),
        helper.make_tensor_value_info("log_p", TensorProto.FLOAT, ["batch"]),
    ]
    initial = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)

"""What tests found out and people should read: `record_property("told", text)` prints it after the run.

And bundles of geometry for the tests of serving and of the apps, made by hand: nobody there needs trained ones.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

# triton reads this when it is loaded first, by whomever: without a GPU, its kernels run in its interpreter
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")


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
def geometry_bundles(tmp_path_factory):
    """Bundles tsp, routes, hull and delaunay whose graphs do something simple and valid.

    tsp: points from left to right (greedy.onnx) or from below (beam.onnx): of each image another tour, and a bad one;
    log_p is minus the sum of what they sort by. routes: a step north costs its square and a step south nothing, so
    that the best tour goes up through all points in order, and down at once. hull: the leftmost, lowest, rightmost
    and highest point. delaunay: no apex ever, so that the predictor completes the triangulation by itself.
    """
    root = tmp_path_factory.mktemp("bundles")
    stubs = {"tsp": _tours, "routes": _upwards, "hull": _extremes, "delaunay": _no_apex}
    for name, graphs in stubs.items():
        folder = root / name
        kind, task = ("routes", "tsp") if name == "routes" else ("points", name)
        folder.mkdir()
        graphs(folder)
        files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.onnx")}
        manifest = {
            "remem": "0.1.0",
            "schema_version": 1,
            "app": "geometry",
            "task": task,
            "input": {"kind": kind, "features": ["x", "y"], "units": {}},
            "output": [{"tsp": "tour", "delaunay": "triangles"}.get(task, task)],
            "confidence": 0.9,
            "state": [],
            "state_bytes": 0,
            "files": files,
            "training": {"data": "by hand"},
            "baselines": {},
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
    return root


@pytest.fixture(scope="session")
def tour_bundle(geometry_bundles):
    return geometry_bundles / "tsp"


def _tours(folder: Path) -> None:
    for name, weight in (("greedy", [1, 0]), ("beam", [0, 1])):
        nodes = [
            ("Mul", "xy weight", "weighted"),
            ("ReduceSum", "weighted last", "key", {"keepdims": 0}),
            ("Where", "real key zero", "known"),
            ("ReduceSum", "known last1", "sum", {"keepdims": 0}),
            ("Neg", "sum", "log_p"),
            ("Shape", "xy", "size", {"start": 1, "end": 2}),
            ("Squeeze", "size", "n"),
            ("Range", "zero64 n one64", "number"),
            ("Cast", "number", "number32", {"to": 1}),
            ("Add", "number32 late", "behind"),
            ("Where", "real key behind", "padded"),
            ("Unsqueeze", "head last1", "head1"),
            ("Unsqueeze", "tail last1", "tail1"),
            ("Equal", "number head1", "is_head"),
            ("Equal", "number tail1", "is_tail"),
            ("Where", "is_tail ten padded", "ended"),
            ("Where", "is_head early ended", "order"),
            ("TopK", "order size", "values tour", {"largest": 0, "axis": 1}),
        ]
        inputs = {
            "xy": (1, "batch", "n", 2),
            "real": (9, "batch", "n"),
            "head": (7, "batch"),
            "tail": (7, "batch"),
        }
        outputs = {"tour": (7, "batch", "n"), "log_p": (1, "batch")}
        constants = {"weight": np.array(weight, np.float32), "early": np.float32(-10), "ten": np.float32(10)}
        _graph(folder / f"{name}.onnx", nodes, inputs, outputs, late=np.float32(100), **constants)


def _upwards(folder: Path) -> None:
    nodes = [
        ("Mul", "xy north", "only"),
        ("ReduceSum", "only last", "y", {"keepdims": 0}),
        ("Unsqueeze", "y last1", "to"),
        ("Unsqueeze", "y last", "from"),
        ("Sub", "to from", "up"),
        ("Relu", "up", "climb"),
        ("Mul", "climb climb", "cost"),
    ]
    north = np.array([0, 1], np.float32)
    _graph(
        folder / "cost.onnx",
        nodes,
        {"xy": (1, "batch", "n", 2)},
        {"cost": (1, "batch", "n", "n")},
        north=north,
    )


def _extremes(folder: Path) -> None:
    nodes = [
        ("Unsqueeze", "real last", "real1"),
        ("Where", "real1 xy late", "least"),
        ("Where", "real1 xy early", "most"),
        ("ArgMin", "least", "low", {"axis": 1, "keepdims": 0}),
        ("ArgMax", "most", "high", {"axis": 1, "keepdims": 0}),
        ("Concat", "low high", "hull", {"axis": 1}),
        ("Cast", "low", "low32", {"to": 1}),
        ("ReduceMax", "low32 last1", "log_p", {"keepdims": 0}),
    ]
    outputs = {"hull": (7, "batch", 4), "log_p": (1, "batch")}
    inputs = {"xy": (1, "batch", "n", 2), "real": (9, "batch", "n")}
    _graph(folder / "greedy.onnx", nodes, inputs, outputs, late=np.float32(9), early=np.float32(-9))


def _no_apex(folder: Path) -> None:
    nodes = [
        ("ReduceMax", "edge last1", "node", {"keepdims": 0}),
        ("Sub", "node node", "none"),
        ("Sub", "none one64", "apex"),
        ("Cast", "apex", "apex32", {"to": 1}),
        ("ReduceSum", "xy", "sum", {"keepdims": 0}),
        ("Mul", "apex32 sum", "log_p"),
    ]
    inputs = {"xy": (1, "batch", "n", 2), "real": (9, "batch", "n"), "edge": (7, "edges", 3)}
    _graph(folder / "apex.onnx", nodes, inputs, {"apex": (7, "edges"), "log_p": (1, "edges")})


def _graph(path: Path, nodes: list, inputs: dict, outputs: dict, **constants: np.ndarray) -> None:
    """nodes: operator, inputs, outputs, attributes; inputs and outputs: type of elements and shape."""
    import onnx
    from onnx import helper, numpy_helper

    axes = {"last": np.array([2]), "last1": np.array([1]), "zero64": np.int64(0), "one64": np.int64(1)}
    constants |= axes | {"zero": np.float32(0)}
    given = [
        helper.make_node(op, names.split(), out.split(), **(rest[0] if rest else {}))
        for op, names, out, *rest in nodes
    ]
    ends = [
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, *shape) in side.items()]
        for side in (inputs, outputs)
    ]
    used = {name for node in given for name in node.input}
    initial = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items() if name in used]
    graph = helper.make_graph(given, path.stem, *ends, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)

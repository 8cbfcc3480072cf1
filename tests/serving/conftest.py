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
import polars as pl
import pytest
from onnx import TensorProto, helper, numpy_helper

from remem.data.tracing.encode import Vocabulary
from remem.data.tracing.schema import conform

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


BASE = {"": 0.0, "q1": 1.5, "q2": 0.5, "q3": -1.0, "q4": 0.25, "q5": -0.5, "q6": 0.75}
"""Logit of each question of the tracing bundle for a student of whom nothing is known."""

CONCEPTS = {"q1": ["a"], "q2": ["a"], "q3": ["a"], "q4": ["b"], "q5": ["b", "c"], "q6": ["c"]}
RIGHT_OF_TEN = {"q1": 9, "q2": 6, "q3": 2, "q4": 5, "q5": 3, "q6": 7}
SPREAD = {"answers": [0, 2, 5], "sd": [0.15, 0.1, 0.05]}


@pytest.fixture(scope="session")
def tracing_vocabulary() -> Vocabulary:
    """Six questions of three concepts, answered by ten students each."""
    rows = [
        (f"s{i}", question, concepts, int(i < RIGHT_OF_TEN[question]))
        for question, concepts in CONCEPTS.items()
        for i in range(10)
    ]
    frame = pl.DataFrame(rows, schema=["student_id", "question_id", "concepts", "correct"], orient="row")
    return Vocabulary.fit(conform(frame, source="training").frame)


@pytest.fixture
def tracing_bundle(tmp_path: Path, tracing_vocabulary: Vocabulary) -> Path:
    return _tracing(tmp_path / "tracing", tracing_vocabulary)


@pytest.fixture(scope="session")
def contrary_bundle(tmp_path_factory: pytest.TempPathFactory, tracing_vocabulary: Vocabulary) -> Path:
    """Right answers lower its forecasts."""
    return _tracing(tmp_path_factory.mktemp("contrary") / "tracing", tracing_vocabulary, weight=-0.5)


@pytest.fixture
def make_tracing_bundle(tracing_vocabulary: Vocabulary):
    return lambda folder, **changes: _tracing(folder, tracing_vocabulary, **changes)


ANSWER = """
Gather x_t 0 -> question axis=1 | Cast question -> question_i to=7 | Gather base question_i -> base_b
Unsqueeze base_b one_i -> easy | Gather x_t at_correct -> correct axis=1 | Gather x_t at_minutes -> minutes axis=1
Gather x_t at_slots -> slots axis=1 | Cast slots -> slots_i to=7 | OneHot slots_i depth off_on -> hots
ReduceMax hots one_i -> hot_all keepdims=0 | Mul hot_all named -> hot
Sub minutes last -> gap | IsNaN gap -> no_gap | Where no_gap zero gap -> since
Div since day -> days | Neg days -> days_back | Pow two days_back -> kept
Mul hot balance -> own | Mul own kept -> remembered | ReduceSum remembered one_i -> total keepdims=1
Mul total weight -> memory | Add easy memory -> z
Sigmoid z -> p | Sigmoid easy -> p_question | Sigmoid memory -> p_memory | Concat p p_question p_memory -> y_t axis=1
IsNaN correct -> asked | Mul correct two -> doubled | Sub doubled one -> sign | Where asked zero sign -> moved
Mul hot moved -> moves | Add balance moves -> balance_t
Not asked -> answered | IsNaN minutes -> timeless | Not timeless -> timed | And answered timed -> dated
Greater hot half -> on | And on dated -> renewed | Where renewed minutes last -> last_t
"""
"""Of x_t (B, F) and the states balance and last (B, C + 1): y_t (B, 3), balance_t and last_t."""


def _nodes(text: str) -> list[onnx.NodeProto]:
    """`Op input... -> output attribute=number`, parted by | or newlines."""
    made = []
    for line in text.replace("\n", "|").split("|"):
        if line.strip():
            given, _, rest = line.partition("->")
            op, *inputs = given.split()
            output, *settings = rest.split()
            attributes = {name: int(number) for name, _, number in (s.partition("=") for s in settings)}
            made.append(helper.make_node(op, inputs, [output], **attributes))
    return made


def _tracing(folder: Path, vocabulary: Vocabulary, weight: float = 0.5, **changes: object) -> Path:
    """p = sigmoid(base of the question + `weight` times what is remembered of its concepts).

    Of each concept: right minus wrong answers so far, halved for every day since the last answer on it. The members
    of the "stack" are the two terms alone. The window graph is a Scan over the nodes of the step graph.
    """
    folder.mkdir()
    width, size = 3 + vocabulary.slots, len(vocabulary.concepts)
    whole = {"0": 0, "one_i": [1], "at_correct": [1], "at_minutes": [2], "at_slots": [3, 4], "depth": size}
    numbers = {"zero": 0, "one": 1, "two": 2, "half": 0.5, "weight": weight, "day": 1440, "off_on": [0, 1]}
    numbers |= {"base": [BASE[q] for q in vocabulary.questions], "named": [0, *[1] * (size - 1)]}
    constants = {name: np.array(value, np.int64) for name, value in whole.items()}
    constants |= {name: np.array(value, np.float32) for name, value in numbers.items()}
    state, before = (
        ["balance", "last"],
        [np.zeros((1, size), np.float32), np.full((1, size), -1e7, np.float32)],
    )

    def both(prefix: str) -> list[onnx.ValueInfoProto]:
        return [floats(prefix + name, "batch", size) for name in state]

    save(
        folder / "step.onnx",
        _nodes("Identity x -> x_t | Identity state.balance -> balance | Identity state.last -> last")
        + _nodes(ANSWER)
        + _nodes("Identity y_t -> y | Identity balance_t -> next.balance | Identity last_t -> next.last"),
        [floats("x", "batch", width), *both("state.")],
        [floats("y", "batch", 3), *both("next.")],
        **constants,
    )
    body = helper.make_graph(
        _nodes(ANSWER)
        + _nodes("Unsqueeze mask_t one_i -> given | Where given balance_t balance -> balance_n")
        + _nodes("Where given last_t last -> last_n | Identity y_t -> y_n"),
        "answer",
        [*both(""), floats("x_t", "batch", width), floats("mask_t", "batch", kind=TensorProto.BOOL)],
        [floats("balance_n", "batch", size), floats("last_n", "batch", size), floats("y_n", "batch", 3)],
    )
    scan = helper.make_node(
        "Scan",
        ["balance_0", "last_0", "x", "mask"],
        ["state.balance", "state.last", "y"],
        body=body,
        num_scan_inputs=2,
        scan_input_axes=[1, 1],
        scan_output_axes=[1],
    )
    save(
        folder / "window.onnx",
        [
            helper.make_node("Shape", ["x"], ["batch_i"], start=0, end=1),
            *_nodes("Concat batch_i size_i -> shape axis=0"),
            *_nodes("Expand balance_f shape -> balance_0 | Expand last_f shape -> last_0"),
            scan,
        ],
        [floats("x", "batch", "time", width), floats("mask", "batch", "time", kind=TensorProto.BOOL)],
        [floats("y", "batch", "time", 3), *both("state.")],
        **constants,
        balance_f=before[0],
        last_f=before[1],
        size_i=np.array([size], np.int64),
    )
    (folder / "vocabulary.json").write_text(vocabulary.to_json())
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    manifest = {
        "remem": "0.1.0",
        "schema_version": 1,
        "opset": 20,
        "app": "tracing",
        "task": "tracing",
        "input": {"kind": "answers", "features": list(vocabulary.features), "units": {}},
        "output": ["p_correct", "p_question", "p_memory"],
        "confidence": 0.8,
        "spread": SPREAD,
        "state": [{"name": name, "shape": [size], "dtype": "float32"} for name in state],
        "state_bytes": 8 * size,
        "files": files,
        "training": {"data": "by hand"},
        "baselines": {"question mean": {"kind": "question_mean"}},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))
    return folder

"""ONNX graphs of a model, checked against the model before anything is written.

Three graphs, all with a free batch axis:
- window: `x` (batch, time, F), `mask` (batch, time) -> `y` (batch, time, O) and the state after it,
  `state.<name>`
- step: `x` (batch, F), `state.<name>` -> `y` (batch, O) and `next.<name>`
- tabular: `x` (batch, F) -> `y` (batch, O)

An exporter can freeze a length and say nothing. So every graph is run in onnxruntime at shapes that were
never traced, one longer than twice the example and one with inputs large enough to spread the scores, and
compared with the model. A graph that differs is refused, and no file is left. One model and one set of library
versions give one file, byte for byte, in every process.

Shape legend: B batch, T time, F features, O outputs.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn

from .ops.softmax_scan import BLOCK
from .state import SequenceLayer, State, flatten, unflatten
from .trees import fill_in

OPSET = 20
TOLERANCE = 1e-5
"""Largest difference allowed between graph and model, relative to max(1, |value|)."""

WINDOW_TRACE = (3, 2 * BLOCK + 5)
"""Batch and length that are traced: neither 1, both different, the length longer than a block of the scan."""

WINDOW_PROBES = ((1, 1), (5, 2 * WINDOW_TRACE[1] + 9), (2, BLOCK - 3))
STEP_TRACE, STEP_PROBES, STEP_CHAIN = 3, (1, 2, 2 * 3 + 1), 50
LOUD, LOUD_TOLERANCE = 10.0, 1e-3
"""Factor on the inputs of the last probe, which spreads the scores; scores that large round in any float32 program."""

ADVICE = "Look for a Python loop or a size that depends on the length, or len(x) for x.shape[0]: tracing freezes it"


class ExportError(ValueError):
    """The graph could not be made, or does not agree with the model."""


def export_window(
    model: nn.Module, path: str | Path | None = None, *, example: Tensor, opset: int = OPSET
) -> bytes:
    """Whole sequences in one graph. Inputs `x`, `mask`; outputs `y` and `state.<name>`.

    Args:
        model: a `SequenceLayer`; it is copied to the CPU and set to eval for the export.
        path: where to write the graph; None only returns it.
        example: x_BTF with values as the model will meet them (NaN where it may meet missing ones), any B, T >= 1.
        opset: ONNX operator set.

    Returns:
        The bytes of the ONNX file.

    Raises:
        ExportError: where an axis is not free, or graph and model differ at a shape never traced.
    """
    window = _Window(_frozen(model))

    def inputs(batch: int, time: int) -> tuple[Tensor, Tensor]:
        x_BTF = _resized(example, batch, time)
        mask_BT = torch.ones(batch, time, dtype=torch.bool)
        mask_BT[0, time // 2 : time // 2 + time // 4] = False
        mask_BT[-1, time - time // 5 :] = False
        return x_BTF, mask_BT

    names = [f"state.{name}" for name in flatten(window.model.init_state(1))]
    free = {0: "batch", 1: "time"}
    traced = inputs(*WINDOW_TRACE)
    graph = _graph(
        window, traced, {"x": free, "mask": free}, {"y": free} | {name: {0: "batch"} for name in names}, opset
    )
    session = _session(graph)
    for shape, loudness, tolerance in _probes(WINDOW_PROBES):
        x_BTF, mask_BT = inputs(*shape)
        x_BTF = x_BTF * loudness
        with torch.no_grad():
            wanted = window(x_BTF, mask_BT)
        where = (
            f"window graph at (batch, time) = {shape}, traced at {WINDOW_TRACE}, inputs times {loudness:.0f}"
        )
        got = _run(session, {"x": x_BTF.numpy(), "mask": mask_BT.numpy()}, where)
        wanted_y, got_y = wanted[0][mask_BT], got[0][mask_BT.numpy()]  # masked outputs mean nothing
        _compare(["y", *names], [got_y, *got[1:]], [wanted_y, *wanted[1:]], tolerance, where)
    return _written(graph, path)


def export_step(
    model: nn.Module, path: str | Path | None = None, *, example: Tensor, opset: int = OPSET
) -> bytes:
    """One observation at a time, the state handed in and out. Arguments and errors as in `export_window`.

    The check chains 50 steps through the graph, feeding its own states back.
    """
    step = _Step(_frozen(model))
    before = [f"state.{name}" for name in flatten(step.like)]
    after = [f"next.{name}" for name in flatten(step.like)]
    free = {0: "batch"}

    def start(batch: int) -> list[Tensor]:
        return list(flatten(step.model.init_state(batch)).values())

    traced = (_resized(example, STEP_TRACE, 1)[:, 0], start(STEP_TRACE))
    graph = _graph(
        step, traced, dict.fromkeys(["x", *before], free), dict.fromkeys(["y", *after], free), opset
    )
    session = _session(graph)
    for batch, loudness, tolerance in _probes(STEP_PROBES):
        x_BTF = _resized(example, batch, STEP_CHAIN) * loudness
        state = start(batch)
        fed = [tensor.numpy() for tensor in state]
        for t in range(STEP_CHAIN):
            with torch.no_grad():
                y_BO, *state = step(x_BTF[:, t], state)
            where = f"step graph at batch {batch}, step {t + 1}, inputs times {loudness:.0f}"
            got_y, *fed = _run(
                session, {"x": x_BTF[:, t].numpy()} | dict(zip(before, fed, strict=True)), where
            )
            _compare(["y", *after], [got_y, *fed], [y_BO, *state], tolerance, where)
    return _written(graph, path)


def export_tabular(
    model: nn.Module, path: str | Path | None = None, *, example: Tensor, opset: int = OPSET
) -> bytes:
    """A module from x_BF to y_BO as a graph. Arguments and errors as in `export_window`, with `example` of (B, F)."""
    tabular = _Tabular(_frozen(model))
    free = {0: "batch"}
    graph = _graph(tabular, (_resized(example, STEP_TRACE),), {"x": free}, {"y": free}, opset)
    session = _session(graph)
    for batch, loudness, tolerance in _probes(STEP_PROBES):
        x_BF = _resized(example, batch) * loudness
        with torch.no_grad():
            wanted = tabular(x_BF)
        where = f"tabular graph at batch {batch}, inputs times {loudness:.0f}"
        _compare(["y"], _run(session, {"x": x_BF.numpy()}, where), wanted, tolerance, where)
    return _written(graph, path)


def write_manifest(folder: str | Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Write `manifest.json` beside the graphs of a bundle and return it.

    Added to `manifest`: `remem` and `opset` versions, `versions` of the exporting libraries, `state` (name,
    shape of one row, dtype of every state tensor of step.onnx), `state_bytes` of one row, and `files` (name
    to sha256).

    Raises:
        ExportError: where the folder holds no ONNX file.
    """
    folder = Path(folder)
    graphs = sorted(folder.glob("*.onnx"))
    if not graphs:
        raise ExportError(f"{folder}: no .onnx file to describe; export the graphs first")
    proto = onnx.load(folder / "step.onnx" if (folder / "step.onnx") in graphs else graphs[0])
    state = [
        {
            "name": value.name.removeprefix("state."),
            "shape": [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:],
            "dtype": str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)),
        }
        for value in proto.graph.input
        if value.name.startswith("state.")
    ]
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name != "manifest.json"]
    full = {
        **manifest,
        "remem": version("remem"),
        "opset": next(entry.version for entry in proto.opset_import if entry.domain == ""),
        "versions": {name: version(name) for name in ("torch", "onnx", "onnxscript")},
        "state": state,
        "state_bytes": sum(int(np.prod(part["shape"])) * np.dtype(part["dtype"]).itemsize for part in state),
        "files": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
    }
    _write(folder / "manifest.json", (json.dumps(full, indent=2, sort_keys=True) + "\n").encode())
    return full


class _Window(nn.Module):
    def __init__(self, model: SequenceLayer) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        y_BTO, state = self.model.forward(x, mask_BT=mask)
        return y_BTO, *flatten(state).values()


class _Step(nn.Module):
    def __init__(self, model: SequenceLayer) -> None:
        super().__init__()
        self.model = model
        self.like: State = model.init_state(1)

    def forward(self, x: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, ...]:
        y_BO, after = self.model.step(
            x, unflatten(self.like, dict(zip(flatten(self.like), state, strict=True)))
        )
        return y_BO, *flatten(after).values()


class _Tabular(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.model(x),)


def _frozen(model: nn.Module) -> Any:
    return copy.deepcopy(model).cpu().float().eval().requires_grad_(False)


def _resized(example: Tensor, *sizes: int) -> Tensor:
    """The example repeated or cut along its leading axes to `sizes`."""
    example = example.detach().cpu().float()
    for axis, size in enumerate(sizes):
        example = example.index_select(axis, torch.arange(size) % example.shape[axis])
    return example


def _graph(
    module: nn.Module,
    args: tuple[Any, ...],
    inputs: dict[str, dict[int, str]],
    outputs: dict[str, dict[int, str]],
    opset: int,
) -> bytes:
    """Trace `module` and return the bytes of a clean graph with the given free axes."""
    # a cached dispatch makes the second export of an LSTM in one process freeze its length
    torch.ops.aten.lstm.input._dispatch_cache.clear()
    module.eval()
    axes = iter(inputs.values())
    dynamic = tuple([next(axes) for _ in arg] if isinstance(arg, list) else next(axes) for arg in args)
    with torch.no_grad(), _quiet():
        example_outputs = module(*args)
        try:
            program = torch.onnx.export(
                module,
                args,
                dynamo=True,
                # names, not Dim objects: these raise where a Dim is fixed without a word
                dynamic_shapes=dynamic,
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=opset,
                verbose=False,
            )
        except Exception as error:  # the exporter wraps whatever the model raised
            raise ExportError(f"torch cannot trace the model: {_first_line(error)}. {ADVICE}") from error
    if program is None:
        raise ExportError("torch.onnx.export gave no program")
    fill_in(program.model, module)
    ClearMetadataAndDocStringPass()(program.model)  # stack traces with paths of this machine
    for value, (name, free) in zip(program.model.graph.inputs, inputs.items(), strict=True):
        frozen = [
            axis for axis in free if value.shape is None or not isinstance(value.shape[axis], ir.SymbolicDim)
        ]
        if frozen:
            raise ExportError(f"input {name}: axes {frozen} were frozen to {value.shape}; wanted {free}")
    for value, example, free in zip(
        program.model.graph.outputs, example_outputs, outputs.values(), strict=True
    ):
        # an LSTM leaves the traced length in its annotation
        value.shape = ir.Shape([free.get(axis, size) for axis, size in enumerate(example.shape)])
    proto = program.model_proto
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString(deterministic=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes on itself (axis names it merged, torchvision it did not find)."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _run(
    session: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray], where: str
) -> list[np.ndarray]:
    try:
        return session.run(None, inputs)
    except Exception as error:  # onnxruntime's errors have no common class
        raise ExportError(f"{where}: onnxruntime fails with {_first_line(error)}. {ADVICE}") from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"


def _probes(sizes: Sequence[Any]) -> list[tuple[Any, float, float]]:
    """Each size with the factor on its inputs and the tolerance: the last one is loud."""
    return [(size, 1.0, TOLERANCE) for size in sizes[:-1]] + [
        (size, LOUD, LOUD_TOLERANCE) for size in sizes[-1:]
    ]


def _compare(
    names: Sequence[str], got: Sequence[np.ndarray], wanted: Sequence[Tensor], tolerance: float, where: str
) -> None:
    for name, array, tensor in zip(names, got, wanted, strict=True):
        if array.shape != tensor.shape:
            raise ExportError(
                f"{where}: {name} has shape {array.shape}, the model gives {tuple(tensor.shape)}"
            )
        differs = (
            array != tensor.numpy()
        )  # equal infinities, as a loud input may give, are equal; NaN never is
        a, b = (numbers[differs].astype(np.float64) for numbers in (array, tensor.numpy()))
        error = float(np.max(np.abs(a - b) / np.maximum(1.0, np.abs(b)), initial=0.0))
        if not error <= tolerance:
            raise ExportError(
                f"{where}: {name} differs from the model by {error:.1e} (allowed {tolerance:.0e}). {ADVICE}"
            )


def _written(graph: bytes, path: str | Path | None) -> bytes:
    if path is not None:
        _write(Path(path), graph)
    return graph


def _write(path: Path, content: bytes) -> None:
    """All or nothing: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would keep a server from reading a bundle
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise

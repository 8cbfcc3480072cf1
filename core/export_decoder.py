"""One graph from problems to answers: a module that decodes with `graph=True`, checked against its Python loop.

Tensors in and out have a free batch, and mostly a free number of points. The graph is run in onnxruntime on problems
of sizes that were never traced, and refused where its answers are not those of torch.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch import Tensor

from .export import OPSET, TOLERANCE, _compare, _graph, _run, _session, _written
from .half import round_to_half, stored_half

Axes = Mapping[str, Mapping[int, str]]


class Decoder(Protocol):
    """A module whose `forward(*inputs, graph=...)` decodes in either loop, and gives a tuple of tensors."""

    def __call__(self, *inputs: Tensor, graph: bool = True) -> tuple[Tensor, ...]: ...


def export_decoder(
    decoder: Any,
    path: str | Path | None = None,
    *,
    inputs: Axes,
    outputs: Axes,
    example: Sequence[Tensor],
    probes: Sequence[Sequence[Tensor]],
    opset: int = OPSET,
    half: bool = False,
) -> bytes:
    """The decoder as an ONNX graph that holds its loop.

    Args:
        decoder: a module that is a `Decoder`, by default with graph=True; it is copied to the CPU and set to eval.
        path: where to write the graph; None only returns it.
        inputs: names of the inputs in the order of `forward`, each with its free axes, as {"xy": {0: "batch"}}.
        outputs: likewise of the outputs.
        example: inputs to trace with; sizes of free axes at least 2 and all different.
        probes: other inputs, of other sizes, on which the graph must give the answers of the Python loop: whole
            numbers alike, others to `TOLERANCE`.
        opset: ONNX operator set.
        half: weights are rounded to half precision, in the decoder's copy too, and stored so.

    Returns:
        The bytes of the ONNX file.

    Raises:
        ExportError: where an axis is not free, or graph and decoder differ on a probe.
    """
    decoder = copy.deepcopy(decoder).cpu().float().eval().requires_grad_(False)
    if half:
        round_to_half(decoder)
    graph = _graph(decoder, tuple(example), _plain(inputs), _plain(outputs), opset)
    graph = _without_leftovers(graph)
    if half:
        graph = stored_half(graph)
    session = _session(graph)
    for probe in probes:
        where = f"graph of {type(decoder).__name__} at {[tuple(tensor.shape) for tensor in probe]}"
        with torch.no_grad():
            wanted = decoder(*probe, graph=False)
        got = _run(session, {name: t.numpy() for name, t in zip(inputs, probe, strict=True)}, where)
        _compare(list(outputs), got, wanted, TOLERANCE, where)
    return _written(graph, path)


def _plain(axes: Axes) -> dict[str, dict[int, str]]:
    return {name: dict(free) for name, free in axes.items()}


def _without_leftovers(graph: bytes) -> bytes:
    """Without constants of a loop's body that the exporter also left outside, which onnxruntime warns of."""
    model = ir.serde.deserialize_model(onnx.load_from_string(graph))
    RemoveUnusedNodesPass()(model)
    proto = ir.serde.serialize_model(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString(deterministic=True)

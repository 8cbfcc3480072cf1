"""Weights of a graph stored in half precision, where that changes no bit of them: half the bytes, the same answers."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

SMALL = 64
"""Tensors of fewer numbers stay as they are."""


def round_to_half(module: nn.Module) -> None:
    """Round all parameters, in place, to numbers that half precision holds; their type stays."""
    for parameter in module.parameters():
        parameter.data = parameter.data.half().to(parameter.dtype)


def stored_half(graph: bytes) -> bytes:
    """The graph with every float32 initializer that half precision holds exactly stored as such, and cast on loading.

    onnxruntime folds the casts into constants when a session is made, so they cost nothing after that.
    """
    model = onnx.load_from_string(graph)
    _store(model.graph)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _store(graph: onnx.GraphProto) -> None:
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        full = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = full.astype(np.float16)
        if full.size < SMALL or not np.array_equal(half.astype(np.float32), full):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _store(attribute.g)

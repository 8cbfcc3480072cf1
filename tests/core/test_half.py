"""Weights stored in half precision: fewer bytes, and not one bit of difference in the answers."""

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from remem.core.export import export_tabular
from remem.core.half import round_to_half, stored_half


def test_half_the_bytes_the_same_answers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 3))
    full = export_tabular(model, example=torch.randn(3, 8))
    round_to_half(model)
    rounded = export_tabular(model, example=torch.randn(3, 8))
    small = stored_half(rounded)
    assert len(small) < 0.6 * len(full)
    x = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    answers = [
        onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for graph in (rounded, small, full)
    ]
    assert np.array_equal(answers[0], answers[1])
    assert 0 < np.abs(answers[0] - answers[2]).max() < 1e-2


def test_what_half_cannot_hold_stays():
    torch.manual_seed(0)
    model = nn.Linear(16, 16)
    graph = export_tabular(model, example=torch.randn(3, 16))
    types = {t.data_type for t in onnx.load_from_string(stored_half(graph)).graph.initializer}
    assert onnx.TensorProto.FLOAT16 not in types

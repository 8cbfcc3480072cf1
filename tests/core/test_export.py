"""Graphs that agree are written, graphs that do not are refused and leave no file."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from remem.core import Aaren, ConformalInterval, SequenceModel, Standardize
from remem.core.export import ExportError, export_step, export_tabular, export_window, write_manifest
from remem.core.state import flatten

EXAMPLE = torch.linspace(-1, 2, 2 * 25 * 3).view(2, 25, 3).sin()


def model() -> SequenceModel:
    torch.manual_seed(0)
    x_BTF = EXAMPLE.where(EXAMPLE > -0.8, torch.nan)
    net = SequenceModel(3, 1, layer=Aaren, d_model=8, num_layers=1, preprocess=Standardize(["a", "b", "c"]))
    net.fit_preprocess(x_BTF)
    net.calibration = ConformalInterval().fit(torch.zeros(99), torch.linspace(-0.5, 0.5, 99).exp())
    return net


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    export_window(model(), folder / "window.onnx", example=EXAMPLE)
    export_step(model(), folder / "step.onnx", example=EXAMPLE)
    write_manifest(folder, {"app": "battery", "output": ["rul", "lo", "hi"]})
    return folder


def session(file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def test_names_shapes_and_preprocessing_are_inside(bundle: Path) -> None:
    window, step = session(bundle / "window.onnx"), session(bundle / "step.onnx")
    names = list(flatten(model().init_state(1)))
    assert [(i.name, i.shape, i.type) for i in window.get_inputs()] == [
        ("x", ["batch", "time", 3], "tensor(float)"),
        ("mask", ["batch", "time"], "tensor(bool)"),
    ]
    assert [o.name for o in window.get_outputs()] == ["y", *(f"state.{name}" for name in names)]
    assert [i.name for i in step.get_inputs()] == ["x", *(f"state.{name}" for name in names)]
    assert [o.name for o in step.get_outputs()] == ["y", *(f"next.{name}" for name in names)]
    assert window.get_outputs()[0].shape == ["batch", "time", 3]
    raw = np.full((2, 4, 3), np.nan, np.float32)
    y, *_ = window.run(None, {"x": raw, "mask": np.ones((2, 4), bool)})
    assert (y[..., 1] < y[..., 0]).all()
    assert (y[..., 0] < y[..., 2]).all()


def test_fifty_steps_in_onnxruntime_are_fifty_steps_in_torch(bundle: Path) -> None:
    step, net = session(bundle / "step.onnx"), model().eval()
    random = torch.Generator().manual_seed(5)
    state = net.init_state(4)
    fed = {f"state.{name}": tensor.numpy() for name, tensor in flatten(state).items()}
    for _ in range(50):
        x_BF = torch.randn(4, 3, generator=random)
        with torch.no_grad():
            y_BO, state = net.step(x_BF, state)
        y, *after = step.run(None, {"x": x_BF.numpy()} | fed)
        fed = dict(zip(fed, after, strict=True))
        np.testing.assert_allclose(y, y_BO, rtol=1e-5, atol=1e-5)
    for name, tensor in flatten(state).items():
        np.testing.assert_allclose(fed[f"state.{name}"], tensor, rtol=1e-5, atol=1e-5)


def test_2000_steps_of_a_window_at_once(bundle: Path) -> None:
    window, net = session(bundle / "window.onnx"), model().eval()
    x_BTF = torch.randn(1, 2000, 3, generator=torch.Generator().manual_seed(6))
    y, *_ = window.run(None, {"x": x_BTF.numpy(), "mask": np.ones((1, 2000), bool)})
    with torch.no_grad():
        np.testing.assert_allclose(y, net(x_BTF)[0], rtol=1e-5, atol=1e-5)


def test_manifest(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["app"] == "battery"
    assert manifest["opset"] == 20
    assert manifest["state"][0] == {"name": "blocks.0.m", "shape": [4], "dtype": "float32"}
    assert manifest["state_bytes"] == 4 * (4 + 4 + 8)
    assert set(manifest["files"]) == {"window.onnx", "step.onnx"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == digest


def test_no_path_of_this_machine_and_no_stray_file(bundle: Path) -> None:
    assert sorted(file.name for file in bundle.iterdir()) == ["manifest.json", "step.onnx", "window.onnx"]
    for name in ("window.onnx", "step.onnx"):
        proto = onnx.load(bundle / name)
        assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)
        assert b".py" not in (bundle / name).read_bytes()


def test_same_bytes_in_another_process(tmp_path: Path) -> None:
    script = (
        "import sys, torch; from remem.core import Aaren; from remem.core.export import export_step\n"
        "torch.manual_seed(0); export_step(Aaren(8), sys.argv[1], example=torch.linspace(-1, 1, 40).view(1, 5, 8))"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "other.onnx"], check=True, cwd=tmp_path)
    torch.manual_seed(0)
    here = export_step(Aaren(8), example=torch.linspace(-1, 1, 40).view(1, 5, 8))
    assert (tmp_path / "other.onnx").read_bytes() == here


def test_export_leaves_the_model_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).double().train()
    graph = export_tabular(net, example=EXAMPLE[:, 0])
    assert net.training
    assert all(p.requires_grad and p.dtype == torch.float64 for p in net.parameters())
    y, *_ = onnxruntime.InferenceSession(graph).run(None, {"x": np.ones((7, 3), np.float32)})
    np.testing.assert_allclose(y, net[0](torch.ones(7, 3, dtype=torch.float64)).detach(), atol=1e-6)


class Doubling(Aaren):
    """Adds a running sum made by doubling; torch.export unrolls it for the traced length and says nothing."""

    def forward(self, x_BTD: Tensor, state: Any = None, *, mask_BT: Tensor | None = None) -> Any:
        y_BTD, state = super().forward(x_BTD, state, mask_BT=mask_BT)
        shift = 1
        while shift < x_BTD.shape[1]:
            y_BTD = y_BTD + F.pad(y_BTD, (0, 0, shift, 0))[:, : x_BTD.shape[1]]
            shift *= 2
        return y_BTD, state


class Branches(Aaren):
    """Treats one length apart, so that the trace would be for that length alone."""

    def forward(self, x_BTD: Tensor, state: Any = None, *, mask_BT: Tensor | None = None) -> Any:
        return super().forward(-x_BTD if x_BTD.shape[1] == 37 else x_BTD, state, mask_BT=mask_BT)


class ForgetfulStep(Aaren):
    """A step that loses a little of what it saw, in the exported graph only."""

    def step(self, x_BD: Tensor, state: Any, *, mask_B: Tensor | None = None) -> Any:
        if torch.compiler.is_exporting():
            state = state._replace(w=state.w * 0.999)
        return super().step(x_BD, state, mask_B=mask_B)


@pytest.mark.parametrize(
    ("layer", "export", "message"),
    [
        (Doubling, export_window, "window graph at .batch, time. = .5, .*y differs from the model"),
        (Branches, export_window, "cannot trace the model"),
        (ForgetfulStep, export_step, "step graph at batch 1, step 2, .* differs from the model"),
    ],
)
def test_graphs_that_differ_are_refused(layer: type, export: Any, message: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "graph.onnx"
    path.write_text("the graph of yesterday")
    with pytest.raises(ExportError, match=message):
        export(layer(8), path, example=torch.randn(2, 25, 8))
    assert path.read_text() == "the graph of yesterday"
    assert list(tmp_path.iterdir()) == [path]


def test_manifest_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no \.onnx file"):
        write_manifest(tmp_path, {})

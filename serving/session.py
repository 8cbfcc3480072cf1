"""onnxruntime sessions: the provider follows from the hardware, never from what the wheel was built with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort

Device = Literal["auto", "cpu", "cuda"]

_GPU_NODES = ("/dev/nvidia0", "/dev/dxg")  # a driver on Linux; the same under WSL
_WARNING, _ERROR = 2, 3


def gpu_is_there() -> bool:
    """Whether this machine shows an NVIDIA GPU. onnxruntime-gpu lists CUDA as available on machines without one."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and any(os.path.exists(node) for node in _GPU_NODES)


def open_session(path: str | Path, *, device: Device = "auto", threads: int = 0) -> ort.InferenceSession:
    """A session over one graph file.

    Args:
        path: an .onnx file.
        device: "auto" takes the GPU where there is one that works, else the CPU; "cuda" insists on it.
        threads: threads of one operator; 0 lets onnxruntime choose. Use 1 for graphs of a few microseconds.

    Raises:
        ValueError: where `device` is unknown, or "cuda" was asked for and cannot be had.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device is {device!r}; use 'auto', 'cpu' or 'cuda'")
    wants_gpu = device == "cuda" or (device == "auto" and gpu_is_there())
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERROR if wants_gpu else _WARNING
    providers: Sequence[Any] = ["CPUExecutionProvider"]
    if wants_gpu:
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()
        # TF32 keeps ten bits of the mantissa: too few for graphs that are held to 1e-5
        providers = [("CUDAExecutionProvider", {"use_tf32": 0}), *providers]
    session = ort.InferenceSession(str(path), options, providers=providers)
    if device == "cuda" and session.get_providers()[0] != "CUDAExecutionProvider":
        raise ValueError(
            f"{path}: device='cuda' was asked for, but onnxruntime {ort.__version__} runs this graph on "
            f"{session.get_providers()[0]}; install onnxruntime-gpu with its CUDA libraries, or use device='auto'"
        )
    return session

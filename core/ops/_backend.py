"""Which form of an operation runs: the one place where that is chosen.

- "auto": the fastest that is there, and what can be traced while torch exports.
- "naive": the loop over time, the oracle.
- "scan": the parallel form in plain torch, on any device.
- "fused": one pass in machine code (CPU, numba).
- "triton": the kernels of `core.kernels` (CUDA; on a CPU with TRITON_INTERPRET=1, to try them).

"fused" or "triton" asked for but missing is an error, never something slower; operations that have no such form run in
the form that "auto" would choose.

A graph that torch exports must hold for every length and in every runtime, so no backend changes what is exported. The
environment variable REMEM_BACKEND holds for a process, `use_backend` for a block of code.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import Literal

import torch
from torch import Tensor

from .scan_operation import looked_into

BACKENDS = ("auto", "naive", "scan", "fused", "triton")


def asked_by_environment() -> str:
    return os.environ.get("REMEM_BACKEND", "auto")


_asked = asked_by_environment()


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run a block of code with one of `BACKENDS`, in all threads.

    Raises:
        ValueError: where `name` is unknown.
    """
    global _asked  # noqa: PLW0603  (the one switch)
    before, _asked = _asked, _known(name, "use_backend")
    try:
        yield
    finally:
        _asked = before


def softmax_form(v: Tensor, *, fits: bool) -> Literal["naive", "parallel", "blocked", "fused", "triton"]:
    """The form of `softmax_scan` for values `v`: "naive", "parallel", "blocked", "fused" or "triton".

    Args:
        v: the values.
        fits: nothing about the call needs more than the fused and triton forms have (`scan_operation.fits`).
    """
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return "blocked"
    asked = _known(_asked, "REMEM_BACKEND")
    if asked == "auto":
        if fits and _on_gpu(v):
            return "triton"
        fused = fits and v.device.type == "cpu" and not torch.jit.is_tracing() and not missing()
        return "fused" if fused else "parallel"
    if asked in ("fused", "triton"):
        return "fused" if asked == "fused" else "triton"
    return "naive" if asked == "naive" else "parallel"


def takes_kernel(x: Tensor, *, fits: bool = True) -> bool:
    """Whether an operation that has a kernel and a form in torch runs the kernel, for tensors like `x`.

    Args:
        x: what is computed with.
        fits: whether the kernel takes tensors of these shapes.

    Raises:
        ValueError: where kernels are asked for but cannot run on `x`.
    """
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return False
    asked = _known(_asked, "REMEM_BACKEND")
    if asked == "triton":
        require_triton(x)
        if x.dtype != torch.float32:
            raise ValueError(
                f"backend 'triton': wanted states in float32, got {x.dtype}; use 'auto' or 'scan'"
            )
    if not fits or looked_into():
        return False
    return asked == "triton" or (asked == "auto" and x.dtype == torch.float32 and _on_gpu(x))


def require_fused(v: Tensor) -> None:
    """Raises:
    ValueError: where the fused form cannot run on `v`.
    """
    if v.device.type != "cpu":
        raise ValueError(f"backend 'fused': wanted tensors on the CPU, got {v.device}; use 'auto' or 'scan'")
    if missing():
        raise ValueError(f"backend 'fused': numba cannot be loaded ({missing()}); install it, or use 'auto'")


def require_triton(x: Tensor) -> None:
    """Raises:
    ValueError: where kernels cannot run on `x`.
    """
    if missing_triton():
        raise ValueError(
            f"backend 'triton': triton cannot run ({missing_triton()}); install remem[kernels], or use 'auto'"
        )
    if x.device.type != "cuda" and not (x.device.type == "cpu" and interpreted()):
        raise ValueError(
            f"backend 'triton': wanted tensors on a CUDA device, got {x.device}; use 'auto' or 'scan', or to try the"
            " kernels on a CPU set TRITON_INTERPRET=1 before Python starts"
        )


def _on_gpu(x: Tensor) -> bool:
    """Whether "auto" means kernels."""
    return x.device.type == "cuda" and not torch.jit.is_tracing() and not missing_triton()


@torch.compiler.assume_constant_result
def missing_triton() -> str:
    """Why there are no kernels on this machine; empty where there are."""
    return _missing_triton()


@cache
def _missing_triton() -> str:
    try:
        import_module("..kernels.softmax_scan_triton", __package__)
    except ImportError as error:
        return str(error)
    # products of float32 matrices in three parts, which kernels need, came with this generation
    if torch.cuda.is_available() and (torch.version.hip or torch.cuda.get_device_capability() < (8, 0)):
        return "it wants an NVIDIA GPU of compute capability 8.0 or more here"
    return ""


@torch.compiler.assume_constant_result
def interpreted() -> bool:
    """Whether kernels run on the CPU, step by step in Python."""
    return import_module("..kernels.softmax_scan_triton", __package__).INTERPRETED


@torch.compiler.assume_constant_result
def missing() -> str:
    """Why there is no machine code on this machine; empty where there is."""
    return _missing()


@cache
def _missing() -> str:
    try:
        import_module(".fused_loops", __package__)
    except ImportError as error:
        return str(error)
    return ""


def _known(name: str, where: str) -> str:
    if name not in BACKENDS:
        near = get_close_matches(name, BACKENDS, 1)
        raise ValueError(
            f"{where}: {name!r} is unknown; use one of {list(BACKENDS)}"
            + (f" (did you mean {near[0]!r}?)" if near else "")
        )
    return name

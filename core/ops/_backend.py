"""Which form of an operation runs: the one place where that is chosen.

- "auto": the fastest that is there, and what can be traced while torch exports.
- "naive": the loop over time, the oracle.
- "scan": the parallel form in plain torch, on any device.
- "fused": one pass in machine code (CPU, numba). Asked for but missing is an error, never something slower.

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

BACKENDS = ("auto", "naive", "scan", "fused")


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


def softmax_form(v: Tensor, *, fits: bool) -> Literal["naive", "parallel", "blocked", "fused"]:
    """The form of `softmax_scan` for values `v`: "naive", "parallel", "blocked" or "fused".

    Args:
        v: the values.
        fits: nothing about the call needs more than the fused form has (`fused_scan.fits`).
    """
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return "blocked"
    asked = _known(_asked, "REMEM_BACKEND")
    if asked == "auto":
        fused = fits and v.device.type == "cpu" and not torch.jit.is_tracing() and not missing()
        return "fused" if fused else "parallel"
    if asked == "fused":
        return "fused"
    return "naive" if asked == "naive" else "parallel"


def require_fused(v: Tensor) -> None:
    """Raises:
    ValueError: where the fused form cannot run on `v`.
    """
    if v.device.type != "cpu":
        raise ValueError(f"backend 'fused': wanted tensors on the CPU, got {v.device}; use 'auto' or 'scan'")
    if missing():
        raise ValueError(f"backend 'fused': numba cannot be loaded ({missing()}); install it, or use 'auto'")


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

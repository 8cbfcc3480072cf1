"""`remem bench kernels`: the kernels beside plain torch and beside the memory of the GPU, and steps in CUDA graphs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.layers.landmark import LandmarkAttention
from ..core.ops._backend import missing_triton, use_backend
from ..core.ops.delta_rule import delta_rule
from ..core.ops.softmax_scan import softmax_scan
from ..core.ops.titans import MomentumState, titans
from .memory_layers import LAYERS

HEADS, WIDTH, BATCH = 8, 64, 16
LENGTHS = (512, 1024, 2048, 4096, 8192, 16_384)

Row = dict[str, object]
Run = Callable[[], Any]


def kernels(*, seeds: int, root: str | None, quick: bool) -> list[Row]:
    """Milliseconds on the GPU, each the least of several runs after one that compiles, and the name of the GPU.

    - "copy": a tensor onto another, bytes read and written. "aaren forward": the same bytes, v in and o out, as a
      part of what a copy reaches (B 16, T 16,384, 8 heads of 64).
    - "aaren both": forward and backward beside causal attention of torch with queries and keys of the same size.
    - memories and landmark attention: forward and backward by kernels beside the form in torch.
    - "step": microseconds a step of each layer, captured in a CUDA graph, width 64, batch 16.

    `seeds`: runs at least; `root` is not used.

    Raises:
        ValueError: where there is no CUDA device, or no triton.
    """
    if not torch.cuda.is_available():
        raise ValueError("bench kernels: no CUDA device here; run it on a machine with one")
    if missing_triton():
        raise ValueError(f"bench kernels: triton cannot run ({missing_triton()}); install remem[kernels]")
    return measure(torch.device("cuda"), runs=max(10, seeds), lengths=LENGTHS[: 2 if quick else None])


def measure(
    device: torch.device,
    *,
    runs: int,
    lengths: tuple[int, ...] = LENGTHS,
    batch: int = BATCH,
    heads: int = HEADS,
    width: int = WIDTH,
) -> list[Row]:
    """The rows of `kernels`; on a CPU small ones, to try the road."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    rows: list[Row] = []

    def tell(row: Row) -> None:
        rows.append({"device": name, **row})
        print(rows[-1], file=sys.stderr)

    for dtype in (torch.float32, torch.bfloat16):
        for row in bandwidth(device, runs, dtype, (batch, lengths[-1], heads, width)):
            tell(row)
        for length in lengths:
            tell(beside_attention(device, runs, dtype, (batch, length, heads, width)))
    length = lengths[len(lengths) // 2]
    for what, problem in memories(device, (batch, length, heads, width)).items():
        tell(beside_torch(device, runs, what, length, *problem))
    if device.type == "cuda":
        for what, layer in LAYERS.items():
            tell(step_in_graph(device, runs, what, layer(WIDTH)))
    return rows


def bandwidth(
    device: torch.device, runs: int, dtype: torch.dtype, shape_BTHD: tuple[int, int, int, int]
) -> list[Row]:
    s, v = _scan_inputs(device, dtype, shape_BTHD)
    to = torch.empty_like(v)
    gigabytes = 2 * v.numel() * v.element_size() / 1e9
    copy_ms = _least_ms(device, lambda: to.copy_(v), runs)
    with torch.no_grad(), use_backend("triton"):
        scan_ms = _least_ms(device, lambda: softmax_scan(s, v), runs)
    what = {"T": shape_BTHD[1], "dtype": _name(dtype)}
    return [
        {"what": "copy", **what, "ms": copy_ms, "gb_per_s": round(1e3 * gigabytes / copy_ms)},
        {
            "what": "aaren forward",
            **what,
            "ms": scan_ms,
            "gb_per_s": round(1e3 * gigabytes / scan_ms),
            "percent_of_copy": round(100 * copy_ms / scan_ms),
        },
    ]


def beside_attention(
    device: torch.device, runs: int, dtype: torch.dtype, shape_BTHD: tuple[int, int, int, int]
) -> Row:
    s, v = (x.requires_grad_() for x in _scan_inputs(device, dtype, shape_BTHD))
    q, k = (torch.randn_like(v).requires_grad_() for _ in range(2))
    to_o = torch.randn_like(v)

    def scan() -> None:
        torch.autograd.grad(softmax_scan(s, v)[0], [s, v], to_o)

    def attention() -> None:
        torch.autograd.grad(F.scaled_dot_product_attention(q, k, v, is_causal=True), [q, k, v], to_o)

    with use_backend("triton"):
        ms = _least_ms(device, scan, runs)
    theirs = _least_ms(device, attention, runs)
    what = {"what": "aaren both", "T": shape_BTHD[1], "dtype": _name(dtype)}
    return {**what, "ms": ms, "attention_ms": theirs, "times_faster": round(theirs / ms, 1)}


def memories(
    device: torch.device, shape_BTHD: tuple[int, int, int, int]
) -> dict[str, tuple[Callable[..., Tensor], list[Tensor]]]:
    """Functions of tensors to one output, and those tensors."""
    batch, length, heads, width = shape_BTHD

    def random(*shape: int) -> Tensor:
        return torch.randn(batch, heads, *shape, device=device)

    q, k, v = (F.normalize(random(length, width), dim=-1) for _ in range(3))
    write, keep, momentum = random(length).sigmoid(), -random(length).exp(), -random(length).exp()
    w, s = random(width, width), random(width, width)
    layer = LandmarkAttention(heads * width, num_heads=heads, block_size=64, budget=16).to(device)
    # every score is a number of its own: memory grows with T, blocks and their tokens
    x_BTD = torch.randn(max(1, batch // 8), min(length, 1024), heads * width, device=device)
    return {
        "delta rule": (lambda q, k, v, write, w: delta_rule(q, k, v, write, w)[0], [q, k, v, write, w]),
        "titans": (
            lambda q, k, v, write, keep, momentum, w, s: titans(
                q, k, v, write, keep, momentum, MomentumState(w, s)
            )[0],
            [q, k, v, write, keep, momentum, w, s],
        ),
        "landmark attention": (lambda x: layer(x)[0], [x_BTD]),
    }


def beside_torch(
    device: torch.device,
    runs: int,
    what: str,
    length: int,
    function: Callable[..., Tensor],
    tensors: list[Tensor],
) -> Row:
    leaves = [x.detach().requires_grad_() for x in tensors]

    def both() -> None:
        y = function(*leaves)
        torch.autograd.grad(y, leaves, torch.ones_like(y))

    found = {}
    for backend in ("triton", "scan"):
        with use_backend(backend):
            found[backend] = _least_ms(device, both, runs)
    row: Row = {"what": what, "T": length, "ms": found["triton"], "torch_ms": found["scan"]}
    return {**row, "times_faster": round(found["scan"] / found["triton"], 1)}


def step_in_graph(device: torch.device, runs: int, what: str, layer: Any) -> Row:
    layer = layer.to(device).eval()
    x_BD = torch.randn(BATCH, WIDTH, device=device)
    with torch.no_grad():
        step = captured_step(layer, layer.init_state(BATCH, device=device), x_BD)
        many = 100

        def steps() -> None:
            for _ in range(many):
                step(x_BD)

        return {"what": f"step, {what}", "us": round(1e3 * _least_ms(device, steps, runs) / many, 1)}


def captured_step(layer: Any, state: Any, x_BD: Tensor) -> Callable[[Tensor], Tensor]:
    """A function from x to y that replays the step of `layer` on the GPU; the state stays there, from call to call."""
    from torch.utils._pytree import tree_leaves, tree_map  # noqa: PLC0415

    x, now = x_BD.clone(), tree_map(torch.clone, state)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # once before, so that nothing is set up while it is recorded
        for _ in range(3):
            layer.step(x, now)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y, after = layer.step(x, now)
        # a new tensor may be a view of an old one: all are read before one is overwritten
        fresh = [t.clone() for t in tree_leaves(after)]
        for old, new in zip(tree_leaves(now), fresh, strict=True):
            old.copy_(new)

    def step(x_BD: Tensor) -> Tensor:
        x.copy_(x_BD)
        graph.replay()
        return y

    return step


def _scan_inputs(
    device: torch.device, dtype: torch.dtype, shape_BTHD: tuple[int, int, int, int]
) -> tuple[Tensor, Tensor]:
    """s_BHT and v_BHTD, lying in memory as behind a linear layer."""
    v = torch.randn(shape_BTHD, device=device, dtype=dtype)
    s = torch.randn(shape_BTHD[:3], device=device)
    return s.transpose(1, 2), v.transpose(1, 2)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _least_ms(device: torch.device, run: Run, runs: int) -> float:
    """The least of several runs, by the clock of the device; the first run compiles and is not counted."""
    run()
    times = []
    for _ in range(runs):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            torch.cuda.synchronize(device)
            times.append(start.elapsed_time(end))
        else:
            begin = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - begin))
    return float(f"{min(times):.4g}")

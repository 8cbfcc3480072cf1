"""`remem bench aaren-scan`: Aaren's parallel form beside causal attention of the same size, on one thread of a CPU."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.ops.softmax_scan import softmax_scan

HEADS, WIDTH, BATCH = 8, 16, 16
LENGTHS = (256, 1024, 4096)
LONG = (16_384, 65_536)
"""Lengths that are only scanned: attention would take minutes."""
SCORE_SCALE = 300.0
ENOUGH = 2.0
"""CPU seconds after which no measurement is repeated."""

Run = Callable[[], Tensor]


def aaren_scan(*, seeds: int, root: str | None, quick: bool) -> list[dict[str, object]]:
    """Rows of length and form: CPU ms forward and backward (least of several runs, one thread), how many times faster
    than attention both passes are, ms to copy inputs and output once, peak MB allocated, and the largest errors.

    Past 32 MB a tensor, memory is new in every run, which costs more than the scan: for copies too. Copies go to new
    memory, as the forward pass writes its output; `copy_in_place_ms` to memory that is there.
    Heads lie as behind a linear layer, (B, T, H, D); in "fused, heads first" as (B, H, T, D). Errors are those of
    float32 at scores of size 300 against float64 (parallel form), for gradients relative to the largest one.
    `seeds`: runs at least; `root` is not used.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = []
        s, v = _inputs(1, 8, requires_grad=True)
        softmax_scan(s, v, form="fused")[0].sum().backward()  # compiles
        for length in LENGTHS[: 1 if quick else None]:
            sdpa = _row(length, BATCH, "attention", seeds, None)
            forms = ("fused", "fused, heads first", "scan", "naive" if length <= 256 else "")
            found = [_row(length, BATCH, form, seeds, sdpa) for form in forms if form]
            rows += [*found, sdpa]
        for length in () if quick else LONG:
            rows.append(_row(length, BATCH, "fused", seeds, None))
    finally:
        torch.set_num_threads(threads)
    return rows


def _row(
    length: int, batch: int, form: str, runs: int, attention: dict[str, object] | None
) -> dict[str, object]:
    forward, leaves = _problem(length, batch, form)
    forward_ms, both_ms = _fastest(forward, leaves, runs)
    row: dict[str, object] = {
        "T": length,
        "B": batch,
        "form": form,
        "forward_ms": round(forward_ms, 3),
        "backward_ms": round(both_ms - forward_ms, 3),
        "ns_per_step_and_head": round(1e6 * both_ms / (length * batch * HEADS), 1),
    }
    if attention is not None:
        theirs = float(attention["forward_ms"]) + float(attention["backward_ms"])  # type: ignore[arg-type]
        row["times_faster_than_attention"] = round(theirs / both_ms, 1)
    else:
        row["times_faster_than_attention"] = 1.0 if form == "attention" else None
    copy_ms, in_place_ms = _copy_ms(forward, leaves, runs)
    row["copy_ms"], row["copy_in_place_ms"] = round(copy_ms, 3), round(in_place_ms, 3)
    row["forward_over_copy"] = round(forward_ms / copy_ms, 2)
    row["peak_mb"] = round(_peak_bytes(forward) / 1e6, 1)
    row["error"], row["gradient_error"] = (None, None) if form == "attention" else _errors(length, form)
    print(row, file=sys.stderr)
    return row


def _inputs(
    batch: int, length: int, *, heads_first: bool = False, scale: float = 1.0, requires_grad: bool = False
) -> tuple[Tensor, Tensor]:
    """s_BHT and v_BHTD."""
    random = torch.Generator().manual_seed(0)
    s = scale * torch.randn(batch, length, HEADS, generator=random).transpose(1, 2)
    v = torch.randn(batch, length, HEADS, WIDTH, generator=random).transpose(1, 2)
    if heads_first:
        s, v = s.contiguous(), v.contiguous()
    return s.requires_grad_(requires_grad), v.requires_grad_(requires_grad)


def _scan(form: str, s: Tensor, v: Tensor) -> Tensor:
    name = {"scan": "parallel", "naive": "naive"}.get(form, "fused")
    return softmax_scan(s, v, form=name)[0]  # type: ignore[arg-type]


def _problem(length: int, batch: int, form: str) -> tuple[Run, list[Tensor]]:
    """The forward pass of `form`, and its inputs."""
    if form == "attention":
        q, k, v = (_inputs(batch, length)[1].clone().requires_grad_() for _ in range(3))
        return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True), [q, k, v]
    s, v = _inputs(batch, length, heads_first="heads first" in form, requires_grad=True)
    return lambda: _scan(form, s, v), [s, v]


def _fastest(forward: Run, leaves: list[Tensor], runs: int) -> tuple[float, float]:
    """CPU ms of the forward pass alone, gradients to come, and of both passes; the least of several runs each."""
    to_o = torch.randn_like(forward().detach())
    forward_ms: list[float] = []
    both_ms: list[float] = []
    since = time.process_time()
    while len(both_ms) < runs or time.process_time() - since < ENOUGH / 4:
        start = time.process_time()
        o = forward()
        middle = time.process_time()
        torch.autograd.grad(o, leaves, to_o)
        end = time.process_time()
        forward_ms.append(1e3 * (middle - start))
        both_ms.append(1e3 * (end - start))
        if time.process_time() - since > ENOUGH and len(both_ms) > 1:
            break
    return min(forward_ms), min(both_ms)


def _copy_ms(forward: Run, leaves: list[Tensor], runs: int) -> tuple[float, float]:
    """CPU ms to copy inputs and output once: into new memory, and into memory that is there."""
    with torch.no_grad():
        sources = [*leaves, forward()]
        targets = [torch.empty_like(x) for x in sources]

        def anew() -> None:
            for source in sources:
                source.clone()

        def in_place() -> None:
            for target, source in zip(targets, sources, strict=True):
                target.copy_(source)

        return _least_ms(anew, runs), _least_ms(in_place, runs)


def _least_ms(run: Callable[[], None], runs: int) -> float:
    times: list[float] = []
    since = time.process_time()
    while len(times) < runs or time.process_time() - since < ENOUGH / 20:
        start = time.process_time()
        run()
        times.append(1e3 * (time.process_time() - start))
    return min(times)


def _peak_bytes(forward: Run) -> int:
    """Most bytes of tensors alive at once in both passes, inputs and the gradient to the output not counted."""
    to_o = torch.ones_like(forward().detach())
    gc.collect()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as seen:
        forward().backward(to_o)
    now = most = 0
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def _errors(length: int, form: str) -> tuple[float, float]:
    """Largest error of the outputs, and of the gradients relative to the largest, at scores of size 300."""
    s, v = _inputs(1, length, heads_first="heads first" in form, scale=SCORE_SCALE, requires_grad=True)
    exact = [x.detach().double().requires_grad_() for x in (s, v)]
    o, o_exact = _scan(form, s, v), softmax_scan(exact[0], exact[1], form="parallel")[0]
    to_o = torch.randn(o.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(o, [s, v], to_o)
    wanted = torch.autograd.grad(o_exact, exact, to_o.double())
    worst = max(
        float((a - b).abs().max() / b.abs().max().clamp(min=1.0)) for a, b in zip(found, wanted, strict=True)
    )
    return float(f"{float((o - o_exact).detach().abs().max()):.1e}"), float(f"{worst:.1e}")

"""`softmax_scan` on a GPU: a torch operation around the programs of `softmax_scan_triton`.

The twin of `ops/fused_scan.py`; how both are differentiated, traced and compiled is in `ops/scan_operation.py`. Kept
for the way back are the output and two numbers a step. Inputs are read where they lie, whatever their strides, and in
their own type: no copy is made of the values, and o is written in their type. Exponents and denominators are float64,
what is summed along time is float32 (float64 for float64 values).

Shape legend: B batch, H heads, T time, D value width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.scan_operation import empty_like, scan_operation


def _run_scan(
    s: Tensor,
    v: Tensor,
    m: Tensor,
    u: Tensor,
    w: Tensor,
    decay: Tensor | None,
    mask: Tensor | None,
    by_time: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """o, then m, u, w after the last step, then what the way back needs: (2, B, H, T + 1), at each step how much of the
    mean before stays and the weight of the step itself; first, 1 / u of the state before.

    `by_time`: o is to lie in memory as (B, T, H, D), as values do behind a linear layer; else as (B, H, T, D).
    """
    from .softmax_scan_triton import forward  # noqa: PLC0415  (triton is loaded where it is needed)

    o, m, u, w, kept = _scan_outputs(s, v, m, u, w, decay, mask, by_time, keep)
    if o.numel():
        with torch.cuda.device_of(v):
            forward(s, v, decay, mask, m, u, w, o, kept)
    return o, m, u, w, kept


def _scan_outputs(
    s: Tensor,
    v: Tensor,
    m: Tensor,
    u: Tensor,
    w: Tensor,
    decay: Tensor | None,
    mask: Tensor | None,
    by_time: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The outputs of `_run_scan` before it fills them: o and `kept` empty, m, u, w copied."""
    batch, heads, length = s.shape
    kept = s.new_empty(2, batch, heads, length + 1)
    m, u, w = (x.detach().clone(memory_format=torch.contiguous_format) for x in (m, u, w))
    return empty_like(v, by_time), m, u, w, kept


def _run_backward(
    v: Tensor,
    o: Tensor,
    kept: Tensor,
    mask: Tensor | None,
    u: Tensor,
    w: Tensor,
    to_o: Tensor,
    to_u: Tensor,
    to_w: Tensor,
    by_time: bool,
    decays: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients to s, v, decay (empty where there is none) and to u, w before the first step.

    `u`, `w` are the state after the last step, `to_u` and `to_w` the gradients to it.
    """
    from .softmax_scan_triton import backward  # noqa: PLC0415  (triton is loaded where it is needed)

    to_s, to_v, to_decay, to_u_before, to_w_before = _backward_outputs(
        v, o, kept, mask, u, w, to_o, to_u, to_w, by_time, decays
    )
    if o.numel():
        with torch.cuda.device_of(v):
            backward(v, o, kept, u.contiguous(), to_o, to_s, to_v, to_u_before, to_w_before)
    if decays:
        # a decay at t is felt like higher scores from t on
        later = to_s.double().flip(-1).cumsum(-1).flip(-1)
        later = later - (u * to_u + (w * to_w).sum(-1)).double()[..., None]
        to_decay.copy_(later if mask is None else later.masked_fill(~mask[:, None], 0.0))
    return to_s, to_v, to_decay, to_u_before, to_w_before


def _backward_outputs(
    v: Tensor,
    o: Tensor,
    kept: Tensor,
    mask: Tensor | None,
    u: Tensor,
    w: Tensor,
    to_o: Tensor,
    to_u: Tensor,
    to_w: Tensor,
    by_time: bool,
    decays: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The outputs of `_run_backward` before it fills them: empty, but for copies of `to_u` and `to_w`."""
    to_s = torch.empty_like(kept[0, ..., 1:], memory_format=torch.contiguous_format)
    to_decay = torch.empty_like(to_s) if decays else to_s.new_empty(0)
    to_u, to_w = (x.detach().clone(memory_format=torch.contiguous_format) for x in (to_u, to_w))
    return to_s, empty_like(v, by_time), to_decay, to_u, to_w


triton_scan = scan_operation(
    "softmax_scan_triton", _run_scan, _scan_outputs, _run_backward, _backward_outputs
)
"""o comes in the type of the values and lies in memory as they do."""

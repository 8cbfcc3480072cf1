"""`softmax_scan` on the CPU in one pass each way: a torch operation around the loops of `fused_loops`.

The running softmax is a gated moving average, o_t = o_{t-1} + new_t / u_t (v_t - o_{t-1}), so its gradient is one
reverse scan (equations: `fused_loops.backward`). Kept for it are the output and two numbers a step: O(T D) memory. How
it is differentiated, traced and compiled is in `scan_operation`.

Errors: float32 against float64 at scores of size 300 and T = 4096, outputs 2e-7 and gradients 7e-6
(bench aaren-scan, tests/core/test_fused_scan.py).

Source: Feng et al. 2024, "Attention as an RNN" (arXiv 2405.13956); the way back is derived here.
Shape legend: B batch, H heads, T time, D value width; N, H' rows and heads of an array, N H' = B H.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..state import accumulator_dtype
from .scan_operation import as_shape, empty_like, scan_operation


def fused_scan(
    s_BHT: Tensor,
    v_BHTD: Tensor,
    state: tuple[Tensor, Tensor, Tensor],
    decay_BHT: Tensor | None,
    mask_BT: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """o_BHTD in the accumulator's type and laid out in memory as `v_BHTD` is, and the state m, u, w after it."""
    v_BHTD = as_shape(v_BHTD, accumulator_dtype(v_BHTD.dtype), v_BHTD.shape)
    return _scan(s_BHT, v_BHTD, state, decay_BHT, mask_BT)


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
    """o, then m, u, w after the last step, then what the way back needs: (N, T + 1, H', 2), empty without `keep`.

    `by_time`: o is to lie in memory as (B, T, H, D), as values do behind a linear layer; else as (B, H, T, D).
    """
    from .fused_loops import forward  # noqa: PLC0415  (numba takes half a second to load)

    o, m, u, w, kept = _scan_outputs(s, v, m, u, w, decay, mask, by_time, keep)
    given = (_array(s, by_time), _array(v, by_time), _array(decay, by_time), _mask_array(mask))
    states = (_state_array(m, by_time), _state_array(u, by_time), _state_array(w, by_time))
    forward(*given, *states, _array(o, by_time), kept.numpy())
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
    """The outputs of `_run_scan` before it fills them: o empty, m, u, w copied."""
    batch, heads, length, _ = v.shape
    rows, inner = (batch, heads) if by_time else (batch * heads, 1)
    kept = v.new_empty((rows, length + 1, inner, 2) if keep else (0, 0, 0, 0), dtype=torch.float64)
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
    from .fused_loops import backward  # noqa: PLC0415  (numba takes half a second to load)

    to_s, to_v, to_decay, to_u, to_w = _backward_outputs(
        v, o, kept, mask, u, w, to_o, to_u, to_w, by_time, decays
    )
    given = (_array(v, by_time), _array(o, by_time), kept.detach().numpy(), _mask_array(mask))
    backward(
        *given,
        _state_array(u, by_time),
        _state_array(w, by_time),
        _array(to_o, by_time),
        _state_array(to_u, by_time),
        _state_array(to_w, by_time),
        _array(to_s, by_time),
        _array(to_v, by_time),
        _array(to_decay if decays else None, by_time),
    )
    return to_s, to_v, to_decay, to_u, to_w


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
    to_s = empty_like(v[..., 0], by_time)
    to_decay = empty_like(v[..., 0], by_time) if decays else v.new_empty(0)
    to_u, to_w = (x.detach().clone(memory_format=torch.contiguous_format) for x in (to_u, to_w))
    return to_s, empty_like(v, by_time), to_decay, to_u, to_w


_scan = scan_operation(
    "softmax_scan", _run_scan, _scan_outputs, _run_backward, _backward_outputs, device_types="cpu"
)


def _array(x_BHT_: Tensor | None, by_time: bool) -> np.ndarray:
    """(N, T, H', ...) without gaps: the memory of `x` itself where it lies as `by_time` says. None: nothing."""
    if x_BHT_ is None:
        return np.empty((0, 0, 0), np.float32)  # one type, or the loops are compiled once more
    x = x_BHT_.detach()
    if by_time:
        return x.transpose(1, 2).contiguous().numpy()
    return x.contiguous().flatten(0, 1).unsqueeze(2).numpy()


def _state_array(x_BH_: Tensor, by_time: bool) -> np.ndarray:
    x = x_BH_.detach().contiguous()
    return (x if by_time else x.flatten(0, 1).unsqueeze(1)).numpy()


def _mask_array(mask_BT: Tensor | None) -> np.ndarray:
    return np.empty((0, 0), np.bool_) if mask_BT is None else mask_BT.detach().contiguous().numpy()

"""`softmax_scan` on the CPU in one pass each way: a torch operation around the loops of `fused_loops`.

The running softmax is a gated moving average, o_t = o_{t-1} + new_t / u_t (v_t - o_{t-1}), so its gradient is one
reverse scan (equations: `fused_loops.backward`). Kept for it are the output and two numbers a step: O(T D) memory.

To torch.compile the operation is opaque; tracers see its shapes. Gradients of gradients are those of the parallel form,
computed anew. Errors: float32 against float64 at scores of size 300 and T = 4096, outputs 2e-7 and gradients 7e-6
(bench aaren-scan, tests/core/test_fused_scan.py).

Source: Feng et al. 2024, "Attention as an RNN" (arXiv 2405.13956); the way back is derived here.
Shape legend: B batch, H heads, T time, D value width; N, H' rows and heads of an array, N H' = B H.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from ..state import accumulator_dtype


def fits(v_BHTD: Tensor, state: tuple[Tensor, ...]) -> bool:
    """Whether nothing is lost against plain torch: a wider state, transforms of torch.func, forward derivatives."""
    dtype = accumulator_dtype(v_BHTD.dtype)
    return all(part.dtype == dtype for part in state) and not looked_into()


def fused_scan(
    s_BHT: Tensor,
    v_BHTD: Tensor,
    state: tuple[Tensor, Tensor, Tensor],
    decay_BHT: Tensor | None,
    mask_BT: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """o_BHTD in the accumulator's type and laid out in memory as `v_BHTD` is, and the state m, u, w after it."""
    batch, heads, length, _ = v_BHTD.shape
    dtype = accumulator_dtype(v_BHTD.dtype)
    mask = None if mask_BT is None else mask_BT.expand(batch, length)
    m, u, w = (as_shape(part, dtype, (batch, heads, *part.shape[2:])) for part in state)
    s, v = as_shape(s_BHT, dtype, (batch, heads, length)), as_shape(v_BHTD, dtype, v_BHTD.shape)
    decay = None if decay_BHT is None else as_shape(decay_BHT, dtype, (batch, heads, length))
    inputs = (s, v, m, u, w, decay)
    keep = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    by_time = v_BHTD.transpose(1, 2).is_contiguous()
    # a torch operation made in Python costs 0.1 ms more a call: it is there for those who trace
    scan = _scan if traced(v_BHTD) else _Scan.apply if keep else _run_scan
    o_BHTD, m_BH, u_BH, w_BHD, _ = scan(*inputs, mask, by_time, keep)
    return o_BHTD, m_BH.detach(), u_BH, w_BHD  # m is a choice of units: see softmax_scan


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


def remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.by_time, ctx.keep = inputs
    ctx.set_materialize_grads(False)
    if ctx.keep:
        ctx.save_for_backward(*tensors, *output)


def gradients(
    run_backward: Callable[..., tuple[Tensor, ...]], ctx: Any, *to: Tensor | None
) -> tuple[Any, ...]:
    """Gradients to the inputs of `_run_scan` from those to its outputs."""
    s, v, m, u, w, decay, mask, o, m_end, u_end, w_end, kept = ctx.saved_tensors
    ends = ((o, to[0]), (u_end, to[2]), (w_end, to[3]))
    to_ends = [torch.zeros_like(end) if given is None else given for end, given in ends]
    if torch.is_grad_enabled():  # somebody will differentiate the gradients
        return *_differentiable((s, v, m, u, w, decay), mask, m_end, to_ends), None, None, None
    to_s, to_v, to_decay, to_u, to_w = run_backward(
        v, o, kept, mask, u_end, w_end, *to_ends, ctx.by_time, decay is not None
    )
    to_m = u * to_u + (w * to_w).sum(-1)  # the state stands for u e^m and w e^m
    return to_s, to_v, to_m, to_u, to_w, None if decay is None else to_decay, None, None, None


def _differentiable(
    inputs: tuple[Tensor | None, ...], mask: Tensor | None, m_end: Tensor, to_ends: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """The gradients to `inputs` by way of the parallel form, with a graph behind them."""
    from .softmax_scan import SoftmaxState, softmax_scan  # noqa: PLC0415  (which imports this file)

    # views: an input that depends on another is not to hand its gradient on to that one here
    own: list[Any] = [None if x is None else x.view_as(x) for x in inputs]
    s, v, m, u, w, decay = own
    o, end = softmax_scan(s, v, SoftmaxState(m, u, w), decay_BHT=decay, mask_BT=mask, form="parallel")
    unit = torch.exp(end.m - m_end)  # the other form may have rounded m to other units
    wanted = [x for x in own if x is not None and x.requires_grad]
    found = iter(
        torch.autograd.grad(
            (o, end.u * unit, end.w * unit[..., None]), wanted, to_ends, create_graph=True, allow_unused=True
        )
    )
    return tuple(next(found) if x is not None and x.requires_grad else None for x in own)


class _Scan(torch.autograd.Function):
    """`_run_scan` with its gradients."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        output = _run_scan(*inputs)
        remember(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *to: Tensor | None) -> tuple[Any, ...]:
        return gradients(_run_backward, ctx, *to)


_scan = torch.library.custom_op("remem::softmax_scan", _run_scan, mutates_args=(), device_types="cpu")
_scan_backward = torch.library.custom_op(
    "remem::softmax_scan_backward", _run_backward, mutates_args=(), device_types="cpu"
)
_scan.register_fake(_scan_outputs)
_scan_backward.register_fake(_backward_outputs)
_scan.register_autograd(partial(gradients, _scan_backward), setup_context=remember)


def traced(v: Tensor) -> bool:
    """Whether the tensors may be stand-ins: under torch.compile, in fake or counting modes."""
    return torch.compiler.is_compiling() or is_in_torch_dispatch_mode() or type(v) not in (Tensor, Parameter)


def looked_into() -> bool:
    """Whether something runs that wants to see each operation: vmap, grad or jvp of torch.func, dual numbers."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0


def as_shape(x: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """`x` of that type and, repeated, of that shape; `x` itself where it is so already."""
    x = x if x.dtype == dtype else x.to(dtype)
    return x if x.shape == shape else x.expand(shape)


def empty_like(x_BHT_: Tensor, by_time: bool) -> Tensor:
    """An empty tensor of that shape, laid out as `by_time` says."""
    if not by_time:
        return torch.empty_like(x_BHT_, memory_format=torch.contiguous_format)
    return torch.empty_like(x_BHT_.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)


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

"""A running softmax that torch does not see into, made an operation of torch: differentiated, traced, compiled.

`fused_scan` on a CPU and `kernels.softmax_scan` on a GPU give one pass each way, and what these fill; all else is here.
To torch.compile the operation is opaque; tracers see its shapes. Gradients of gradients are those of the parallel form,
computed anew.

Shape legend: B batch, H heads, T time, D value width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from ..state import accumulator_dtype

ScanOperation = Callable[
    [Tensor, Tensor, tuple[Tensor, Tensor, Tensor], Tensor | None, Tensor | None],
    tuple[Tensor, Tensor, Tensor, Tensor],
]
"""s_BHT, v_BHTD, the state m, u, w, decay_BHT, mask_BT -> o_BHTD, and m, u, w after the last step."""


def scan_operation(
    name: str,
    run: Callable[..., Any],
    outputs: Callable[..., Any],
    run_backward: Callable[..., Any],
    backward_outputs: Callable[..., Any],
    *,
    device_types: str | None = None,
) -> ScanOperation:
    """The operation "remem::`name`".

    Args:
        name: of the operation; of its gradient, with "_backward" behind it.
        run: s, v, m, u, w, decay, mask, by_time, keep -> o, m, u, w after the last step, and what the way back needs.
        outputs: of `run` before it fills them.
        run_backward: v, o, that, mask, u and w after the last step, gradients to o, u, w, by_time, decays -> gradients
            to s, v, decay (empty where there is none) and to u, w before the first step.
        backward_outputs: of `run_backward` before it fills them.
        device_types: where it runs; None for all.
    """
    traceable = torch.library.custom_op(f"remem::{name}", run, mutates_args=(), device_types=device_types)
    back = torch.library.custom_op(
        f"remem::{name}_backward", run_backward, mutates_args=(), device_types=device_types
    )
    traceable.register_fake(outputs)
    back.register_fake(backward_outputs)
    traceable.register_autograd(partial(_gradients, back), setup_context=_remember)

    class _Scan(torch.autograd.Function):
        """`run` with its gradients."""

        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
            output = run(*inputs)
            _remember(ctx, inputs, output)
            return output

        @staticmethod
        def backward(ctx: Any, *to: Tensor | None) -> tuple[Any, ...]:
            return _gradients(run_backward, ctx, *to)

    def scan(
        s_BHT: Tensor,
        v_BHTD: Tensor,
        state: tuple[Tensor, Tensor, Tensor],
        decay_BHT: Tensor | None,
        mask_BT: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        batch, heads, length, _ = v_BHTD.shape
        dtype = accumulator_dtype(v_BHTD.dtype)
        mask = None if mask_BT is None else mask_BT.expand(batch, length)
        m, u, w = (as_shape(part, dtype, (batch, heads, *part.shape[2:])) for part in state)
        s = as_shape(s_BHT, dtype, (batch, heads, length))
        decay = None if decay_BHT is None else as_shape(decay_BHT, dtype, (batch, heads, length))
        inputs = (s, v_BHTD, m, u, w, decay)
        keep = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
        by_time = v_BHTD.transpose(1, 2).is_contiguous()
        # a torch operation made in Python costs 0.1 ms more a call: it is there for those who trace
        way = traceable if _traced(v_BHTD) else _Scan.apply if keep else run
        o_BHTD, m_BH, u_BH, w_BHD, _ = way(*inputs, mask, by_time, keep)
        return o_BHTD, m_BH.detach(), u_BH, w_BHD  # m is a choice of units: see softmax_scan

    return scan


def fits(v_BHTD: Tensor, state: tuple[Tensor, ...]) -> bool:
    """Whether nothing is lost against plain torch: a wider state, transforms of torch.func, forward derivatives."""
    dtype = accumulator_dtype(v_BHTD.dtype)
    return all(part.dtype == dtype for part in state) and not looked_into()


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.by_time, ctx.keep = inputs
    ctx.set_materialize_grads(False)
    if ctx.keep:
        ctx.save_for_backward(*tensors, *output)


def _gradients(
    run_backward: Callable[..., tuple[Tensor, ...]], ctx: Any, *to: Tensor | None
) -> tuple[Any, ...]:
    """Gradients to the inputs of `run` from those to its outputs."""
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


def _traced(v: Tensor) -> bool:
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

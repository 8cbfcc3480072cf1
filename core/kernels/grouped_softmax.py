"""`grouped_softmax` on a GPU: scores in, weights out, one query a program, in one launch each way.

In torch it is a dozen passes over (B, H, T, N, L), which is what landmark attention spends its time on beside two
matrix products. Here scores are read once and weights written once; backwards both are found again from the scores, so
nothing is kept but the inputs. The matrix products stay with torch. A kernel of the whole attention would not write
weights at all, but would have to know positions and how blocks are fetched.

Gradients of gradients are those of the form in torch, computed anew.

Source: Mohtashami and Jaggi 2023, "Landmark attention" (arXiv 2305.16300).
Shape legend: B batch, H heads, T time, N blocks of L tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

LARGEST = 8192
"""Tokens that one query may have for the kernel to take it: its scores are in registers all at once."""


def fits(score_NL: Tensor) -> bool:
    """Whether scores of this shape are (B, H, T, N, L) or (B, H, N, L), and few enough."""
    blocks, tokens = score_NL.shape[-2:]
    return score_NL.ndim in (4, 5) and _padded(blocks) * _padded(tokens) <= LARGEST


def triton_grouped_softmax(score_NL: Tensor, landmark_N: Tensor, own_NL: Tensor, past_N: Tensor) -> Tensor:
    """As `ops.grouped_softmax.grouped_softmax`, for scores that fit."""
    shape = score_NL.shape
    five = [x.expand(shape if x is own_NL else shape[:-1]) for x in (landmark_N, own_NL, past_N)]
    five = [score_NL, *five]
    if score_NL.ndim == 4:
        five = [x.unsqueeze(2) for x in five]
    weight = _weights(*five)
    return weight if score_NL.ndim == 5 else weight[:, :, 0]


def _padded(size: int) -> int:
    return 1 << max(0, size - 1).bit_length()


def _run(score: Tensor, landmark: Tensor, own: Tensor, past: Tensor) -> Tensor:
    from .grouped_softmax_triton import forward  # noqa: PLC0415  (triton is loaded where it is needed)

    weight = _outputs(score, landmark, own, past)
    if weight.numel():
        forward(score, landmark, own, past, weight)
    return weight


def _outputs(score: Tensor, landmark: Tensor, own: Tensor, past: Tensor) -> Tensor:
    return torch.empty_like(score, memory_format=torch.contiguous_format)


def _run_backward(
    score: Tensor, landmark: Tensor, own: Tensor, past: Tensor, to_weight: Tensor
) -> tuple[Tensor, Tensor]:
    from .grouped_softmax_triton import backward  # noqa: PLC0415  (triton is loaded where it is needed)

    to_score, to_landmark = _backward_outputs(score, landmark, own, past, to_weight)
    if to_score.numel():
        backward(score, landmark, own, past, to_weight, to_score, to_landmark)
    return to_score, to_landmark


def _backward_outputs(
    score: Tensor, landmark: Tensor, own: Tensor, past: Tensor, to_weight: Tensor
) -> tuple[Tensor, Tensor]:
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (score, landmark))  # type: ignore[return-value]


def _remember(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(
    run_backward: Callable[..., tuple[Tensor, Tensor]], ctx: Any, to_weight: Tensor
) -> tuple[Tensor | None, ...]:
    score, landmark, own, past = ctx.saved_tensors
    if torch.is_grad_enabled():  # somebody will differentiate the gradients
        from ..ops.grouped_softmax import weights_in_torch  # noqa: PLC0415  (which imports this file)

        # views: an input that depends on another is not to hand its gradient on to that one here
        inputs = [x.view_as(x) for x in (score, landmark)]
        weight = weights_in_torch(inputs[0], inputs[1], own, past)
        found = iter(
            torch.autograd.grad(weight, [x for x in inputs if x.requires_grad], to_weight, create_graph=True)
        )
        return *(next(found) if x.requires_grad else None for x in inputs), None, None
    return *run_backward(score, landmark, own, past, to_weight), None, None


_weights = torch.library.custom_op("remem::grouped_softmax_triton", _run, mutates_args=())
_backward = torch.library.custom_op("remem::grouped_softmax_triton_backward", _run_backward, mutates_args=())
_weights.register_fake(_outputs)
_backward.register_fake(_backward_outputs)
_weights.register_autograd(partial(_gradients, _backward), setup_context=_remember)

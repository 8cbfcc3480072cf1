"""What is one after the other in the chunk forms of `delta_rule` and `titans`, on a GPU: a memory from chunk to chunk.

    Z_{n+1} = E_n Z_n - A_n (B_n Z_n) + F_n

for all chunks in one launch, the memory staying in registers. In torch it is several launches a chunk, and launching is
what takes the time there. All the rest of a chunk form is products of many small matrices at once, which torch does as
well as anybody: so no more than this is a kernel. Its price is memory traffic, the memory before each chunk written and
read once, K / C times as much as keys and values.

The gradient runs through the same recurrence with transposed matrices, from the end. So it is the same operation, and
gradients of every order come by themselves.

Source: Yang et al. 2024, "Parallelizing linear transformers with the delta rule" (arXiv 2406.06484).
Shape legend: B batch, H heads, N chunks of C steps, M = N + 1, V value width; J rows of the memory: keys, or keys twice
(memory, then momentum); S = 1 or 4 factors of E.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def chunk_walk(
    scale_BHNS: Tensor, out_BHNJC: Tensor, read_BHNCJ: Tensor, add_BHNJV: Tensor, first_BHJV: Tensor
) -> Tensor:
    """Z before each chunk and after the last, (B, H, M, J, V), in float32.

    Args:
        scale_BHNS: E, one factor; with momentum the four (w of w, w of s, s of w, s of s), of the halves w, s of Z.
        out_BHNJC: A.
        read_BHNCJ: B.
        add_BHNJV: F.
        first_BHJV: Z before the first chunk.
    """
    return _walk(scale_BHNS, out_BHNJC, read_BHNCJ, add_BHNJV, first_BHJV, False)


def _run(scale: Tensor, out: Tensor, read: Tensor, add: Tensor, first: Tensor, back: bool) -> Tensor:
    """`back`: Z is given behind the last chunk, and each chunk leads to what is before it."""
    from .chunk_walk_triton import walk  # noqa: PLC0415  (triton is loaded where it is needed)

    every = _outputs(scale, out, read, add, first, back)
    if every.numel():
        walk(scale, out, read, add, first, every, back)
    return every


def _outputs(scale: Tensor, out: Tensor, read: Tensor, add: Tensor, first: Tensor, back: bool) -> Tensor:
    batch, heads, chunks, rows, values = add.shape
    return add.new_empty(batch, heads, chunks + 1, rows, values)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, _, _, ctx.back = inputs
    ctx.save_for_backward(*tensors, output)


def _gradients(ctx: Any, to: Tensor) -> tuple[Tensor | None, ...]:
    scale, out, read, every = ctx.saved_tensors
    early, late = slice(None, -1), slice(1, None)
    before, after = (late, early) if ctx.back else (early, late)
    turned = scale if scale.shape[-1] == 1 else scale.unflatten(-1, (2, 2)).mT.flatten(-2)
    start = to[:, :, 0 if ctx.back else -1]
    whole = _walk(turned, read.mT, out.mT, to[:, :, before], start, not ctx.back)
    z, to_z = every[:, :, before], whole[:, :, after]
    to_out = -to_z @ (read @ z).mT
    to_read = -(out.mT @ to_z) @ z.mT
    if scale.shape[-1] == 1:
        to_scale = (z * to_z).sum((-2, -1))[..., None]
    else:
        halves, to_halves = (x.unflatten(-2, (2, -1)) for x in (z, to_z))
        to_scale = torch.einsum("...ikv,...jkv->...ij", to_halves, halves).flatten(-2)
    return to_scale, to_out, to_read, to_z, whole[:, :, -1 if ctx.back else 0], None


_walk = torch.library.custom_op("remem::chunk_walk_triton", _run, mutates_args=())
_walk.register_fake(_outputs)
_walk.register_autograd(_gradients, setup_context=_remember)

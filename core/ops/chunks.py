"""Linear recurrences in chunks: what was written at one step, seen from every later step of the same chunk.

A memory obeys z_t = e^{g_t} z_{t-1} + (what step t writes). Inside a chunk of C steps that is one triangular matrix of
coefficients, P[t, i] = e^{g_{i+1} + ... + g_t}; chunk follows chunk by the memory itself. Sums of logarithms are added
up entry by entry and never subtracted, so nothing kept (g = NOTHING) and everything kept (g = 0) are both exact.

Shape legend: B batch, H heads, T time, N chunks of C steps, R = C + 1 rows: before the chunk and after each step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._higher_order_ops.scan import scan

from .history import real_before, take


def decays(log_BHNC: Tensor) -> Tensor:
    """P (B, H, N, R, R): how much of what was there after i steps of a chunk is left after t steps; 0 for i > t."""
    log = F.pad(log_BHNC, (1, 0))
    row_R = torch.arange(log.shape[-1], device=log.device)
    gone_RR = row_R[:, None] > row_R
    sums = log[..., :, None].expand(*log.shape, log.shape[-1]).masked_fill(~gone_RR, 0.0).cumsum(-2)
    return sums.exp().masked_fill(row_R[:, None] < row_R, 0.0)


def momentum_decays(keep_BHNRR: Tensor, momentum_BHNRR: Tensor, real_BHNC: Tensor) -> Tensor:
    """The coefficients of W_t = keep_t W_{t-1} + S_t, S_t = momentum_t S_{t-1} + (what is written), in one matrix.

    Column 0 belongs to the momentum before the chunk. `real_BHNC` is 0.0 at steps where W does not take S in.
    """
    return keep_BHNRR[..., 1:] @ (real_BHNC[..., None] * momentum_BHNRR[..., 1:, :])


def in_chunks(x_BHT_: Tensor, chunk_size: int) -> Tensor:
    """(B, H, T, ...) to (B, H, N, C, ...), zeros behind; N is at least 1."""
    chunks = max(1, -(-x_BHT_.shape[2] // chunk_size))
    short = chunks * chunk_size - x_BHT_.shape[2]
    padded = F.pad(x_BHT_, (*[0, 0] * (x_BHT_.ndim - 3), 0, short))
    return padded.unflatten(2, (chunks, chunk_size))


def places(mask_BT: Tensor, begun_B: Tensor | None, chunk_size: int) -> tuple[Tensor, int]:
    """Where each real token goes (B, T) when chunks are counted in real tokens, row by row, and the number N of chunks.

    `begun_B` tokens of the first chunk came in earlier calls (None: none did). Masked tokens go to N C, one too many.
    """
    chunks = max(1, -(-(mask_BT.shape[1] + chunk_size - 1) // chunk_size))
    place_BT = real_before(mask_BT)
    if begun_B is not None:
        place_BT = place_BT + begun_B[:, None]
    return torch.where(mask_BT, place_BT, chunks * chunk_size), chunks


def to_places(x_BT_: Tensor, place_BT: Tensor, chunks: int, chunk_size: int) -> Tensor:
    """(B, T, ...) to (B, N, C, ...), zeros where no token goes."""
    room = x_BT_.new_zeros(x_BT_.shape[0], chunks * chunk_size + 1, *x_BT_.shape[2:])
    index = place_BT.view(*place_BT.shape, *[1] * (x_BT_.ndim - 2)).expand_as(x_BT_)
    return room.scatter(1, index, x_BT_)[:, :-1].unflatten(1, (chunks, chunk_size))


def from_places(y_BNC_: Tensor, place_BT: Tensor) -> Tensor:
    """(B, N, C, ...) back to the tokens, (B, T, ...), zeros at masked ones."""
    y_BS_ = y_BNC_.flatten(1, 2)
    return take(torch.cat([y_BS_, torch.zeros_like(y_BS_[:, :1])], 1), place_BT)


def exporting() -> bool:
    """While torch traces a graph that must hold for every length."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def fold(
    step: Callable[[list[Tensor], list[Tensor]], tuple[list[Tensor], Tensor]],
    carry: Sequence[Tensor],
    inputs_T_: Sequence[Tensor],
) -> tuple[list[Tensor], Tensor]:
    """`step` after `step` along axis 0 of the inputs, T >= 1: a loop, and while torch exports, an ONNX Scan.

    Returns:
        The last carry, and the outputs (T, ...).
    """
    if exporting():

        def cloned(carry: list[Tensor], inputs: list[Tensor]) -> tuple[list[Tensor], Tensor]:
            after, output = step(carry, inputs)
            return [tensor.clone() for tensor in after], output.clone()

        # scan refuses a tensor that it gets, or gives, twice
        return scan(cloned, [tensor.clone() for tensor in carry], [tensor.clone() for tensor in inputs_T_])
    now, outputs = list(carry), []
    for inputs in zip(*(tensor.unbind(0) for tensor in inputs_T_), strict=True):
        now, output = step(now, list(inputs))
        outputs.append(output)
    return now, torch.stack(outputs)

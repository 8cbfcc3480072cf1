"""The delta rule: a matrix memory that corrects itself, W k_t -> v_t, one gradient step a token.

    e_t = k_t W_{t-1} - v_t
    W_t = e^{g_t} W_{t-1} - b_t k_t^T e_t            (b: write gate; g <= 0: log of the keep gate, 0 if none)
    y_t = q_t W_t

k_t^T e_t is the gradient of |k W - v|^2 / 2 by W, here and everywhere taken at W_{t-1}. Gated DeltaNet decays first and
takes the gradient at e^{g_t} W_{t-1}; Titans and Miras, which this file is the base of, do not.

With u_t = -b_t e_t, the whole chunk is W_t = P[t, 0] W_0 + sum_i P[t, i] k_i^T u_i, and the u solve one triangular
system: exact, so the size of the chunk changes the speed and nothing else. With |k| <= 1 and b <= 1 every step takes
the error of its own key down and nothing grows.

Three forms of the same numbers: `naive` (loop, the oracle; a Scan while torch exports), `chunk`, and `delta_step`. All
compute in the type of the state, under autocast too. Where `_backend` says so, what goes from chunk to chunk is a
kernel (`kernels.chunk_walk`).

Source: Schlag et al. 2021 (arXiv 2102.11174); Yang et al. 2024, "Gated Delta Networks" (arXiv 2412.06464) and
"Parallelizing linear transformers with the delta rule" (arXiv 2406.06484).
Shape legend: B batch, H heads, T time, K key width, V value width; N chunks of C steps, R = C + 1.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..kernels.chunk_walk import chunk_walk
from ._backend import takes_kernel
from .chunks import decays, exporting, fold, in_chunks

CHUNK = 16
"""Steps solved for at once: where a CPU is fastest at head widths of 8 to 64."""

Form = Literal["auto", "naive", "chunk"]


def delta_rule(
    q_BHTK: Tensor,
    k_BHTK: Tensor,
    v_BHTV: Tensor,
    write_BHT: Tensor,
    w_BHKV: Tensor,
    *,
    log_keep_BHT: Tensor | None = None,
    mask_BT: Tensor | None = None,
    chunk_size: int = CHUNK,
    form: Form = "auto",
) -> tuple[Tensor, Tensor]:
    """Read after write at every step, going on from the memory `w_BHKV`.

    Args:
        q_BHTK: queries.
        k_BHTK: keys, of length 1 or less.
        v_BHTV: values; T may be 0.
        write_BHT: write gates b, 0 to 1.
        w_BHKV: the memory before, in float32 or wider.
        log_keep_BHT: g <= 0, finite; None keeps everything.
        mask_BT: True on real steps; the others leave the memory as it was.
        chunk_size: steps in a chunk.
        form: "auto" is "naive" while torch exports and "chunk" otherwise.

    Returns:
        y_BHTV in the type of `v_BHTV`, and the memory after the last step.

    Raises:
        ValueError: where `form` is unknown or `chunk_size` is not positive.
    """
    form = form_of("delta_rule", form, chunk_size)
    dtype = w_BHKV.dtype
    steps = [x.to(dtype) for x in (q_BHTK, k_BHTK, v_BHTV, write_BHT)]
    steps.append(torch.zeros_like(steps[-1]) if log_keep_BHT is None else log_keep_BHT.to(dtype))
    if mask_BT is not None:
        steps[3:] = [x.masked_fill(~mask_BT[:, None], 0.0) for x in steps[3:]]
    with torch.autocast(v_BHTV.device.type, enabled=False):
        if form == "naive":
            y_BHTV, w_BHKV = _naive(steps, w_BHKV)
        else:
            y_BHTV, w_BHKV = _chunk([in_chunks(x, chunk_size) for x in steps], w_BHKV)
    return y_BHTV[:, :, : v_BHTV.shape[2]].to(v_BHTV.dtype), w_BHKV


def delta_step(
    q_BHK: Tensor,
    k_BHK: Tensor,
    v_BHV: Tensor,
    write_BH: Tensor,
    w_BHKV: Tensor,
    *,
    log_keep_BH: Tensor | None = None,
    mask_B: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of `delta_rule`: y_BHV and the memory after it."""
    dtype = w_BHKV.dtype
    q, k, v, write = (x.to(dtype) for x in (q_BHK, k_BHK, v_BHV, write_BH))
    log_keep = torch.zeros_like(write) if log_keep_BH is None else log_keep_BH.to(dtype)
    if mask_B is not None:
        write, log_keep = (x.masked_fill(~mask_B[:, None], 0.0) for x in (write, log_keep))
    with torch.autocast(v.device.type, enabled=False):
        y_BHV, w_BHKV = _step([q, k, v, write, log_keep], w_BHKV)
    return y_BHV.to(v_BHV.dtype), w_BHKV


def form_of(place: str, form: Form, chunk_size: int) -> Literal["naive", "chunk"]:
    """The form that is meant by `form`.

    Raises:
        ValueError: as in `delta_rule`.
    """
    if chunk_size < 1:
        raise ValueError(f"{place}: chunk_size is {chunk_size}; it must be at least 1")
    if form == "auto":
        return "naive" if exporting() else "chunk"
    if form not in ("naive", "chunk"):
        raise ValueError(f"{place}: form is {form!r}; use one of ['auto', 'naive', 'chunk']")
    return form


def row_times(x_BHK: Tensor, w_BHKV: Tensor) -> Tensor:
    """x W, (B, H, V)."""
    return (x_BHK[..., None, :] @ w_BHKV)[..., 0, :]


def _step(inputs: list[Tensor], w_BHKV: Tensor) -> tuple[Tensor, Tensor]:
    q, k, v, write, log_keep = inputs
    u_BHV = write[..., None] * (v - row_times(k, w_BHKV))
    w_BHKV = log_keep.exp()[..., None, None] * w_BHKV + k[..., :, None] * u_BHV[..., None, :]
    return row_times(q, w_BHKV), w_BHKV


def _naive(steps: list[Tensor], w_BHKV: Tensor) -> tuple[Tensor, Tensor]:
    def step(carry: list[Tensor], now: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        y_BHV, after = _step(now, carry[0])
        return [after], y_BHV

    if not exporting() and steps[0].shape[2] == 0:
        return steps[2], w_BHKV
    (w_BHKV,), y_TBHV = fold(step, [w_BHKV], [x.movedim(2, 0) for x in steps])
    return y_TBHV.movedim(0, 2), w_BHKV


def _chunk(inputs: list[Tensor], w_BHKV: Tensor) -> tuple[Tensor, Tensor]:
    """All chunks at once as far as they do not need the memory, then one after the other."""
    q, k, v, write, log_keep = inputs
    kept = decays(log_keep)
    before, after, end = kept[..., :-1, :], kept[..., 1:, :], kept[..., -1, :, None]
    system = write[..., None] * before[..., 1:] * (k @ k.mT)
    known = write[..., None] * torch.cat([v, before[..., :1] * k], -1)
    solved = torch.linalg.solve_triangular(system, known, upper=False, unitriangular=True)
    parts = (
        solved[..., : v.shape[-1]],  # u of an empty memory
        solved[..., v.shape[-1] :],  # and what the memory before takes away from it
        after[..., :1] * q,
        after[..., 1:] * (q @ k.mT),
        end[..., :1, :],
        (end[..., 1:, :] * k).mT,
    )
    if takes_kernel(w_BHKV):
        u_BHNCV, less, read, inside, left, written = parts
        every = chunk_walk(left[..., 0], written, less, written @ u_BHNCV, w_BHKV)
        before = every[:, :, :-1]
        y_BHNCV = read @ before + inside @ (u_BHNCV - less @ before)
        return y_BHNCV.flatten(2, 3), every[:, :, -1]
    outputs = []
    for u_BHCV, less, read, inside, left, written in zip(*(x.unbind(2) for x in parts), strict=True):
        u = u_BHCV - less @ w_BHKV
        outputs.append(read @ w_BHKV + inside @ u)
        w_BHKV = left * w_BHKV + written @ u
    return torch.cat(outputs, 2), w_BHKV

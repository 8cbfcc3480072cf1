"""The linear memory of Titans: the gated delta rule with momentum.

    S_t = e^{h_t} S_{t-1} - b_t k_t^T (k_t W_{t-1} - v_t)         (h <= 0: log of the momentum gate)
    W_t = e^{g_t} W_{t-1} + S_t,     y_t = q_t W_t                (g <= 0: log of the keep gate)

The gradient is taken at W_{t-1} exactly, not at the start of a chunk: as in `delta_rule` a chunk is one triangular
system. Only, what step i wrote counts at step t with e^{h_{i+1} + .. + h_j + g_{j+1} + .. + g_t}, summed
over i <= j <= t.
A masked step leaves W and S alone; gates of "no write, all kept" would not do, as W would take S in once more.

Source: Behrouz et al. 2025, "Titans: Learning to Memorize at Test Time" (arXiv 2501.00663); the exact chunk is ours.
Shape legend: B batch, H heads, T time, K key width, V value width; N chunks of C steps, R = C + 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..kernels.chunk_walk import chunk_walk
from ._backend import takes_kernel
from .chunks import decays, exporting, fold, in_chunks, momentum_decays
from .delta_rule import CHUNK, Form, form_of, row_times


class MomentumState(NamedTuple):
    """Memory w and momentum s, each (B, H, K, V)."""

    w: Tensor
    s: Tensor


def titans(
    q_BHTK: Tensor,
    k_BHTK: Tensor,
    v_BHTV: Tensor,
    write_BHT: Tensor,
    log_keep_BHT: Tensor,
    log_momentum_BHT: Tensor,
    state: MomentumState,
    *,
    mask_BT: Tensor | None = None,
    chunk_size: int = CHUNK,
    form: Form = "auto",
) -> tuple[Tensor, MomentumState]:
    """Read after write at every step, going on from `state`.

    Args:
        log_momentum_BHT: h <= 0, finite; `NOTHING` of `softmax_scan` for no momentum at all.
        q_BHTK, k_BHTK, v_BHTV, write_BHT, log_keep_BHT, mask_BT, chunk_size, form: as in `delta_rule`.

    Returns:
        y_BHTV in the type of `v_BHTV`, and the state after the last step.

    Raises:
        ValueError: where `form` is unknown or `chunk_size` is not positive.
    """
    form = form_of("titans", form, chunk_size)
    mask_B1T = None if mask_BT is None else mask_BT[:, None]
    steps = _steps((q_BHTK, k_BHTK, v_BHTV, write_BHT, log_keep_BHT, log_momentum_BHT), state, mask_B1T)
    with torch.autocast(v_BHTV.device.type, enabled=False):
        if form == "naive":
            y_BHTV, state = _naive(steps, state)
        else:
            y_BHTV, state = _chunk([in_chunks(x, chunk_size) for x in steps], state)
    return y_BHTV[:, :, : v_BHTV.shape[2]].to(v_BHTV.dtype), state


def titans_step(
    q_BHK: Tensor,
    k_BHK: Tensor,
    v_BHV: Tensor,
    write_BH: Tensor,
    log_keep_BH: Tensor,
    log_momentum_BH: Tensor,
    state: MomentumState,
    *,
    mask_B: Tensor | None = None,
) -> tuple[Tensor, MomentumState]:
    """One step of `titans`: y_BHV and the state after it."""
    mask_B1 = None if mask_B is None else mask_B[:, None]
    steps = _steps((q_BHK, k_BHK, v_BHV, write_BH, log_keep_BH, log_momentum_BH), state, mask_B1)
    with torch.autocast(v_BHV.device.type, enabled=False):
        y_BHV, state = _step(steps, state)
    return y_BHV.to(v_BHV.dtype), state


def _steps(inputs: tuple[Tensor, ...], state: MomentumState, mask: Tensor | None) -> list[Tensor]:
    """Inputs in the type of the state, gates of masked steps that change nothing, and 1.0 at real steps."""
    *vectors, write, log_keep, log_momentum = (x.to(state.w.dtype) for x in inputs)
    gates = [write, log_keep, log_momentum]
    real = torch.ones_like(write)
    if mask is not None:
        gates = [gate.masked_fill(~mask, 0.0) for gate in gates]
        real = real.masked_fill(~mask, 0.0)
    return [*vectors, *gates, real]


def _step(inputs: list[Tensor], state: MomentumState) -> tuple[Tensor, MomentumState]:
    q, k, v, write, log_keep, log_momentum, real = inputs
    u_BHV = write[..., None] * (v - row_times(k, state.w))
    s_BHKV = log_momentum.exp()[..., None, None] * state.s + k[..., :, None] * u_BHV[..., None, :]
    w_BHKV = log_keep.exp()[..., None, None] * state.w + real[..., None, None] * s_BHKV
    return row_times(q, w_BHKV), MomentumState(w_BHKV, s_BHKV)


def _naive(steps: list[Tensor], state: MomentumState) -> tuple[Tensor, MomentumState]:
    def step(carry: list[Tensor], now: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        y_BHV, after = _step(now, MomentumState(*carry))
        return [*after], y_BHV

    if not exporting() and steps[0].shape[2] == 0:
        return steps[2], state
    after, y_TBHV = fold(step, state, [x.movedim(2, 0) for x in steps])
    return y_TBHV.movedim(0, 2), MomentumState(*after)


def _chunk(inputs: list[Tensor], state: MomentumState) -> tuple[Tensor, MomentumState]:
    """All chunks at once as far as they do not need the state, then one after the other."""
    q, k, v, write, log_keep, log_momentum, real = inputs
    kept, lasting = decays(log_keep), decays(log_momentum)
    counted = momentum_decays(kept, lasting, real)
    before, after, end = counted[..., :-1, :], counted[..., 1:, :], counted[..., -1, :, None]
    system = write[..., None] * before[..., 1:] * (k @ k.mT)
    of_w, of_s = kept[..., :-1, :1] * k, before[..., :1] * k
    known = write[..., None] * torch.cat([v, of_w, of_s], -1)
    solved = torch.linalg.solve_triangular(system, known, upper=False, unitriangular=True)
    width = k.shape[-1]
    parts = (
        solved[..., : -2 * width],  # u of an empty memory
        solved[..., -2 * width :],  # and what memory and momentum before take away from it
        torch.cat([kept[..., 1:, :1] * q, after[..., :1] * q], -1),
        after[..., 1:] * (q @ k.mT),
        kept[..., -1, :1, None],
        end[..., :1, :],
        (end[..., 1:, :] * k).mT,
        lasting[..., -1, :1, None],
        (lasting[..., -1, 1:, None] * k).mT,
    )
    if takes_kernel(state.w):
        u_BHNCV, less, read, inside, w_left, s_taken, w_written, s_left, s_written = parts
        scale = torch.cat([w_left, s_taken, torch.zeros_like(w_left), s_left], -1)[..., 0, :]
        written = torch.cat([w_written, s_written], -2)
        every = chunk_walk(scale, written, less, written @ u_BHNCV, torch.cat(state, -2))
        before = every[:, :, :-1]
        y_BHNCV = read @ before + inside @ (u_BHNCV - less @ before)
        return y_BHNCV.flatten(2, 3), MomentumState(*every[:, :, -1].chunk(2, -2))
    w, s, outputs = state.w, state.s, []
    for u_BHCV, less, read, inside, w_left, s_taken, w_written, s_left, s_written in zip(
        *(x.unbind(2) for x in parts), strict=True
    ):
        both = torch.cat([w, s], -2)
        u = u_BHCV - less @ both
        outputs.append(read @ both + inside @ u)
        w = w_left * w + s_taken * s + w_written @ u
        s = s_left * s + s_written @ u
    return torch.cat(outputs, 2), MomentumState(w, s)

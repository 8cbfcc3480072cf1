"""Softmax over every prefix: the recurrence behind Aaren, running averages and attention pooling.

    o_t = sum_{i<=t} e^{s_i - g_{i+1} - ... - g_t} v_i  /  the same sum without v_i            (g: decay, 0 if none)

The state is (m, u, w): the largest exponent so far, and the denominator and numerator divided by e^m, so
nothing overflows whatever the scores. Two segments a, b merge associatively,

    m = max(m_a - g_b, m_b),   u = u_a e^{m_a - g_b - m} + u_b e^{m_b - m},   w likewise,   g = g_a + g_b,

a single step is the segment (s, 1, v), and "nothing seen" is (-1e30, 0, 0): never -inf, whose differences are
NaN. m is a choice of units and not a quantity: only u e^m and w e^m mean anything, so it is detached wherever
it is chosen, and gradients of every order stay exact.

Six forms of the same numbers: `naive` (loop, the oracle), `parallel` (odd-even recursion, work O(T)),
`blocked` (two levels, no loop over time: the one that torch.export may trace), `fused` (one pass in machine
code on the CPU, `fused_scan`), `triton` (one pass on a GPU, `kernels.softmax_scan`) and `softmax_step`. All
compute in float32 (float64 for float64) or wider, under autocast too. With s = 0 and g = gap / tau this is a
bias-corrected moving average over irregular times.

Source: Feng et al. 2024, "Attention as an RNN" (arXiv 2405.13956); decay is ours.
Shape legend: B batch, H heads, T time, D value width; N blocks of C steps; E = D + 1, numerator and denominator.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels.softmax_scan import triton_scan
from ..state import accumulator_dtype
from ._backend import require_fused, require_triton, softmax_form
from .fused_scan import fused_scan
from .scan_operation import fits

NOTHING = -1e30
"""Exponent of an empty segment."""

BLOCK = 16
"""Steps per block of the blocked form; trace exports at a longer length."""


class SoftmaxState(NamedTuple):
    """Running softmax: exponent m (B, H), denominator u (B, H), numerator w (B, H, D)."""

    m: Tensor
    u: Tensor
    w: Tensor


def empty_state(
    batch_size: int,
    num_heads: int,
    width: int,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> SoftmaxState:
    """The state before anything was seen, in float32 unless `dtype` is float64."""
    dtype = accumulator_dtype(dtype)
    zeros_BHE = torch.zeros(batch_size, num_heads, width + 1, device=device, dtype=dtype)
    return SoftmaxState(zeros_BHE[..., 0] + NOTHING, zeros_BHE[..., 0].clone(), zeros_BHE[..., 1:].clone())


def softmax_scan(
    s_BHT: Tensor,
    v_BHTD: Tensor,
    state: SoftmaxState | None = None,
    *,
    decay_BHT: Tensor | None = None,
    mask_BT: Tensor | None = None,
    form: Literal["auto", "naive", "parallel", "blocked", "fused", "triton"] = "auto",
) -> tuple[Tensor, SoftmaxState]:
    """Softmax-weighted mean of the values over every prefix, continuing from `state`.

    Args:
        s_BHT: scores, finite, any size.
        v_BHTD: values; T may be 0.
        state: what was seen before; None for nothing.
        decay_BHT: amounts >= 0 by which every earlier score falls at each step (broadcast over B, H, T).
        mask_BT: True on real steps; the others change nothing. A prefix without a real step gives 0.
        form: "auto" is "blocked" while torch exports, and otherwise what `_backend` chooses: "fused" on a CPU
            with numba, "triton" on a GPU with triton, else "parallel".

    Returns:
        o_BHTD in the type of `v_BHTD`, and the state after the last step.

    Raises:
        ValueError: where `form` is unknown, or "fused" or "triton" and missing.
    """
    if form not in ("auto", "fused", "triton", *_FORMS):
        raise ValueError(f"softmax_scan: form is {form!r}; use one of {['auto', *_FORMS, 'fused', 'triton']}")
    batch, heads, _, width = v_BHTD.shape
    if state is None:
        state = empty_state(batch, heads, width, device=v_BHTD.device, dtype=v_BHTD.dtype)
    if form == "auto":
        form = softmax_form(v_BHTD, fits=fits(v_BHTD, state))
    if form == "fused":
        require_fused(v_BHTD)
        o_BHTD, *after = fused_scan(s_BHT, v_BHTD, state, decay_BHT, mask_BT)
        return o_BHTD.to(v_BHTD.dtype), SoftmaxState(*after)
    if form == "triton":
        require_triton(v_BHTD)
        o_BHTD, *after = triton_scan(s_BHT, v_BHTD, state, decay_BHT, mask_BT)
        return o_BHTD, SoftmaxState(*after)
    steps = _leaves(s_BHT, v_BHTD, decay_BHT, None if mask_BT is None else mask_BT[:, None])
    before = _Segment(steps.g.new_zeros(()), state.m, torch.cat([state.w, state.u[..., None]], -1))
    n_BHTE, m_BH, n_BHE = _FORMS[form](before, steps)
    return _ratio(n_BHTE).to(v_BHTD.dtype), SoftmaxState(m_BH, n_BHE[..., -1], n_BHE[..., :-1])


def softmax_step(
    s_BH: Tensor,
    v_BHD: Tensor,
    state: SoftmaxState,
    *,
    decay_BH: Tensor | None = None,
    mask_B: Tensor | None = None,
) -> tuple[Tensor, SoftmaxState]:
    """One step of `softmax_scan`: o_BHD and the state after it."""
    leaf = _leaves(s_BH, v_BHD, decay_BH, None if mask_B is None else mask_B[:, None])
    before = _Segment(leaf.g.new_zeros(()), state.m, torch.cat([state.w, state.u[..., None]], -1))
    after = _merge(before, leaf)
    return _ratio(after.n).to(v_BHD.dtype), SoftmaxState(after.m, after.n[..., -1], after.n[..., :-1])


class _Segment(NamedTuple):
    """Consecutive steps in sum: decay g, exponent m, and n = (numerator, denominator) in units of e^m."""

    g: Tensor
    m: Tensor
    n: Tensor


def _leaves(s: Tensor, v: Tensor, decay: Tensor | None, mask: Tensor | None) -> _Segment:
    """Each step as a segment of its own."""
    dtype = accumulator_dtype(v.dtype)
    s, v = s.to(dtype), v.to(dtype)
    g = torch.zeros_like(s) if decay is None else decay.to(dtype).expand_as(s)
    n = F.pad(v, (0, 1), value=1.0)
    if mask is None:
        return _Segment(g, s, n)
    return _Segment(
        g.masked_fill(~mask, 0.0), s.masked_fill(~mask, NOTHING), n.masked_fill(~mask[..., None], 0.0)
    )


def _merge(a: _Segment, b: _Segment) -> _Segment:
    """The segment of a followed by b."""
    m = torch.maximum(a.m - b.g, b.m).detach()
    # (a.m - m) first: exact when the two are close, so what m lost to rounding goes into n
    n = a.n * torch.exp((a.m - m) - b.g)[..., None] + b.n * torch.exp(b.m - m)[..., None]
    return _Segment(a.g + b.g, m, n)


def _ratio(n: Tensor) -> Tensor:
    u = n[..., -1:]
    return n[..., :-1] / torch.where(u > 0, u, 1.0)


def _naive(before: _Segment, steps: _Segment) -> tuple[Tensor, Tensor, Tensor]:
    now, history = before, []
    for leaf in zip(steps.g.unbind(-1), steps.m.unbind(-1), steps.n.unbind(-2), strict=True):
        now = _merge(now, _Segment(*leaf))
        history.append(now.n)
    n_BHTE = torch.stack(history, -2) if history else steps.n
    return n_BHTE, now.m, now.n


def _parallel(before: _Segment, steps: _Segment) -> tuple[Tensor, Tensor, Tensor]:
    prefix = _odd_even(
        _Segment(
            F.pad(steps.g, (1, 0)),
            torch.cat([before.m[..., None], steps.m], -1),
            torch.cat([before.n[..., None, :], steps.n], -2),
        )
    )
    return prefix.n[..., 1:, :], prefix.m[..., -1], prefix.n[..., -1, :]


def _odd_even(x: _Segment) -> _Segment:
    """Inclusive prefix merge along time: merge neighbours, recurse on the half, fill in the even places."""
    length = x.m.shape[-1]
    if length == 1:
        return x
    odd = _odd_even(_merge(_at(x, slice(0, length - 1, 2)), _at(x, slice(1, length, 2))))
    even = _merge(_at(odd, slice(0, (length - 1) // 2)), _at(x, slice(2, length, 2)))
    return _Segment(
        _interleave(torch.cat([x.g[..., :1], even.g], -1), odd.g, -1),
        _interleave(torch.cat([x.m[..., :1], even.m], -1), odd.m, -1),
        _interleave(torch.cat([x.n[..., :1, :], even.n], -2), odd.n, -2),
    )


def _at(x: _Segment, places: slice) -> _Segment:
    return _Segment(x.g[..., places], x.m[..., places], x.n[..., places, :])


def _interleave(even: Tensor, odd: Tensor, dim: int) -> Tensor:
    """even[0], odd[0], even[1], ... along `dim`; `even` may be one longer."""
    axis, paired = even.ndim + dim, odd.shape[dim]
    both = torch.stack([even.narrow(axis, 0, paired), odd], axis + 1).flatten(axis, axis + 1)
    return both if even.shape[dim] == paired else torch.cat([both, even.narrow(axis, paired, 1)], axis)


def _blocked(before: _Segment, steps: _Segment) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, length, width = steps.n.shape
    blocks = length // BLOCK + 1  # the last may be all padding: simple sizes trace faster
    short = blocks * BLOCK - length
    m_BHNC = F.pad(steps.m, (0, short), value=NOTHING).reshape(batch, heads, blocks, BLOCK)
    g_BHNC = F.pad(steps.g, (0, short)).reshape(batch, heads, blocks, BLOCK)
    n_BHNCE = F.pad(steps.n, (0, 0, 0, short)).reshape(batch, heads, blocks, BLOCK, width)
    inside = _pairwise(_Segment(g_BHNC, m_BHNC, n_BHNCE))
    # what precedes each block: the state, then all blocks before it; one past the end, the new state
    earlier = _pairwise(
        _Segment(
            F.pad(inside.g[..., -1], (1, 0)),
            torch.cat([before.m[..., None], inside.m[..., -1]], -1),
            torch.cat([before.n[..., None, :], inside.n[..., -1, :]], -2),
        )
    )
    start = _Segment(earlier.g[..., :-1, None], earlier.m[..., :-1, None], earlier.n[..., :-1, None, :])
    n_BHTE = _merge(start, inside).n.reshape(batch, heads, blocks * BLOCK, width)[:, :, :length]
    return n_BHTE, earlier.m[..., -1], earlier.n[..., -1, :]


def _pairwise(x: _Segment) -> _Segment:
    """Inclusive prefix merge along time with one matrix product, for short axes."""
    length = x.m.shape[-1]
    row, column = torch.arange(length, device=x.m.device)[:, None], torch.arange(length, device=x.m.device)
    total = x.g.double().cumsum(-1)  # float64: differences of long sums
    g = (total[..., :, None] - total[..., None, :]).to(x.g.dtype).masked_fill(row < column, 0.0)
    a = (x.m[..., None, :] - g).masked_fill(row < column, NOTHING)
    m = a.amax(-1).detach()
    p = torch.exp((x.m[..., None, :] - m[..., None]).masked_fill(row < column, NOTHING) - g)
    with torch.autocast(x.m.device.type, enabled=False):
        n = p @ x.n
    return _Segment(total.to(x.g.dtype), m, n)


_FORMS = {"naive": _naive, "parallel": _parallel, "blocked": _blocked}

"""The programs behind `kernels.softmax_scan`: three launches forward, one back. Needs triton.

The running softmax is a gated moving average. With b_t the weight of step t in its own mean,

    o_t = a_t o_{t-1} + b_t v_t,        b_t = e^{s_t - m_t} / u_t,        a_t = 1 - b_t,

so all that is hard (exponents, decays, masks, denominators) happens in numbers without a D axis: `_totals` and
`_shares` find a and b for all steps in float64, chunk beside chunk. `_means` then walks along time, a tile of steps at
a time. It reads v once and writes o once, which is all that the memory of a GPU has to bear. Back, with A_t the
gradient to o_t by way of all later steps, and c_t the same for do . o,

    A_t = do_t + a_{t+1} A_{t+1},       c_t = do_t . o_t + a_{t+1} c_{t+1},
    dv_t = b_t A_t,                     ds_t = b_t (v_t . A_t - c_t)

is again one walk (`_backs`), from the end. A walk is per row, block of D and part of time, in one warp: a scan along
time is then a third of the instructions that it is across warps, and products of matrices cost more than either. There
are several parts only where rows and blocks alone would leave the GPU idle. Then all parts but the last are walked once
more before, to know where the next begins: half as much traffic again, on a device that was not busy.

With G_t = g_1 + .. + g_t the decays drop out of the search for b: e_t = s_t + G_t, and the exponent of the sum is
m_t = max_{i<=t} e_i, in units that fall by G_t.

Source: Feng et al. 2024, "Attention as an RNN" (arXiv 2405.13956); the form here is derived from it.
Shape legend: R = B H rows, T time, S = T + 1: the state before and each step, D value width; C steps of a tile or
chunk, N chunks, P parts of time, K blocks of D.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

INTERPRETED = triton.knobs.runtime.interpret
"""Whether the programs of this process run on a CPU, step by step in Python."""

CHUNK = 1024
"""Steps of a program of `_shares`."""

TILE = 64
"""Steps that a walk takes at once, half of it on the way back."""

STAGES = 3
"""Tiles on their way from memory while one is worked on, and that one."""


class Walk(NamedTuple):
    """How a walk is cut: steps of a tile, width of a block of D, steps of a part of time."""

    tile: int
    block: int
    part: int


def walk(rows: int, length: int, v: Tensor, tile: int = TILE) -> Walk:
    """Narrower blocks of D where rows are few (4 programs a processor are enough), then parts of time."""
    processors = torch.cuda.get_device_properties(v.device).multi_processor_count if v.is_cuda else 1
    width = v.shape[-1]
    block = min(32, triton.next_power_of_2(width))
    if rows * triton.cdiv(width, block) < 4 * processors:
        block = min(16, block)
    tile = min(tile, triton.next_power_of_2(length))
    tiles, programs = triton.cdiv(length, tile), rows * triton.cdiv(width, block)
    # half of what is wanted is worth no second reading
    parts = (
        1 if programs >= 2 * processors else min(triton.cdiv(4 * processors, programs), max(1, tiles // 8))
    )
    return Walk(tile, block, triton.cdiv(tiles, parts) * tile)


def forward(
    s_BHT: Tensor,
    v_BHTD: Tensor,
    decay_BHT: Tensor | None,
    mask_BT: Tensor | None,
    m_BH: Tensor,
    u_BH: Tensor,
    w_BHD: Tensor,
    o_BHTD: Tensor,
    kept: Tensor,
) -> None:
    """Fills o and `kept`, and turns the state into the one after the last step, in place. T is at least 1.

    The state lies without gaps.
    """
    batch, heads, length, width = v_BHTD.shape
    rows = batch * heads
    mask = s_BHT if mask_BT is None else mask_BT.view(torch.uint8)
    decay = s_BHT if decay_BHT is None else decay_BHT
    chunk = min(CHUNK, triton.next_power_of_2(length))
    chunks = triton.cdiv(length, chunk)
    totals = s_BHT.new_empty((rows, chunks, 3), dtype=torch.float64)
    before = m_BH.clone(), u_BH.clone()
    for program in (_totals, _shares) if chunks > 1 else (_shares,):
        program[(rows, chunks)](
            s_BHT,
            decay,
            mask,
            *before,
            totals,
            kept,
            m_BH,
            u_BH,
            length,
            heads,
            *s_BHT.stride(),
            *decay.stride(),
            *mask.stride()[:2],
            decay_BHT is not None,
            mask_BT is not None,
            chunk,
        )
    cut = walk(rows, length, v_BHTD)
    parts = triton.cdiv(length, cut.part)
    ends = w_BHD.new_empty((2, rows, parts, width))
    w_before = w_BHD.clone()
    for summary in (True, False) if parts > 1 else (False,):
        _means[(rows, triton.cdiv(width, cut.block), parts - summary)](
            v_BHTD,
            kept,
            w_before,
            u_BH,
            *ends,
            o_BHTD,
            w_BHD,
            length,
            heads,
            width,
            parts,
            *v_BHTD.stride(),
            *o_BHTD.stride(),
            summary,
            cut.part,
            cut.tile,
            cut.block,
            STAGES,
            num_warps=1,
        )


def backward(
    v_BHTD: Tensor,
    o_BHTD: Tensor,
    kept: Tensor,
    u_end_BH: Tensor,
    to_o_BHTD: Tensor,
    to_s_BHT: Tensor,
    to_v_BHTD: Tensor,
    to_u_BH: Tensor,
    to_w_BHD: Tensor,
) -> None:
    """Fills the gradients to s and v. `to_u` and `to_w` come as the gradients to the state after the last step, and
    leave as those to the one before the first. T is at least 1.

    All without D but one axis lie without gaps.
    """
    batch, heads, length, width = v_BHTD.shape
    rows = batch * heads
    cut = walk(rows, length, v_BHTD, TILE // 2)
    parts, blocks = triton.cdiv(length, cut.part), triton.cdiv(width, cut.block)
    ends = to_w_BHD.new_empty((3, rows, parts, width))
    to_s_KBHT = to_s_BHT.new_empty((blocks, *to_s_BHT.shape))
    to_w_end, to_u_BHD = to_w_BHD.clone(), torch.empty_like(to_w_BHD)
    for summary in (True, False) if parts > 1 else (False,):
        _backs[(rows, blocks, parts - summary)](
            v_BHTD,
            o_BHTD,
            to_o_BHTD,
            kept,
            u_end_BH,
            to_u_BH,
            to_w_end,
            *ends,
            to_s_KBHT,
            to_v_BHTD,
            to_u_BHD,
            to_w_BHD,
            length,
            heads,
            width,
            parts,
            *v_BHTD.stride(),
            *o_BHTD.stride(),
            *to_o_BHTD.stride(),
            *to_v_BHTD.stride(),
            summary,
            cut.part,
            cut.tile,
            cut.block,
            STAGES,
            num_warps=1,
        )
    torch.sum(to_s_KBHT, 0, out=to_s_BHT)
    torch.sum(to_u_BHD, -1, out=to_u_BH)


@triton.jit
def _merge(m_a, u_a, m_b, u_b):
    """Two sums as one."""
    factor = tl.exp(-tl.abs(m_a - m_b))
    return tl.maximum(m_a, m_b), tl.where(m_a >= m_b, u_a + u_b * factor, u_a * factor + u_b)


@triton.jit
def _merge_fast(m_a, u_a, m_b, u_b):
    """`_merge` with float32 exponentials; what is added up stays float64."""
    factor = tl.exp(-tl.abs(m_a - m_b).to(tl.float32)).to(tl.float64)
    return tl.maximum(m_a, m_b), tl.where(m_a >= m_b, u_a + u_b * factor, u_a * factor + u_b)


@triton.jit
def _chunk(s, decay, mask, length, heads, sb, sh, st, gb, gh, gt, rb, rt, DECAYS, MASKED, C):
    """Of one chunk: its steps, which are real, and G, e, m, u as if nothing were before it."""
    row = tl.program_id(0).to(tl.int64)
    b, h = row // heads, row % heads
    t = tl.program_id(1).to(tl.int64) * C + tl.arange(0, C)
    there = t < length
    real = there
    if MASKED:
        real = there & (tl.load(mask + b * rb + t * rt, mask=there, other=0) != 0)
    e = tl.load(s + b * sb + h * sh + t * st, mask=there, other=0.0).to(tl.float64)
    g = tl.zeros([C], tl.float64)
    if DECAYS:
        fall = tl.load(decay + b * gb + h * gh + t * gt, mask=there, other=0.0).to(tl.float64)
        g = tl.cumsum(tl.where(real, fall, 0.0), 0)
        e = e + g
    e = tl.where(real, e, -1e30)
    one = tl.where(real, 1.0, 0.0).to(tl.float64)
    if s.dtype.element_ty == tl.float64:
        m, u = tl.associative_scan((e, one), 0, _merge)
    else:
        m, u = tl.associative_scan((e, one), 0, _merge_fast)
    return row, t, there, real, g, e, m, u


@triton.jit
def _last(x, C: tl.constexpr):
    return tl.sum(tl.where(tl.arange(0, C) == C - 1, x, 0.0), 0)


@triton.jit
def _totals(
    s,
    decay,
    mask,
    m_before,
    u_before,
    totals,
    kept,
    m_end,
    u_end,
    length,
    heads,
    sb,
    sh,
    st,
    gb,
    gh,
    gt,
    rb,
    rt,
    DECAYS: tl.constexpr,
    MASKED: tl.constexpr,
    C: tl.constexpr,
):
    """G, m and u of each chunk, as `totals` (R, N, 3)."""
    row, _t, _there, _real, g, _e, m, u = _chunk(
        s, decay, mask, length, heads, sb, sh, st, gb, gh, gt, rb, rt, DECAYS, MASKED, C
    )
    to = totals + (row * tl.num_programs(1) + tl.program_id(1)) * 3
    tl.store(to, _last(g, C))
    tl.store(to + 1, _last(m, C))
    tl.store(to + 2, _last(u, C))


@triton.jit
def _shares(
    s,
    decay,
    mask,
    m_before,
    u_before,
    totals,
    kept,
    m_end,
    u_end,
    length,
    heads,
    sb,
    sh,
    st,
    gb,
    gh,
    gt,
    rb,
    rt,
    DECAYS: tl.constexpr,
    MASKED: tl.constexpr,
    C: tl.constexpr,
):
    """`kept` (2, R, S): a, 1 / u_0 before it (1 where u_0 is 0), and b, 0 at masked steps; m and u after the last."""
    row, t, there, real, g, e, m, u = _chunk(
        s, decay, mask, length, heads, sb, sh, st, gb, gh, gt, rb, rt, DECAYS, MASKED, C
    )
    m_0 = tl.load(m_before + row).to(tl.float64)
    u_0 = tl.load(u_before + row).to(tl.float64)
    to = kept + row * (length + 1)
    to_b = to + tl.num_programs(0).to(tl.int64) * (length + 1)
    if tl.program_id(1) == 0:
        tl.store(to, 1.0 / tl.where(u_0 > 0, u_0, 1.0))
        tl.store(to_b, tl.zeros([], tl.float64))
    g_0 = tl.zeros([], tl.float64)
    for n in range(tl.program_id(1)):
        of = totals + (row * tl.num_programs(1) + n) * 3
        m_0, u_0 = _merge(m_0, u_0, g_0 + tl.load(of + 1), tl.load(of + 2))
        g_0 += tl.load(of)
    m, u = _merge(m_0, u_0, g_0 + m, u)
    own = tl.exp(tl.where(real, g_0 + e - m, 0.0)) / tl.where(u > 0, u, 1.0)
    own = tl.where(real, own, 0.0)
    tl.store(to + t + 1, 1.0 - own, mask=there)
    tl.store(to_b + t + 1, own, mask=there)
    if tl.program_id(1) == tl.num_programs(1) - 1:
        # steps behind the end change nothing, so the last place holds the state
        m_last = _last(m - (g_0 + g), C)
        stored = m_last.to(m_end.dtype.element_ty)
        tl.store(m_end + row, stored)
        # what m loses by being stored goes into u; where nothing was seen there is no u
        lost = tl.where(m_last > -1e29, m_last - stored.to(tl.float64), 0.0)
        tl.store(u_end + row, _last(u, C) * tl.exp(lost))


@triton.jit
def _then(a_1, x_1, a_2, x_2):
    """x -> a_1 x + x_1, and then x -> a_2 x + x_2."""
    return a_1 * a_2, a_2 * x_1 + x_2


@triton.jit
def _then_both(a_1, x_1, y_1, a_2, x_2, y_2):
    """`_then` of two sums that fade alike."""
    return a_1 * a_2, a_2 * x_1 + x_2, a_2 * y_1 + y_2


@triton.jit
def _means(
    v,
    kept,
    w_before,
    u_end,
    left,
    ends,
    o,
    w_end,
    length,
    heads,
    width,
    parts,
    vb,
    vh,
    vt,
    vd,
    ob,
    oh,
    ot,
    od,
    SUMMARY: tl.constexpr,
    PART: tl.constexpr,
    C: tl.constexpr,
    D: tl.constexpr,
    STAGES: tl.constexpr,
):
    """o, and w after the last step. `SUMMARY`: instead, how each part changes o: o -> left o + ends, (R, P, D) each."""
    kind = w_end.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    b, h, part = row // heads, row % heads, tl.program_id(2)
    d = tl.program_id(1) * D + tl.arange(0, D)
    i = tl.arange(0, C)
    inside = d < width
    of_a = kept + row * (length + 1)
    of_b = of_a + tl.num_programs(0).to(tl.int64) * (length + 1)
    stay = tl.full([D], 1.0, kind)
    mean = tl.zeros([D], kind)
    if not SUMMARY:
        mean = tl.load(w_before + row * width + d, mask=inside, other=0.0) * tl.load(of_a)
        for earlier in range(part):
            at = (row * parts + earlier) * width + d
            factor = tl.load(left + at, mask=inside, other=0.0)
            mean = mean * factor + tl.load(ends + at, mask=inside, other=0.0)
    stop = tl.minimum((part + 1).to(tl.int64) * PART, length)
    for start in tl.range(part.to(tl.int64) * PART, stop, C, num_stages=STAGES):
        t = start + i
        there = t < stop
        both = there[:, None] & inside[None, :]
        # what is loaded does not hang on b, so that tiles can be fetched ahead
        x = tl.load(v + b * vb + h * vh + t[:, None] * vt + d[None, :] * vd, mask=both, other=0.0)
        own = tl.load(of_b + t + 1, mask=there, other=0.0)[:, None]
        # v of a masked step may be NaN
        x = tl.where(own > 0, own * x.to(kind), 0.0)
        a = tl.load(of_a + t + 1, mask=there, other=1.0)
        a, x = tl.associative_scan((tl.broadcast_to(a[:, None], [C, D]), x), 0, _then)
        x = a * mean[None, :] + x
        last = (i == C - 1)[:, None]
        if SUMMARY:
            stay = stay * tl.sum(tl.where(last, a, 0.0), 0)
        else:
            tl.store(
                o + b * ob + h * oh + t[:, None] * ot + d[None, :] * od, x.to(o.dtype.element_ty), mask=both
            )
        mean = tl.sum(tl.where(last, x, 0.0), 0)
    if SUMMARY:
        at = (row * parts + part) * width + d
        tl.store(left + at, stay, mask=inside)
        tl.store(ends + at, mean, mask=inside)
    elif part == parts - 1:
        u = tl.load(u_end + row)
        tl.store(w_end + row * width + d, mean * tl.where(u > 0, u, 1.0), mask=inside)


@triton.jit
def _backs(  # noqa: PLR0915  (one walk)
    v,
    o,
    to_o,
    kept,
    u_end,
    to_u_end,
    to_w_end,
    left,
    ends,
    dots,
    to_s,
    to_v,
    to_u,
    to_w,
    length,
    heads,
    width,
    parts,
    vb,
    vh,
    vt,
    vd,
    ob,
    oh,
    ot,
    od,
    db,
    dh,
    dt,
    dd,
    eb,
    eh,
    et,
    ed,
    SUMMARY: tl.constexpr,
    PART: tl.constexpr,
    C: tl.constexpr,
    D: tl.constexpr,
    STAGES: tl.constexpr,
):
    """`_means` from the end: parts, tiles and steps count back from the last step.

    c is kept value by value and summed over D at the end of each step, so blocks of D need nothing of each other:
    `to_s` is (K, R, T), to be added up over K, and `to_u` (R, D) likewise.
    """
    kind = to_w.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    b, h, part = row // heads, row % heads, tl.program_id(2)
    d = tl.program_id(1) * D + tl.arange(0, D)
    i = tl.arange(0, C)
    inside = d < width
    of_a = kept + row * (length + 1)
    of_b = of_a + tl.num_programs(0).to(tl.int64) * (length + 1)
    stay = tl.full([D], 1.0, kind)
    a_end = tl.zeros([D], kind)
    c_end = tl.zeros([D], kind)
    if not SUMMARY:
        u = tl.load(u_end + row)
        u = tl.where(u > 0, u, 1.0)
        a_end = u * tl.load(to_w_end + row * width + d, mask=inside, other=0.0)
        c_end = tl.where(d == 0, -u * tl.load(to_u_end + row), 0.0)
        for later in range(part):
            at = (row * parts + later) * width + d
            factor = tl.load(left + at, mask=inside, other=0.0)
            a_end = a_end * factor + tl.load(ends + at, mask=inside, other=0.0)
            c_end = c_end * factor + tl.load(dots + at, mask=inside, other=0.0)
    stop = tl.minimum((part + 1).to(tl.int64) * PART, length)
    for start in tl.range(part.to(tl.int64) * PART, stop, C, num_stages=STAGES):
        back = start + i
        there = back < stop
        t = length - 1 - back
        both = there[:, None] & inside[None, :]
        g = tl.load(to_o + b * db + h * dh + t[:, None] * dt + d[None, :] * dd, mask=both, other=0.0).to(kind)
        y = tl.load(o + b * ob + h * oh + t[:, None] * ot + d[None, :] * od, mask=both, other=0.0).to(kind)
        a = tl.load(of_a + t + 2, mask=there & (back > 0), other=1.0)
        a, x, c = tl.associative_scan((tl.broadcast_to(a[:, None], [C, D]), g, g * y), 0, _then_both)
        x = a * a_end[None, :] + x
        c = a * c_end[None, :] + c
        last = (i == C - 1)[:, None]
        if SUMMARY:
            stay = stay * tl.sum(tl.where(last, a, 0.0), 0)
        else:
            z = tl.load(v + b * vb + h * vh + t[:, None] * vt + d[None, :] * vd, mask=both, other=0.0)
            own = tl.load(of_b + t + 1, mask=there, other=0.0)
            tl.store(
                to_v + b * eb + h * eh + t[:, None] * et + d[None, :] * ed,
                (own[:, None] * x).to(to_v.dtype.element_ty),
                mask=both,
            )
            # v of a masked step may be NaN
            score = tl.where(own > 0, own * tl.sum(z.to(kind) * x - c, 1), 0.0)
            tl.store(to_s + (tl.program_id(1) * tl.num_programs(0) + row) * length + t, score, mask=there)
        a_end = tl.sum(tl.where(last, x, 0.0), 0)
        c_end = tl.sum(tl.where(last, c, 0.0), 0)
    if SUMMARY:
        at = (row * parts + part) * width + d
        tl.store(left + at, stay, mask=inside)
        tl.store(ends + at, a_end, mask=inside)
        tl.store(dots + at, c_end, mask=inside)
    elif part == parts - 1:
        first = tl.load(of_a + 1) * tl.load(of_a)
        tl.store(to_w + row * width + d, first * a_end, mask=inside)
        tl.store(to_u + row * width + d, -first * c_end, mask=inside)

"""The programs behind `kernels.grouped_softmax`: one query each. Needs triton.

Shape legend: R = B H T queries, N blocks of L tokens, both padded to powers of two.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


def forward(score: Tensor, landmark: Tensor, own: Tensor, past: Tensor, weight: Tensor) -> None:
    """Fills the weights; arguments as in `kernels.grouped_softmax`, all (B, H, T, N, L) or (B, H, T, N)."""
    _launch(_weights, (score, landmark, own.view(torch.uint8), past.view(torch.uint8)), (weight,))


def backward(
    score: Tensor,
    landmark: Tensor,
    own: Tensor,
    past: Tensor,
    to_weight: Tensor,
    to_score: Tensor,
    to_landmark: Tensor,
) -> None:
    """Fills the gradients to scores and landmarks."""
    inputs = (score, landmark, own.view(torch.uint8), past.view(torch.uint8), to_weight)
    _launch(_gradients, inputs, (to_score, to_landmark))


def _launch(program: triton.JITFunction, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
    """`outputs` lie without gaps, `inputs` anyhow."""
    batch, heads, queries, blocks, tokens = inputs[0].shape
    size = triton.next_power_of_2(blocks), triton.next_power_of_2(tokens)
    with torch.cuda.device_of(inputs[0]):
        program[(batch * heads * queries,)](
            *inputs,
            *outputs,
            heads,
            queries,
            blocks,
            tokens,
            *(stride for x in inputs for stride in x.stride()),
            *size,
            num_warps=min(8, max(1, size[0] * size[1] // 512)),
        )


@triton.jit
def _place(heads, queries, blocks, tokens, N: tl.constexpr, L: tl.constexpr):
    """Of this program: its place in batch, heads and time, block and token numbers, and which of them there are."""
    row = tl.program_id(0).to(tl.int64)
    n = tl.arange(0, N)
    j = tl.arange(0, L)
    there = n < blocks
    t = row % queries
    bh = row // queries
    return row, bh // heads, bh % heads, t, n, j, there, there[:, None] & (j < tokens)[None, :]


@triton.jit
def _parts(score, gate, is_own, is_past):
    """Weights of own tokens [N, L] and of past blocks [N], and of the tokens inside each block [N, L]."""
    own_e = tl.where(is_own, score, -1e30)
    past_e = tl.where(is_past, gate, -1e30)
    m = tl.maximum(tl.max(tl.max(own_e, 1), 0), tl.max(past_e, 0))
    own = tl.where(is_own, tl.exp(own_e - m), 0.0)
    past = tl.where(is_past, tl.exp(past_e - m), 0.0)
    total = tl.sum(tl.sum(own, 1), 0) + tl.sum(past, 0)
    total = tl.where(total > 0, total, 1.0)
    inside = tl.exp(score - tl.max(score, 1)[:, None])
    return own / total, past / total, inside / tl.sum(inside, 1)[:, None]


@triton.jit
def _weights(
    score,
    landmark,
    own,
    past,
    weight,
    heads,
    queries,
    blocks,
    tokens,
    sb,
    sh,
    st,
    sn,
    sj,
    lb,
    lh,
    lt,
    ln,
    ob,
    oh,
    ot,
    on,
    oj,
    pb,
    ph,
    pt,
    pn,
    N: tl.constexpr,
    L: tl.constexpr,
):
    row, b, h, t, n, j, there, both = _place(heads, queries, blocks, tokens, N, L)
    at = score + b * sb + h * sh + t * st + n[:, None] * sn + j[None, :] * sj
    s = tl.load(at, mask=both, other=-1e30)
    gate = tl.load(landmark + b * lb + h * lh + t * lt + n * ln, mask=there, other=-1e30)
    at = own + b * ob + h * oh + t * ot + n[:, None] * on + j[None, :] * oj
    is_own = tl.load(at, mask=both, other=0) != 0
    is_past = tl.load(past + b * pb + h * ph + t * pt + n * pn, mask=there, other=0) != 0
    p_own, p_past, inside = _parts(s, gate, is_own, is_past)
    to = weight + (row * blocks + n[:, None]) * tokens + j[None, :]
    tl.store(to, p_own + p_past[:, None] * inside, mask=both)


@triton.jit
def _gradients(
    score,
    landmark,
    own,
    past,
    to_weight,
    to_score,
    to_landmark,
    heads,
    queries,
    blocks,
    tokens,
    sb,
    sh,
    st,
    sn,
    sj,
    lb,
    lh,
    lt,
    ln,
    ob,
    oh,
    ot,
    on,
    oj,
    pb,
    ph,
    pt,
    pn,
    gb,
    gh,
    gt,
    gn,
    gj,
    N: tl.constexpr,
    L: tl.constexpr,
):
    row, b, h, t, n, j, there, both = _place(heads, queries, blocks, tokens, N, L)
    at = score + b * sb + h * sh + t * st + n[:, None] * sn + j[None, :] * sj
    s = tl.load(at, mask=both, other=-1e30)
    gate = tl.load(landmark + b * lb + h * lh + t * lt + n * ln, mask=there, other=-1e30)
    at = own + b * ob + h * oh + t * ot + n[:, None] * on + j[None, :] * oj
    is_own = tl.load(at, mask=both, other=0) != 0
    is_past = tl.load(past + b * pb + h * ph + t * pt + n * pn, mask=there, other=0) != 0
    at = to_weight + b * gb + h * gh + t * gt + n[:, None] * gn + j[None, :] * gj
    g = tl.load(at, mask=both, other=0.0)
    p_own, p_past, inside = _parts(s, gate, is_own, is_past)
    g_inside = tl.sum(inside * g, 1)
    mean = tl.sum(tl.sum(p_own * g, 1), 0) + tl.sum(p_past * g_inside, 0)
    to_s = p_own * (g - mean) + p_past[:, None] * inside * (g - g_inside[:, None])
    tl.store(to_score + (row * blocks + n[:, None]) * tokens + j[None, :], to_s, mask=both)
    tl.store(to_landmark + row * blocks + n, p_past * (g_inside - mean), mask=there)

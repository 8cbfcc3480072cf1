"""The program behind `kernels.chunk_walk`. Needs triton.

Shape legend: R = B H rows, N chunks of C steps, K key width, V value width.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


def walk(
    scale: Tensor, out: Tensor, read: Tensor, add: Tensor, first: Tensor, every: Tensor, back: bool
) -> None:
    """Fills `every`; arguments as in `chunk_walk`."""
    batch, heads, chunks, rows_of_state, values = add.shape
    momentum = scale.shape[-1] > 1
    keys = rows_of_state // 2 if momentum else rows_of_state
    key_block = max(16, triton.next_power_of_2(keys))
    value_block = min(32 if key_block <= 64 else 16, max(16, triton.next_power_of_2(values)))
    parts = [x.flatten(0, 1) for x in (scale, out, read, add, first, every)]
    with torch.cuda.device_of(add):
        _walk[(batch * heads, triton.cdiv(values, value_block))](
            *parts,
            chunks,
            out.shape[-1],
            keys,
            values,
            *(stride for part in parts for stride in part.stride()),
            momentum,
            back,
            max(16, triton.next_power_of_2(out.shape[-1])),
            key_block,
            value_block,
        )


@triton.jit
def _walk(
    scale,
    out,
    read,
    add,
    first,
    every,
    chunks,
    steps,
    keys,
    values,
    er,
    en,
    ej,
    or_,
    on,
    ok,
    oc,
    rr,
    rn,
    rc,
    rk,
    ar,
    an,
    ak,
    av,
    fr,
    fk,
    fv,
    yr,
    yn,
    yk,
    yv,
    MOMENTUM: tl.constexpr,
    BACK: tl.constexpr,
    C: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, K)
    c = tl.arange(0, C)
    v = tl.program_id(1) * V + tl.arange(0, V)
    of_kv = (k < keys)[:, None] & (v < values)[None, :]
    of_kc = (k < keys)[:, None] & (c < steps)[None, :]
    of_ck = (c < steps)[:, None] & (k < keys)[None, :]
    at = first + row * fr + k[:, None] * fk + v[None, :] * fv
    to = every + row * yr + k[:, None] * yk + v[None, :] * yv
    add_at = add + row * ar + k[:, None] * ak + v[None, :] * av
    out_at = out + row * or_ + k[:, None] * ok + c[None, :] * oc
    read_at = read + row * rr + c[:, None] * rc + k[None, :] * rk
    w = tl.load(at, mask=of_kv, other=0.0)
    s = tl.zeros([K, V], tl.float32)
    if MOMENTUM:
        s = tl.load(at + keys * fk, mask=of_kv, other=0.0)
    factor = scale + row * er
    # from chunk to chunk the pointers move: forwards from the first, or backwards from the last
    if BACK:
        last = tl.full([], chunks, tl.int64)
        to += last * yn
        factor += (last - 1) * en
        out_at += (last - 1) * on
        read_at += (last - 1) * rn
        add_at += (last - 1) * an
        yn, en, on, rn, an = -yn, -en, -on, -rn, -an
    tl.store(to, w, mask=of_kv)
    if MOMENTUM:
        tl.store(to + keys * yk, s, mask=of_kv)
    for _ in range(chunks):
        p = tl.dot(tl.load(read_at, mask=of_ck, other=0.0), w, input_precision="tf32x3")
        if MOMENTUM:
            more = tl.load(read_at + keys * rk, mask=of_ck, other=0.0)
            p += tl.dot(more, s, input_precision="tf32x3")
        w_next = tl.load(factor) * w + tl.load(add_at, mask=of_kv, other=0.0)
        w_next -= tl.dot(tl.load(out_at, mask=of_kc, other=0.0), p, input_precision="tf32x3")
        if MOMENTUM:
            w_next += tl.load(factor + ej) * s
            s = tl.load(factor + 2 * ej) * w + tl.load(factor + 3 * ej) * s
            s += tl.load(add_at + keys * ak, mask=of_kv, other=0.0)
            more = tl.load(out_at + keys * ok, mask=of_kc, other=0.0)
            s -= tl.dot(more, p, input_precision="tf32x3")
        w = w_next
        to += yn
        factor += en
        out_at += on
        read_at += rn
        add_at += an
        tl.store(to, w, mask=of_kv)
        if MOMENTUM:
            tl.store(to + keys * yk, s, mask=of_kv)

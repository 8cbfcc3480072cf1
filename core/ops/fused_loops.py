"""The loops behind `fused_scan`, in machine code: one pass over time forward, one pass back. Needs numba.

Everything that is carried from step to step is float64, whatever the inputs: an exponential, a quotient and D
multiplications a step, and no sum that loses digits however long the sequence. Of each step two numbers are kept for
the way back: p, the one exponential of the step (negative, or -0.0, where the step is the new largest exponent), and
r = 1 / denominator.

Rows n and heads h stand apart from time so that both layouts of a batch are read as they lie in memory and in that
order: (B, T, H, D), as a linear layer gives it, and (B H, T, 1, D).

Shape legend: N rows, T time, H heads, D value width; R = T + 1: each step, and the rounding of the last state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """`function` in machine code, kept between processes where the package's folder (or the user's cache) can be
    written. Sums over D may be taken in any order and products be fused into them, which is what lets them use whole
    registers; NaN and infinity keep their meaning."""
    options: dict[str, Any] = {"error_model": "numpy", "nogil": True, "fastmath": {"reassoc", "contract"}}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder to keep it in
        return numba.njit(**options)(function)


@compiled
def forward(  # type: ignore[no-untyped-def]  # noqa: PLR0912  (a call a step costs more than the step)
    s_NTH, v_NTHD, g_NTH, real_BT, m_NH, u_NH, w_NHD, o_NTHD, kept_NRH2
):
    """Fills o and `kept`, and turns the state m, u, w into the one after the last step, in place.

    `g` (decay), `real` (mask) and `kept` may be empty: no decay, all steps real, nothing to be kept.
    """
    rows, length, heads, width = v_NTHD.shape
    decays, masked, keeps = g_NTH.size > 0, real_BT.size > 0, kept_NRH2.size > 0
    per = rows // max(1, len(real_BT))
    m_H, u_H, w_HD = np.empty(heads), np.empty(heads), np.empty((heads, width))
    for n in range(rows):
        for h in range(heads):
            m_H[h], u_H[h] = m_NH[n, h], u_NH[n, h]
            for d in range(width):
                w_HD[h, d] = w_NHD[n, h, d]
        for t in range(length):
            real = not masked or real_BT[n // per, t]
            for h in range(heads):
                p = 0.0
                if real:
                    s, m = np.float64(s_NTH[n, t, h]), m_H[h]
                    if decays:
                        m -= g_NTH[n, t, h]
                    if s <= m:
                        p = math.exp(s - m)
                        old, new, m_H[h] = 1.0, p, m
                    else:
                        p = math.exp(m - s)
                        old, new, m_H[h] = p, 1.0, s
                        p = -p
                    u_H[h] = u_H[h] * old + new
                    r = 1.0 / u_H[h] if u_H[h] > 0.0 else 1.0
                    for d in range(width):
                        w = w_HD[h, d] * old + v_NTHD[n, t, h, d] * new
                        w_HD[h, d] = w
                        o_NTHD[n, t, h, d] = w * r
                else:  # v is not looked at: it may be NaN
                    r = 1.0 / u_H[h] if u_H[h] > 0.0 else 1.0
                    for d in range(width):
                        o_NTHD[n, t, h, d] = w_HD[h, d] * r
                if keeps:
                    kept_NRH2[n, t, h, 0], kept_NRH2[n, t, h, 1] = p, r
        for h in range(heads):
            m_NH[n, h] = m_H[h]
            scale = math.exp(m_H[h] - m_NH[n, h])  # what m loses by being stored goes into u and w
            u_NH[n, h] = u_H[h] * scale
            for d in range(width):
                w_NHD[n, h, d] = w_HD[h, d] * scale
            if keeps:
                kept_NRH2[n, length, h, 0], kept_NRH2[n, length, h, 1] = scale, 0.0


@compiled
def backward(  # type: ignore[no-untyped-def]  # noqa: PLR0912
    v_NTHD,
    o_NTHD,
    kept_NRH2,
    real_BT,
    u_NH,
    w_NHD,
    to_o_NTHD,
    to_u_NH,
    to_w_NHD,
    to_s_NTH,
    to_v_NTHD,
    to_g_NTH,
):
    """Fills the gradients to s, v and g (empty: not wanted) from those to o and to the state after the last step.

    u, w are the state after the last step. `to_u` and `to_w` become the gradients to the first state, in place.
    With A_t the gradient to the numerator after step t and -C_t the one to the denominator,

        A_t = do_t / u_t + old_{t+1} A_{t+1},   C_t = (do_t . o_t) / u_t + old_{t+1} C_{t+1},
        dv_t = new_t A_t,   ds_t = new_t (v_t . A_t - C_t),

    and a decay at t is felt like higher scores from t on: dg_t = sum_{i>=t} ds_i - (w . dw + u du).
    """
    rows, length, heads, width = v_NTHD.shape
    decays, masked = to_g_NTH.size > 0, real_BT.size > 0
    per = rows // max(1, len(real_BT))
    a_HD, c_H, later_H = np.empty((heads, width)), np.empty(heads), np.empty(heads)
    for n in range(rows):
        for h in range(heads):
            scale = kept_NRH2[n, length, h, 0]
            c_H[h] = -scale * to_u_NH[n, h]
            later_H[h] = -np.float64(u_NH[n, h]) * to_u_NH[n, h]
            for d in range(width):
                a_HD[h, d] = scale * to_w_NHD[n, h, d]
                later_H[h] -= np.float64(w_NHD[n, h, d]) * to_w_NHD[n, h, d]
        for back in range(length):
            t: Any = np.uintp(length - 1 - back)  # unsigned: no test for an index that counts from behind
            real = not masked or real_BT[n // per, t]
            for left in range(heads):  # straight down through memory, which the machine foresees
                h = np.uintp(heads - 1 - left)  # type: ignore[assignment]
                p, r = kept_NRH2[n, t, h, 0], kept_NRH2[n, t, h, 1]
                to_o_o, v_a = 0.0, 0.0
                if real:
                    largest = math.copysign(1.0, p) < 0.0
                    old, new = (-p, 1.0) if largest else (1.0, p)
                    for d in range(width):
                        to_o = np.float64(to_o_NTHD[n, t, h, d])
                        a = a_HD[h, d] + to_o * r
                        to_o_o += to_o * o_NTHD[n, t, h, d]
                        v_a += a * v_NTHD[n, t, h, d]
                        to_v_NTHD[n, t, h, d] = a * new
                        a_HD[h, d] = a * old
                    c = c_H[h] + to_o_o * r
                    to_s = new * (v_a - c)
                    c_H[h] = c * old
                    later_H[h] += to_s
                    to_s_NTH[n, t, h] = to_s
                    if decays:
                        to_g_NTH[n, t, h] = later_H[h]
                else:
                    for d in range(width):
                        to_o = np.float64(to_o_NTHD[n, t, h, d])
                        a_HD[h, d] += to_o * r
                        to_o_o += to_o * o_NTHD[n, t, h, d]
                        to_v_NTHD[n, t, h, d] = 0.0
                    c_H[h] += to_o_o * r
                    to_s_NTH[n, t, h] = 0.0
                    if decays:
                        to_g_NTH[n, t, h] = 0.0
        for h in range(heads):
            to_u_NH[n, h] = -c_H[h]
            for d in range(width):
                to_w_NHD[n, h, d] = a_HD[h, d]

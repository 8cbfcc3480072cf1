"""Miras: memories with any map, inner loss, retention and momentum, in one recurrence.

    g_t = gradient of l(M(k_t; W_start) - v_t) by the weights        memory_net.py, inner_loss.py: by hand
    S_t = e^{h_t} S_{t-1} - b_t g_t                                  without momentum: S_t = -b_t g_t
    Z_t = e^{r_t} Z_{t-1} + S_t,     W_t = retention(Z_t)            retention.py
    y_t = M(q_t; W_t)

    Titans, deep    mlp, power p = 2, norm q = 2, momentum
    Yaad            huber, norm q = 2
    Moneta          power p = 3, norm q = 4
    Memora          power p = 2, simplex
    gated delta     linear, p = q = 2, chunks of 1

W_start are the weights where the current chunk of C tokens began, and Moneta's norm is taken there too: so gradients
of a chunk do not wait for each other and Z is linear inside it. C = 1 is the rule as written above; a larger C is
another, faster rule, and belongs to the model. The state therefore holds Z at the start of the chunk and the place
in it: every token counts at once, however few come in a call, and pieces of any length give what the whole gives. Gates
of C equal tokens add up, so write gates should stay below 2 / C.

Chunks are counted in real tokens, row by row. Two forms of the same numbers and the step they are made of: `naive`
(loop of `miras_step`, the oracle; a Scan while torch exports) and `chunk`, which lays out no matrix per token except
for the simplex. All compute in the type of the state, under autocast too.

Source: Behrouz et al. 2025, "It's All Connected" (Miras, arXiv 2504.13173), "Titans" (arXiv 2501.00663); chunks with
gradients at their start: Sun et al. 2024, "Learning to (Learn at Test Time)" (arXiv 2407.04620).
Shape legend: B batch, H heads, T time, K key width, V value width; N chunks of C steps, R = C + 1; I, O inputs and
outputs of a weight matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..state import flatten, unflatten, where
from .chunks import decays, exporting, fold, from_places, momentum_decays, places, to_places
from .delta_rule import Form, form_of
from .inner_loss import huber_slope, power_slope
from .memory_net import Net, gradients, read
from .retention import centred, norm_scale, simplex_weights


class Miras(NamedTuple):
    """Which member of the family: map, loss and its p, retention and its q, C, and what the mlp's norm adds."""

    net: Net = "linear"
    loss: Literal["power", "huber"] = "power"
    p: float = 2.0
    retention: Literal["norm", "simplex"] = "norm"
    q: float = 2.0
    chunk_size: int = 1
    variance: float = 1e-2


class Token(NamedTuple):
    """What a token brings: q, k (..., K), v (..., V), and gates (...): b, r, h (None: no momentum), Huber's d."""

    q: Tensor
    k: Tensor
    v: Tensor
    write: Tensor
    log_keep: Tensor
    log_momentum: Tensor | None = None
    threshold: Tensor | None = None


class MirasState(NamedTuple):
    """Tuples with one tensor (B, H, I, O) for each weight matrix; `()` for what the rule does without.

    z: the sums; s: the momentum; start: z where the chunk began, and place: tokens of it seen, one tensor (B,).
    """

    z: Any
    s: Any
    start: Any
    place: Any


def miras_state(rule: Miras, z: Sequence[Tensor], *, momentum: bool = False) -> MirasState:
    """The state whose memory is `z`, at the beginning of a chunk.

    Raises:
        ValueError: where the chunk size of the rule is not positive.
    """
    form_of("miras", "naive", rule.chunk_size)
    z = tuple(map(centred, z)) if rule.retention == "simplex" else tuple(z)
    s = tuple(torch.zeros_like(part) for part in z) if momentum else ()
    if rule.chunk_size == 1:
        return MirasState(z, s, (), ())
    place_B = torch.zeros(z[0].shape[0], dtype=torch.long, device=z[0].device)
    return MirasState(z, s, tuple(part.clone() for part in z), (place_B,))


def miras(
    rule: Miras,
    tokens: Token,
    state: MirasState,
    *,
    mask_BT: Tensor | None = None,
    form: Form = "auto",
) -> tuple[Tensor, MirasState]:
    """Read after write at every step, going on from `state`.

    Args:
        rule: the member of the family.
        tokens: vectors (B, H, T, width) and gates (B, H, T); T may be 0.
        state: from `miras_state`, or an earlier call.
        mask_BT: True on real steps; the others leave the state as it was.
        form: "auto" is "naive" while torch exports and "chunk" otherwise.

    Returns:
        y (B, H, T, V) in the type of v, and the state after the last step.

    Raises:
        ValueError: where `form` is unknown, or Huber's loss has no threshold.
    """
    form = form_of("miras", form, rule.chunk_size)
    dtype = state.z[0].dtype
    wide = _wide(rule, tokens, dtype)
    if mask_BT is None:
        mask_BT = torch.ones(wide.v.shape[0], wide.v.shape[2], dtype=torch.bool, device=wide.v.device)
    with torch.autocast(wide.v.device.type, enabled=False):
        if form == "chunk":
            y_BHTV, state = _chunks(rule, wide, state, mask_BT)
        elif not exporting() and wide.v.shape[2] == 0:
            y_BHTV = wide.v
        else:
            y_BHTV, state = _naive(rule, wide, state, mask_BT)
    return y_BHTV.to(tokens.v.dtype), state


def miras_step(
    rule: Miras, token: Token, state: MirasState, *, mask_B: Tensor | None = None
) -> tuple[Tensor, MirasState]:
    """One step of `miras`: y (B, H, V) and the state after it."""
    wide = _wide(rule, token, state.z[0].dtype)
    if mask_B is None:
        mask_B = torch.ones(wide.v.shape[0], dtype=torch.bool, device=wide.v.device)
    with torch.autocast(wide.v.device.type, enabled=False):
        y_BHV, state = _step(rule, wide, state, mask_B)
    return y_BHV.to(token.v.dtype), state


def miras_read(rule: Miras, q_BHTK: Tensor, state: MirasState) -> Tensor:
    """M(q) (B, H, T, V) by the weights as they are; nothing is written."""
    weights = _weights(rule, state.z, state.start or state.z)
    return read(rule.net, q_BHTK.to(weights[0].dtype), [partial(_times, w=w) for w in weights], rule.variance)


def _wide(rule: Miras, token: Token, dtype: torch.dtype) -> Token:
    if rule.loss == "huber" and token.threshold is None:
        raise ValueError("miras: Huber's loss needs a threshold; give tokens one, or use the power loss")
    return Token(*(None if part is None else part.to(dtype) for part in token))  # type: ignore[arg-type]


def _slope(rule: Miras, token: Token) -> Callable[[Tensor], Tensor]:
    if rule.loss == "power":
        return partial(power_slope, p=rule.p)
    return lambda e: huber_slope(e, token.threshold)  # type: ignore[arg-type]


def _weights(rule: Miras, z: Sequence[Tensor], start: Sequence[Tensor]) -> list[Tensor]:
    """W of the sums z in a chunk that began at `start`."""
    if rule.retention == "simplex":
        return [simplex_weights(part) - 1 for part in z]
    return [part * norm_scale(begun, rule.q) for part, begun in zip(z, start, strict=True)]


def _times(x: Tensor, w: Tensor) -> Tensor:
    return x @ w


def _step(rule: Miras, token: Token, state: MirasState, mask_B: Tensor) -> tuple[Tensor, MirasState]:
    token = Token(*(None if part is None else part.unsqueeze(2) for part in token))  # type: ignore[arg-type]
    start = state.start or state.z
    factors = gradients(
        rule.net, token.k, token.v, _weights(rule, start, start), _slope(rule, token), rule.variance
    )
    written = [left.mT @ (-token.write[..., None] * right) for left, right in factors]
    if token.log_momentum is not None:
        lasting = token.log_momentum.exp()[..., None]
        written = [lasting * s + new for s, new in zip(state.s, written, strict=True)]
    kept = token.log_keep.exp()[..., None]
    z = [kept * old + new for old, new in zip(state.z, written, strict=True)]
    after = _after(rule, z, written if state.s else [], mask_B.long(), state)
    return miras_read(rule, token.q, after)[:, :, 0], after


def _after(
    rule: Miras, z: Sequence[Tensor], s: Sequence[Tensor], tokens_B: Tensor, state: MirasState
) -> MirasState:
    """The state with these sums after so many more tokens of the chunk; rows without any keep theirs, bit for bit."""
    if rule.retention == "simplex":
        z = [centred(part) for part in z]
    any_B = tokens_B > 0
    z = tuple(where(any_B, new, old) for new, old in zip(z, state.z, strict=True))
    s = tuple(where(any_B, new, old) for new, old in zip(s, state.s, strict=True))
    if rule.chunk_size == 1:
        return MirasState(z, s, (), ())
    place_B = state.place[0] + tokens_B
    full_B = place_B == rule.chunk_size
    start = tuple(where(full_B, new, old) for new, old in zip(z, state.start, strict=True))
    return MirasState(z, s, start, (place_B.masked_fill(full_B, 0),))


def _naive(rule: Miras, tokens: Token, state: MirasState, mask_BT: Tensor) -> tuple[Tensor, MirasState]:
    names = [name for name, part in zip(Token._fields, tokens, strict=True) if part is not None]
    like = state

    def step(carry: list[Tensor], now: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        before = unflatten(like, dict(zip(flatten(like), carry, strict=True)))
        token = Token(**dict(zip(names, now[1:], strict=True)))
        y_BHV, after = _step(rule, token, before, now[0])
        return [*flatten(after).values()], y_BHV

    parts = [part.movedim(2, 0) for part in tokens if part is not None]
    carry, y_TBHV = fold(step, [*flatten(state).values()], [mask_BT.T, *parts])
    return y_TBHV.movedim(0, 2), unflatten(like, dict(zip(flatten(like), carry, strict=True)))


def _chunks(rule: Miras, tokens: Token, state: MirasState, mask_BT: Tensor) -> tuple[Tensor, MirasState]:
    """Tokens to their places in chunks, chunk after chunk, outputs back to their tokens."""
    place_BT, chunks = places(mask_BT, state.place[0] if state.place else None, rule.chunk_size)

    def placed(x_BHT_: Tensor) -> Tensor:
        return to_places(x_BHT_.transpose(1, 2), place_BT, chunks, rule.chunk_size).movedim(3, 1)

    # (B, H, N, C, ...), gates of empty places 0: nothing written, all kept
    grid = Token(*(None if part is None else placed(part) for part in tokens))  # type: ignore[arg-type]
    real_BHNC = placed(mask_BT[:, None].to(tokens.v.dtype))
    kept = decays(grid.log_keep)
    if grid.log_momentum is None:
        counted = lasting = kept
    else:
        lasting = decays(grid.log_momentum)
        counted = momentum_decays(kept, lasting, real_BHNC)
    outputs = []
    for n in range(chunks):
        token = Token(*(None if part is None else part[:, :, n] for part in grid))  # type: ignore[arg-type]
        coefficients = _Coefficients(kept[:, :, n], counted[:, :, n], lasting[:, :, n])
        y_BHCV, state = _chunk(rule, token, real_BHNC[:, 0, n], coefficients, state)
        outputs.append(y_BHCV.transpose(1, 2))
    return from_places(torch.stack(outputs, 1), place_BT).transpose(1, 2), state


class _Coefficients(NamedTuple):
    """(B, H, R, R) each: what is left, after t tokens, of z before, in z of what token i wrote, and in s of that."""

    kept: Tensor
    counted: Tensor
    lasting: Tensor


def _chunk(
    rule: Miras, token: Token, real_BC: Tensor, share: _Coefficients, state: MirasState
) -> tuple[Tensor, MirasState]:
    start = state.start or state.z
    factors = gradients(
        rule.net, token.k, token.v, _weights(rule, start, start), _slope(rule, token), rule.variance
    )
    # (left, right) of what every token writes
    pairs = [(left, -token.write[..., None] * right) for left, right in factors]

    def gathered(coefficient_R: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return (coefficient_R[..., 1:, None] * left).mT @ right

    z, s = [], []
    for j, (left, right) in enumerate(pairs):
        end = share.kept[..., -1, :1, None] * state.z[j] + gathered(share.counted[..., -1, :], left, right)
        if state.s:
            end = end + share.counted[..., -1, :1, None] * state.s[j]
            s.append(
                share.lasting[..., -1, :1, None] * state.s[j]
                + gathered(share.lasting[..., -1, :], left, right)
            )
        z.append(end)
    after = _after(rule, z, s, real_BC.sum(1).long(), state)

    def times(j: int) -> Callable[[Tensor], Tensor]:
        """x (B, H, C, I) times W_t, each token its own."""
        left, right = pairs[j]
        from_z = share.kept[..., 1:, :1]
        from_s = share.counted[..., 1:, :1]
        inside = share.counted[..., 1:, 1:]
        if rule.retention == "simplex":
            z_BHCIO = torch.einsum("bhti,bhik,bhio->bhtko", inside, left, right)
            z_BHCIO = z_BHCIO + from_z[..., None] * state.z[j][:, :, None]
            if state.s:
                z_BHCIO = z_BHCIO + from_s[..., None] * state.s[j][:, :, None]
            w_BHCIO = simplex_weights(z_BHCIO) - 1
            return lambda x: (x[..., None, :] @ w_BHCIO)[..., 0, :]
        # the token that fills the chunk is read in the units of the next one
        early, last = norm_scale(start[j], rule.q), norm_scale((after.start or after.z)[j], rule.q)
        scale = torch.cat([early.expand(-1, -1, rule.chunk_size - 1, -1), last], 2)

        def product(x: Tensor) -> Tensor:
            y = from_z * (x @ state.z[j]) + (inside * (x @ left.mT)) @ right
            if state.s:
                y = y + from_s * (x @ state.s[j])
            return scale * y

        return product

    return read(rule.net, token.q, [times(j) for j in range(len(pairs))], rule.variance), after

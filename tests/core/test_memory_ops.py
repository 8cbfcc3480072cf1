"""The memory recurrences: hand gradients against autograd, chunks against the loop, limits that are known."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from remem.core.ops.delta_rule import delta_rule, delta_step
from remem.core.ops.inner_loss import huber_loss, power_loss
from remem.core.ops.memory_net import NETS, read, shapes
from remem.core.ops.miras import Miras, MirasState, Token, miras, miras_read, miras_state, miras_step
from remem.core.ops.retention import norm_scale, simplex_weights
from remem.core.ops.short_conv import short_conv, short_conv_step
from remem.core.ops.softmax_scan import NOTHING
from remem.core.ops.titans import MomentumState, titans, titans_step
from remem.core.state import flatten

B, H, K, V = 2, 2, 4, 5


def numbers(seed: int, time: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Vectors, gates in (0, 1) or their logarithms, and a mask."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    def gate() -> Tensor:
        return torch.rand(B, H, time, generator=random, dtype=torch.float64).to(dtype)

    return {
        "q": F.normalize(normal(B, H, time, K), dim=-1),
        "k": F.normalize(normal(B, H, time, K), dim=-1),
        "v": normal(B, H, time, V),
        "write": gate(),
        "log_keep": (0.5 + 0.5 * gate()).log(),
        "log_momentum": gate().log(),
        "mask": torch.rand(B, time, generator=random) < 0.7,
        "w": normal(B, H, K, V),
        "s": normal(B, H, K, V),
    }


def run_delta(n: dict[str, Tensor], mask: Tensor | None = None, **how: object) -> tuple[Tensor, list[Tensor]]:
    y, w = delta_rule(
        n["q"], n["k"], n["v"], n["write"], n["w"], log_keep_BHT=n["log_keep"], mask_BT=mask, **how
    )
    return y, [w]


def run_titans(
    n: dict[str, Tensor], mask: Tensor | None = None, **how: object
) -> tuple[Tensor, list[Tensor]]:
    gates = (n["write"], n["log_keep"], n["log_momentum"])
    y, state = titans(n["q"], n["k"], n["v"], *gates, MomentumState(n["w"], n["s"]), mask_BT=mask, **how)
    return y, [*state]


RUNS: dict[str, Callable[..., tuple[Tensor, list[Tensor]]]] = {"delta": run_delta, "titans": run_titans}


def test_written_gradients_are_those_of_autograd() -> None:
    """Two steps of each rule, the inner gradient by autograd in float64."""
    n = numbers(0, 2)
    w, s = n["w"], n["s"]
    w_only = n["w"]
    for t in range(2):

        def gradient(at: Tensor, t: int = t) -> Tensor:
            at = at.clone().requires_grad_()
            loss = (torch.einsum("bhk,bhkv->bhv", n["k"][:, :, t], at) - n["v"][:, :, t]).square().sum() / 2
            return torch.autograd.grad(loss, at)[0]

        write, keep, momentum = (n[g][:, :, t, None, None] for g in ("write", "log_keep", "log_momentum"))
        w_only = keep.exp() * w_only - write * gradient(w_only)
        s = momentum.exp() * s - write * gradient(w)
        w = keep.exp() * w + s
    for wanted, found in zip((w_only, w, s), (*run_delta(n)[1], *run_titans(n)[1]), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("time", [0, 1, 15, 16, 45])
def test_chunks_are_the_loop(name: str, time: int) -> None:
    n = numbers(time, time)
    wanted, ended = RUNS[name](n, n["mask"], form="naive")
    for chunk_size in (1, 4, 16, 64):
        y, end = RUNS[name](n, n["mask"], chunk_size=chunk_size)
        torch.testing.assert_close(y, wanted, rtol=0, atol=1e-12)
        for found, want in zip(end, ended, strict=True):
            torch.testing.assert_close(found, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", RUNS)
def test_a_chain_of_pieces_and_steps_is_the_whole_in_float32(name: str) -> None:
    n = numbers(3, 50, torch.float32)
    whole, ended = RUNS[name](n, n["mask"])
    now, pieces = dict(n), []
    for start, end in ((0, 0), (0, 1), (1, 18), (18, 50)):
        piece = {
            key: now[key][:, :, start:end] for key in ("q", "k", "v", "write", "log_keep", "log_momentum")
        }
        y, state = RUNS[name](now | piece, n["mask"][:, start:end])
        now = now | dict(zip(("w", "s"), state, strict=False))
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 2), whole, rtol=0, atol=1e-5)
    w, state = n["w"], MomentumState(n["w"], n["s"])
    for t in range(50):
        at = [n[key][:, :, t] for key in ("q", "k", "v", "write", "log_keep", "log_momentum")]
        _, w = delta_step(*at[:4], w, log_keep_BH=at[4], mask_B=n["mask"][:, t])
        _, state = titans_step(*at, state, mask_B=n["mask"][:, t])
    for found, want in zip([w] if name == "delta" else state, ended, strict=True):
        torch.testing.assert_close(found, want, rtol=0, atol=1e-5)


def test_without_momentum_titans_is_the_gated_delta_rule() -> None:
    n = numbers(4, 40)
    n["s"], n["log_momentum"] = 0 * n["s"], 0 * n["log_momentum"] + NOTHING
    torch.testing.assert_close(run_titans(n, n["mask"])[0], run_delta(n, n["mask"])[0], rtol=0, atol=1e-12)


def test_nothing_written_means_that_history_does_not_matter() -> None:
    n = numbers(5, 30)
    n["write"] = 0 * n["write"]
    other = n | {"k": n["k"].flip(2), "v": n["v"] + 7}
    for run in RUNS.values():
        assert torch.equal(run(n)[0], run(other)[0])


def test_nothing_kept_means_the_last_token_only() -> None:
    """What is left is one row of values at the last key: orthogonal queries read zeros."""
    n = numbers(6, 30)
    n["log_keep"], n["log_momentum"] = 0 * n["log_keep"] + NOTHING, 0 * n["log_momentum"] + NOTHING
    last = n["k"][:, :, -1, :, None]
    for run in RUNS.values():
        y, (w, *_) = run(n)
        assert torch.isfinite(y).all()
        assert w.abs().max() > 0.1
        assert (w - last @ (last.mT @ w)).abs().max() <= 1e-12


def test_a_masked_step_leaves_a_momentum_alone() -> None:
    n = numbers(7, 6)
    _, end = run_titans(n, torch.zeros(B, 6, dtype=torch.bool))
    assert torch.equal(end[0], n["w"])
    assert torch.equal(end[1], n["s"])


def test_finite_and_bounded_for_5000_steps() -> None:
    random = torch.Generator().manual_seed(8)
    k, v = (torch.randn(1, 1, 5000, 16, generator=random) for _ in range(2))
    k, gate = F.normalize(k, dim=-1), torch.full((1, 1, 5000), 0.9)
    w = torch.zeros(1, 1, 16, 16)
    y, _ = delta_rule(k, k, v, gate, w)
    assert y.abs().max() < 20
    y, _ = titans(k, k, v, gate, (0.98 * gate / 0.9).log(), (0.5 * gate).log(), MomentumState(w, w))
    assert y.abs().max() < 50


@pytest.mark.parametrize("name", RUNS)
def test_gradients_of_first_and_second_order(name: str) -> None:
    n = numbers(9, 3)
    names = ["q", "k", "v", "write", "log_keep", "log_momentum", "w", "s"]
    if name == "delta":
        names = [key for key in names if key not in ("log_momentum", "s")]

    def outputs(*tensors: Tensor) -> Tensor:
        y, end = RUNS[name](n | dict(zip(names, tensors, strict=True)), n["mask"], chunk_size=2)
        return torch.cat([part.flatten() for part in (y, *end)])

    tensors = tuple(n[key].clone().requires_grad_() for key in names)
    assert torch.autograd.gradcheck(outputs, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(outputs, tensors, fast_mode=True)


RULES = {
    f"{name}, {net}": rule._replace(net=net)
    for net in NETS
    for name, rule in {
        "l2": Miras(),
        "yaad": Miras(loss="huber"),
        "moneta": Miras(p=3.0, q=4.0),
        "memora": Miras(retention="simplex"),
    }.items()
}


def tokens_of(n: dict[str, Tensor], *, momentum: bool = True) -> Token:
    """K = V, as the mlp wants it, and thresholds that some errors pass and some do not."""
    gates = (n["write"], n["log_keep"], n["log_momentum"] if momentum else None)
    return Token(n["q"], n["k"], n["v"][..., :K], *gates, threshold=0.5 + n["write"])


def state_of(
    rule: Miras, seed: int, dtype: torch.dtype = torch.float64, *, momentum: bool = True
) -> MirasState:
    random = torch.Generator().manual_seed(seed)
    z = [
        torch.randn(B, H, *shape, generator=random, dtype=torch.float64).to(dtype) * 0.5
        for shape in shapes(rule.net, K, K)
    ]
    return miras_state(rule, z, momentum=momentum)


def cut(tokens: Token, start: int, end: int) -> Token:
    return Token(*(None if part is None else part[:, :, start:end] for part in tokens))


@pytest.mark.parametrize("chunk_size", [1, 3])
@pytest.mark.parametrize("name", RULES)
def test_written_gradients_of_every_rule_are_those_of_autograd(name: str, chunk_size: int) -> None:
    """The rule as its file states it, with the gradient left to autograd, over two chunks."""
    rule = RULES[name]._replace(chunk_size=chunk_size)
    time = 2 * chunk_size
    tokens, state = tokens_of(numbers(12, time)), state_of(rule, 12)
    _, found = miras(rule, tokens, state)

    def weights(z: list[Tensor], start: list[Tensor]) -> list[Tensor]:
        if rule.retention == "simplex":
            return [simplex_weights(part) - 1 for part in z]
        return [part * norm_scale(begun, rule.q) for part, begun in zip(z, start, strict=True)]

    z, s = list(state.z), list(state.s)
    start = z
    for t in range(time):
        start = z if t % chunk_size == 0 else start
        at = [part.detach().requires_grad_() for part in weights(start, start)]
        k, v, d = tokens.k[:, :, t, None], tokens.v[:, :, t, None], tokens.threshold[:, :, t, None]
        e = read(rule.net, k, [lambda x, w=w: x @ w for w in at], rule.variance) - v
        loss = huber_loss(e, d) if rule.loss == "huber" else power_loss(e, rule.p)
        slopes = torch.autograd.grad(loss.sum(), at)
        write, keep, momentum = (
            gate[:, :, t, None, None] for gate in (tokens.write, tokens.log_keep, tokens.log_momentum)
        )
        s = [momentum.exp() * old - write * slope for old, slope in zip(s, slopes, strict=True)]
        z = [keep.exp() * old + new for old, new in zip(z, s, strict=True)]
    if rule.retention == "simplex":
        z = [part.log_softmax(-1) for part in z]
    for got, wanted in zip((*found.z, *found.s), (*z, *s), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("momentum", [False, True])
@pytest.mark.parametrize("chunk_size", [1, 4])
@pytest.mark.parametrize("name", RULES)
def test_chunks_of_every_rule_are_the_loop_whatever_the_pieces(
    name: str, chunk_size: int, momentum: bool
) -> None:
    rule = RULES[name]._replace(chunk_size=chunk_size)
    n = numbers(13, 23)
    tokens, mask = tokens_of(n, momentum=momentum), n["mask"]
    state = state_of(rule, 13, momentum=momentum)
    wanted, ended = miras(rule, tokens, state, mask_BT=mask, form="naive")
    for cuts in ((0, 23), (0, 0, 1, 3, 23), (0, 7, 23)):
        now, pieces = state, []
        for start, end in pairwise(cuts):
            y, now = miras(rule, cut(tokens, start, end), now, mask_BT=mask[:, start:end])
            pieces.append(y)
        real = mask[:, None, :, None]
        torch.testing.assert_close(torch.cat(pieces, 2) * real, wanted * real, rtol=0, atol=1e-9)
        for key, part in flatten(now).items():
            torch.testing.assert_close(part, flatten(ended)[key], rtol=0, atol=1e-9)


def test_p_and_q_of_2_are_the_gated_delta_rule() -> None:
    n = numbers(14, 40, torch.float32)
    for mask in (None, n["mask"]):
        rule, tokens = Miras(p=2.0, q=2.0), tokens_of(n, momentum=False)
        y, state = miras(rule, tokens._replace(v=n["v"]), miras_state(rule, [n["w"]]), mask_BT=mask)
        wanted, (w,) = run_delta(n, mask)
        real = 1 if mask is None else mask[:, None, :, None]
        torch.testing.assert_close(y * real, wanted * real, rtol=0, atol=1e-6)
        torch.testing.assert_close(state.z[0], w, rtol=0, atol=1e-6)


def test_the_power_rule_near_2_is_near_the_gated_delta_rule() -> None:
    """That 2 is a point of the family and not a branch apart."""
    n = numbers(15, 20)
    near, exact = Miras(p=2.0 + 1e-7, q=2.0 + 1e-7), Miras()
    tokens = tokens_of(n, momentum=False)
    y, wanted = (miras(rule, tokens, state_of(rule, 15, momentum=False))[0] for rule in (near, exact))
    torch.testing.assert_close(y, wanted, rtol=0, atol=1e-5)


def recall_error(rule: Miras, seed: int, record: dict[str, list[float]], name: str) -> None:
    """32 pairs at unit keys in 32 dimensions, every tenth value times 20: how far off the others are read."""
    random = torch.Generator().manual_seed(seed)
    k, v = (torch.randn(1, 1, 32, 32, generator=random) for _ in range(2))
    k, v = F.normalize(k, dim=-1), F.normalize(v, dim=-1)
    wild = torch.zeros(32, dtype=torch.bool)
    wild[torch.randperm(32, generator=random)[:3]] = True
    write = torch.full((1, 1, 32), 0.9)
    told = torch.where(wild[:, None], 20 * v, v)
    tokens = Token(k, k, told, write, 0 * write, threshold=0 * write + 1)
    _, state = miras(rule, tokens, miras_state(rule, [torch.zeros(1, 1, 32, 32)]))
    error = (miras_read(rule, k, state) - v)[0, 0, ~wild]
    record.setdefault(name, []).append((error.norm() / v[0, 0, ~wild].norm()).item())


def test_yaad_recalls_through_outliers(record_property: Callable[[str, object], None]) -> None:
    errors: dict[str, list[float]] = {}
    for seed in range(20):
        recall_error(Miras(), seed, errors, "l2")
        recall_error(Miras(loss="huber"), seed, errors, "yaad")
    l2, yaad = (sum(found) / len(found) for found in errors.values())
    record_property("told", f"relative error of recall, 10 % outliers: l2 {l2:.3f}, yaad {yaad:.3f}")
    assert yaad <= 0.5 * l2
    assert sum(y <= 0.5 * x for x, y in zip(errors["l2"], errors["yaad"], strict=True)) >= 18


def test_weights_of_memora_stay_positive_with_constant_sums() -> None:
    random = torch.Generator().manual_seed(16)
    k, v = (torch.randn(1, 1, 1000, 16, generator=random) for _ in range(2))
    gate = torch.rand(1, 1, 1000, generator=random)
    for log_keep in (0 * gate, 0.01 * gate.log()):
        for net in NETS:
            rule = Miras(net, retention="simplex")
            z = [torch.randn(1, 1, *shape, generator=random) for shape in shapes(net, 16, 16)]
            tokens = Token(F.normalize(k, dim=-1), k, 3 * v, gate, log_keep)
            state = miras_state(rule, z)
            for start in range(0, 1000, 100):
                _, state = miras(rule, cut(tokens, start, start + 100), state)
                for part in state.z:
                    weights = simplex_weights(part)
                    assert weights.min() > 0
                    torch.testing.assert_close(
                        weights.mean(-1), torch.ones_like(weights[..., 0]), rtol=0, atol=1e-5
                    )


def test_the_norm_of_moneta() -> None:
    z = numbers(17, 1)["w"]
    torch.testing.assert_close(
        norm_scale(z, 4.0)[..., 0, 0], (1 + z.norm(4.0, dim=(-2, -1)) ** 4) ** -0.5, rtol=1e-6, atol=0
    )
    huge, nothing = norm_scale(1e12 * z.float(), 4.0), norm_scale(0 * z, 4.0)
    assert torch.isfinite(huge).all()
    assert (huge > 0).all()
    assert torch.isfinite(nothing).all()


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_finite_for_5000_steps(name: str) -> None:
    """With write gates at the bounds that the layer sets: see `_curvature` in layers/memory.py."""
    rule = RULES[name]._replace(chunk_size=10)
    random = torch.Generator().manual_seed(18)
    k, v = (torch.randn(1, 1, 5000, 8, generator=random) for _ in range(2))
    write = torch.full((1, 1, 5000), (1.0 if rule.net == "linear" else 1 / 40) / 10)
    tokens = Token(
        F.normalize(k, dim=-1), F.normalize(k, dim=-1), v, write, 0 * write, threshold=write * 0 + 1
    )
    z = [0.3 * torch.randn(1, 1, *shape, generator=random) for shape in shapes(rule.net, 8, 8)]
    with torch.no_grad():
        y, state = miras(rule, tokens, miras_state(rule, z))
    assert torch.isfinite(torch.stack([part.abs().max() for part in (y, *flatten(state).values())])).all()
    assert y[:, :, -1000:].square().mean() < 20


@pytest.mark.parametrize("name", RULES)
def test_gradients_of_every_rule_of_first_and_second_order(name: str) -> None:
    rule = RULES[name]._replace(chunk_size=2)
    tokens, state, mask = tokens_of(numbers(19, 3)), state_of(rule, 19), numbers(19, 3)["mask"]
    _, state = miras(rule, cut(tokens, 0, 1), state)  # a chunk that has begun
    floats = {key: part for key, part in flatten(state).items() if part.is_floating_point()}

    def outputs(*tensors: Tensor) -> Tensor:
        parts = iter(tensors[len(tokens) :])
        moved = MirasState(*(tuple(next(parts) for _ in group) for group in state[:3]), state.place)
        y, end = miras(rule, Token(*tensors[: len(tokens)]), moved, mask_BT=mask)
        _, end = miras_step(rule, Token(*(part[:, :, 0] for part in tensors[: len(tokens)])), end)
        return torch.cat([y.flatten(), *(part.flatten() for part in (*end.z, *end.s))])

    tensors = tuple(part.detach().clone().requires_grad_() for part in (*tokens, *floats.values()))
    assert torch.autograd.gradcheck(outputs, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(outputs, tensors, fast_mode=True)


def test_errors_name_the_remedy() -> None:
    n = numbers(10, 3)
    with pytest.raises(ValueError, match=r"form is 'loop'; use one of"):
        run_delta(n, form="loop")
    with pytest.raises(ValueError, match="titans: chunk_size is 0"):
        run_titans(n, chunk_size=0)
    with pytest.raises(ValueError, match="Huber's loss needs a threshold"):
        miras(Miras(loss="huber"), tokens_of(n)._replace(threshold=None), state_of(Miras(), 0))
    with pytest.raises(ValueError, match="miras: chunk_size is 0"):
        miras_state(Miras(chunk_size=0), [n["w"]])
    with pytest.raises(ValueError, match="key_width 4 and value_width 5 must be the same"):
        shapes("mlp", 4, 5)


def test_short_conv_is_a_causal_convolution_of_the_real_steps() -> None:
    random = torch.Generator().manual_seed(11)
    x, past = torch.randn(2, 9, 3, generator=random), torch.randn(2, 2, 3, generator=random)
    filters, mask = torch.randn(3, 3, generator=random), torch.rand(2, 9, generator=random) < 0.7
    y, after = short_conv(x, filters, past, mask_BT=mask)
    for row in range(2):
        alone = torch.cat([past[row], x[row][mask[row]]])
        wanted = F.silu(F.conv1d(alone.T[None], filters.flip(0).T[:, None], groups=3))[0].T
        torch.testing.assert_close(y[row][mask[row]], wanted)
        torch.testing.assert_close(after[row], alone[-2:])
    state = past
    for t in range(9):
        step, state = short_conv_step(x[:, t], filters, state, mask_B=mask[:, t])
        torch.testing.assert_close(step[mask[:, t]], y[:, t][mask[:, t]])
    assert torch.equal(state, after)

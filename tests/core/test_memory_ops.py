"""The memory recurrences: hand gradients against autograd, chunks against the loop, limits that are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from remem.core.ops.delta_rule import delta_rule, delta_step
from remem.core.ops.short_conv import short_conv, short_conv_step
from remem.core.ops.softmax_scan import NOTHING
from remem.core.ops.titans import MomentumState, titans, titans_step

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


def test_errors_name_the_remedy() -> None:
    n = numbers(10, 3)
    with pytest.raises(ValueError, match=r"form is 'loop'; use one of"):
        run_delta(n, form="loop")
    with pytest.raises(ValueError, match="titans: chunk_size is 0"):
        run_titans(n, chunk_size=0)


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

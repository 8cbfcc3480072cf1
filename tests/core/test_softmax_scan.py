"""The running softmax against a float64 definition, and its forms against each other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from remem.core.ops import SoftmaxState, empty_state, softmax_scan, softmax_step
from remem.core.state import flatten

FORMS = ("naive", "parallel", "blocked")


def definition(s_BHT: Tensor, v_BHTD: Tensor, decay_BHT: Tensor, mask_BT: Tensor) -> Tensor:
    """Softmax over every prefix in float64, written as a masked matrix."""
    s, v, g = s_BHT.double(), v_BHTD.double(), decay_BHT.double().masked_fill(~mask_BT[:, None], 0.0)
    time = torch.arange(s.shape[-1])
    total = g.cumsum(-1)
    score = s[..., None, :] - (total[..., :, None] - total[..., None, :])
    allowed = (time[:, None] >= time) & mask_BT[:, None, None, :]
    return score.masked_fill(~allowed, -torch.inf).softmax(-1).nan_to_num(0.0) @ v


def inputs(seed: int, batch: int, time: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    s = scale * torch.randn(batch, 3, time, generator=random)
    v = torch.randn(batch, 3, time, 4, generator=random)
    decay = torch.rand(batch, 3, time, generator=random)
    return s, v, decay, torch.rand(batch, time, generator=random) < 0.8


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
@pytest.mark.parametrize("order", ["random", "ascending", "descending"])
def test_exact_at_any_score_scale(form: str, scale: float, order: str) -> None:
    s, v, decay, _ = inputs(0, 2, 513, scale)
    if order != "random":
        s = s.sort(-1, descending=order == "descending").values
    everything = torch.ones(2, 513, dtype=torch.bool)
    o, state = softmax_scan(s, v, form=form)
    assert (o - definition(s, v, 0 * decay, everything)).abs().max() <= 1e-5
    assert o.dtype == state.w.dtype == torch.float32
    assert all(torch.isfinite(part).all() for part in state)


@pytest.mark.parametrize("form", FORMS)
def test_decay_and_mask(form: str) -> None:
    s, v, decay, mask = inputs(1, 3, 200, 10.0)
    mask[0] = False
    o, _ = softmax_scan(s, v, decay_BHT=decay, mask_BT=mask, form=form)
    assert (o - definition(s, v, decay, mask)).abs().max() <= 1e-5
    assert (o[0] == 0).all()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 99), st.integers(1, 3), st.integers(0, 70), st.integers(0, 70))
def test_forms_agree_from_any_state(seed: int, batch: int, time: int, cut: int) -> None:
    s, v, decay, mask = inputs(seed, batch, time + cut, 5.0)
    _, before = softmax_scan(s[..., :cut], v[..., :cut, :], decay_BHT=decay[..., :cut], mask_BT=mask[:, :cut])
    whole, end = softmax_scan(s, v, decay_BHT=decay, mask_BT=mask, form="naive")
    rest = (s[..., cut:], v[..., cut:, :], before)
    for form in FORMS:
        o, state = softmax_scan(*rest, decay_BHT=decay[..., cut:], mask_BT=mask[:, cut:], form=form)
        torch.testing.assert_close(o, whole[..., cut:, :], rtol=1e-5, atol=1e-5)
        for name, part in flatten(state).items():
            torch.testing.assert_close(part, flatten(end)[name], rtol=2e-5, atol=1e-5)


def test_steps_follow_the_scan_for_20000_steps() -> None:
    s, v, decay, _ = inputs(2, 1, 20_000)
    decay = decay / 50
    o, end = softmax_scan(s, v, decay_BHT=decay)
    exact, _ = softmax_scan(s.double(), v.double(), decay_BHT=decay.double())
    state = empty_state(1, 3, 4)
    for t in range(20_000):
        step, state = softmax_step(s[..., t], v[..., t, :], state, decay_BH=decay[..., t])
    assert (o - exact).abs().max() <= 1e-5
    torch.testing.assert_close(step, o[..., -1, :], rtol=0, atol=1e-5)
    assert sum(part.numel() for part in end) == 3 * (1 + 1 + 4)


def test_irregular_moving_average() -> None:
    """s = 0 and decay = gap / tau is an average with weights e^(-age / tau)."""
    at, value, tau = torch.tensor([0.0, 1.0, 7.0, 8.5]), torch.tensor([3.0, -1.0, 4.0, 1.0]), 5.0
    gap = at.diff(prepend=at[:1])
    o, _ = softmax_scan(torch.zeros(1, 1, 4), value.view(1, 1, 4, 1), decay_BHT=(gap / tau).view(1, 1, 4))
    weight = torch.exp((at - at[-1]) / tau)
    torch.testing.assert_close(o[0, 0, -1, 0], (weight * value).sum() / weight.sum())


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_first_and_second_order(form: str) -> None:
    random = torch.Generator().manual_seed(3)

    def number(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=random, dtype=torch.float64).requires_grad_()

    mask = torch.tensor([[True, True, False, True, True], [False, True, True, False, True]])

    def outputs(s: Tensor, v: Tensor, decay: Tensor, m: Tensor, u: Tensor, w: Tensor) -> Tensor:
        o, state = softmax_scan(s, v, SoftmaxState(m, u, w), decay_BHT=decay, mask_BT=mask, form=form)
        # whatever units the state is in, what follows from it has exact gradients
        later, _ = softmax_step(0 * s[..., 0] + 0.3, v[..., 0, :], state)
        return torch.cat([o.flatten(), later.flatten()])

    arguments = (
        number(2, 2, 5),
        number(2, 2, 5, 2),
        number(2, 2, 5),
        number(2, 2),
        number(2, 2),
        number(2, 2, 2),
    )
    assert torch.autograd.gradcheck(outputs, arguments)
    assert torch.autograd.gradgradcheck(outputs, arguments)


def test_float32_state_under_autocast() -> None:
    s, v, _, _ = inputs(4, 2, 50)
    exact, _ = softmax_scan(s, v)
    for form in FORMS:
        with torch.autocast("cpu", torch.bfloat16):
            o, state = softmax_scan(s, v, form=form)
        assert {part.dtype for part in state} == {torch.float32}
        torch.testing.assert_close(o, exact, rtol=0, atol=1e-5)


def test_bfloat16_values_keep_a_float32_state() -> None:
    s, v, _, _ = inputs(5, 2, 50)
    o, state = softmax_scan(s.bfloat16(), v.bfloat16())
    assert o.dtype == torch.bfloat16
    assert state.w.dtype == torch.float32


def test_unknown_form() -> None:
    s, v, _, _ = inputs(6, 1, 3)
    with pytest.raises(ValueError, match=r"form is 'paralel'.*'parallel'"):
        softmax_scan(s, v, form="paralel")

"""Operations behind layers that recall: each form against the definition, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from remem.core.ops.grouped_softmax import grouped_softmax, grouped_softmax_naive
from remem.core.ops.linear_attention import CHUNK, elu_features, linear_attention, linear_step
from remem.core.ops.rotary import rotary
from remem.core.ops.taylor import LEAST, taylor_features, taylor_width


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("time", [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK + 7])
@pytest.mark.parametrize("masked", [False, True])
def test_linear_attention_is_the_weighted_mean_of_its_definition(time: int, masked: bool) -> None:
    q, k, v = (
        elu_features(random(2, 3, time, 4)),
        elu_features(random(2, 3, time, 4, seed=1)),
        random(2, 3, time, 5),
    )
    mask = random(2, time, seed=2) > -0.5 if masked else torch.ones(2, time, dtype=torch.bool)
    weight = ((q @ k.mT).tril() * mask[:, None, None]) if time else q @ k.mT
    wanted = weight @ v / weight.sum(-1, keepdim=True).where(weight.sum(-1, keepdim=True) > 0, 1.0)
    before = torch.zeros(2, 3, 4, 6, dtype=torch.float64)
    given = mask if masked else None
    chunk, after = linear_attention(q, k, v, before, mask_BT=given)
    naive, naive_after = linear_attention(q, k, v, before, mask_BT=given, form="naive")
    now, steps = before, []
    for t in range(time):
        y, now = linear_step(q[:, :, t], k[:, :, t], v[:, :, t], now, mask_B=mask[:, t])
        steps.append(y)
    folded = torch.stack(steps, 2) if steps else v
    for found in (chunk, naive, folded):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    for found in (naive_after, now):
        torch.testing.assert_close(found, after, rtol=0, atol=1e-12)


def test_linear_attention_in_float32_at_length() -> None:
    q, k, v = random(1, 2, 2000, 8), random(1, 2, 2000, 8, seed=1), random(1, 2, 2000, 4, seed=2)
    for features, least in ((elu_features, 0.0), (taylor_features, LEAST)):
        results = []
        for kind in (torch.float32, torch.float64):
            a, b = features(q).to(kind), features(k).to(kind)
            sums = torch.zeros(1, 2, a.shape[-1], 5, dtype=kind)
            results.append(linear_attention(a, b, v.to(kind), sums, least=least)[0])
        assert (results[0] - results[1]).abs().max() < 1e-5


def test_linear_attention_differentiates_and_refuses_unknown_forms() -> None:
    q, k, v = elu_features(random(1, 1, 5, 2)), elu_features(random(1, 1, 5, 2)), random(1, 1, 5, 2)
    before = random(1, 1, 2, 3).abs()
    inputs = [x.requires_grad_() for x in (q, k, v, before)]
    assert torch.autograd.gradcheck(linear_attention, inputs)
    with pytest.raises(ValueError, match="form is 'fast'"):
        linear_attention(q, k, v, before, form="fast")  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [1, 2, 8, 16])
def test_taylor_features_multiply_to_the_first_terms_of_the_exponential(width: int) -> None:
    q, k = 3 * random(50, width), random(50, width, seed=1)
    u = (q * k).sum(-1) / width**0.5
    assert taylor_features(q).shape[-1] == taylor_width(width) == 1 + width + width * (width + 1) // 2
    product = (taylor_features(q) * taylor_features(k)).sum(-1)
    torch.testing.assert_close(product, 1 + u + u**2 / 2)
    assert (product >= LEAST).all()


def test_rotary_products_know_the_distance_alone() -> None:
    q, k, place = random(6, 8), random(6, 8, seed=1), torch.arange(6)
    near = (rotary(q, place + 3) * rotary(k, place)).sum(-1)
    far = (rotary(q, place + 103) * rotary(k, place + 100)).sum(-1)
    torch.testing.assert_close(near, far)
    torch.testing.assert_close(rotary(q, 0 * place), q)
    torch.testing.assert_close(rotary(q, place).norm(dim=-1), q.norm(dim=-1))


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_grouped_softmax_is_its_definition(scale: float) -> None:
    score, landmark = scale * random(7, 5, 3), scale * random(7, 5, seed=1)
    own, past = torch.zeros(7, 5, 3, dtype=torch.bool), torch.zeros(7, 5, dtype=torch.bool)
    for query in range(
        1, 7
    ):  # query 0 sees nothing; the others one token of a block more and more past blocks
        block = min(query, 4)
        own[query, block, : 1 + query % 3] = True
        past[query, :block] = random(block, seed=query) > -1
    weight = grouped_softmax(score, landmark, own, past)
    for query in range(7):
        wanted = grouped_softmax_naive(score[query], landmark[query], own[query], past[query])
        torch.testing.assert_close(weight[query], wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(weight.sum((1, 2))[1:], torch.ones(6, dtype=torch.float64))
    assert (weight[0] == 0).all()
    assert (weight[~(own | past[..., None])] == 0).all()


def test_grouped_softmax_of_one_block_is_softmax() -> None:
    score = random(4, 1, 6)
    own = torch.ones(4, 1, 6, dtype=torch.bool)
    weight = grouped_softmax(score, random(4, 1), own, torch.zeros(4, 1, dtype=torch.bool))
    torch.testing.assert_close(weight, score.softmax(-1))

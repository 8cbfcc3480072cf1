"""Distance attention against a loop of its definition, and the laws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from remem.core.layers.distance_attention import DistanceAttention
from remem.core.recall_laws import check_recall
from remem.core.state import nbytes

BOTH = pytest.mark.parametrize("distance", ["context", "steps"])


def looped(layer: DistanceAttention, query_BTD: Tensor, written_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Step by step and head by head, over a list of the answers before the step."""
    batch, time, width = query_BTD.shape
    head = width // layer.num_heads
    key_BTD, value_BTD = layer.key(query_BTD), layer.value(written_BTD)
    out_BTD = torch.zeros(batch, time, width)
    for b in range(batch):
        for t in range(time):
            past = [i for i in range(t) if mask_BT[b, i]][-layer.window :]
            for h in range(layer.num_heads if past else 0):
                part = slice(h * head, (h + 1) * head)
                decay = F.softplus(layer.raw_decay_H[h])
                score = torch.stack([key_BTD[b, t, part] @ key_BTD[b, i, part] for i in past])
                score = score / math.sqrt(head)
                back = torch.arange(len(past), 0, -1.0)
                if layer.distance == "steps":
                    score = score - decay * back
                else:
                    share = score.softmax(0)
                    later = torch.stack([share[i + 1 :].sum() for i in range(len(past))])
                    score = score * torch.exp(-decay * torch.sqrt(later * back))
                out_BTD[b, t, part] = score.softmax(0) @ value_BTD[b, past, part]
    return layer.out(out_BTD)


@BOTH
@pytest.mark.parametrize("window", [1, 7, 50])
def test_is_its_definition(distance: Any, window: int) -> None:
    torch.manual_seed(0)
    layer = DistanceAttention(8, num_heads=2, window=window, distance=distance)
    query_BTD, written_BTD = 3 * torch.randn(2, 30, 8), torch.randn(2, 30, 8)
    mask_BT = torch.rand(2, 30) < 0.8
    read_BTD, _ = layer(query_BTD, written_BTD, x_BTF=torch.zeros(2, 30, 4), mask_BT=mask_BT)
    torch.testing.assert_close(read_BTD, looped(layer, query_BTD, written_BTD, mask_BT), atol=1e-5, rtol=1e-5)


@BOTH
def test_laws(distance: Any, record_property) -> None:
    checks = check_recall(lambda d: DistanceAttention(d, num_heads=2, window=6, distance=distance), d_model=4)
    told = f"DistanceAttention, {distance}: {len(checks)} laws held on {sum(checks.values())} cases"
    record_property("told", told)


@BOTH
def test_weight_falls_with_the_distance(distance: Any) -> None:
    """Equal questions: each step back weighs less than the one before it, and no decay weighs them alike."""
    torch.manual_seed(0)
    layer = DistanceAttention(4, num_heads=1, window=20, distance=distance)
    layer.key.weight.data = torch.eye(4)
    layer.value.weight.data, layer.out.weight.data = torch.eye(4), torch.eye(4)
    query_BTD = torch.ones(1, 11, 4)
    for raw, falls in ((0.0, True), (-100.0, False)):
        layer.raw_decay_H.data.fill_(raw)
        written_BTD = torch.zeros(1, 11, 4, requires_grad=True)
        read_BTD, _ = layer(query_BTD, written_BTD, x_BTF=torch.zeros(1, 11, 4))
        (gradient,) = torch.autograd.grad(read_BTD[0, 10, 0], written_BTD)
        weight_T = gradient[0, :10, 0]
        assert weight_T.sum().item() == pytest.approx(1.0)
        assert bool((weight_T.diff() > 1e-6).all()) is falls


@BOTH
def test_nothing_to_read_is_the_bias(distance: Any) -> None:
    layer = DistanceAttention(8, distance=distance)
    read_BTD, _ = layer(torch.randn(2, 1, 8), torch.randn(2, 1, 8), x_BTF=torch.zeros(2, 1, 4))
    assert read_BTD[:, 0].equal(layer.out.bias.expand(2, 8))


def test_the_same_question_is_found() -> None:
    """With the decay off and sharp keys the read is what was written on the question asked."""
    layer = DistanceAttention(8, num_heads=1, window=20)
    layer.raw_decay_H.data.fill_(-100.0)
    layer.key.weight.data = 20 * torch.eye(8)
    layer.value.weight.data = layer.out.weight.data = torch.eye(8)
    layer.out.bias.data.zero_()
    question_BT = torch.tensor([[0, 1, 2, 3, 1]])
    written_BTD = torch.randn(1, 5, 8)
    read_BTD, _ = layer(F.one_hot(question_BT, 8).float(), written_BTD, x_BTF=torch.zeros(1, 5, 4))
    torch.testing.assert_close(read_BTD[0, 4], written_BTD[0, 1])


def test_state_has_the_bytes_it_tells() -> None:
    assert nbytes(DistanceAttention(64, window=200).init_state(1)) == 200 * 8 * 64 + 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "does not divide"),
        ({"window": 0}, "window is 0"),
        ({"distance": "far"}, "use one of"),
    ],
)
def test_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistanceAttention(8, **options)

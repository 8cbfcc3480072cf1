"""Pointer attention: what is masked has no probability and no gradient, and glimpses and clipping do as told."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from remem.core.layers.pointer import PointerAttention
from remem.core.layers.set_attention import SetAttention


def problem(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Items (3, 5, 8), queries (3, 4, 8), and what is feasible; one query has nothing."""
    random = torch.Generator().manual_seed(seed)
    feasible = torch.rand(3, 4, 5, generator=random) < 0.6
    feasible[..., 0] = True
    feasible[1, 2] = False
    return torch.randn(3, 5, 8, generator=random), torch.randn(3, 4, 8, generator=random), feasible


def test_it_is_the_papers_equation() -> None:
    torch.manual_seed(0)
    pointer = PointerAttention(8)
    items, queries, _ = problem()
    p = pointer(queries, pointer.keys(items), torch.ones(3, 4, 5, dtype=torch.bool)).exp()
    part = pointer.pointer
    for b in range(3):
        for t in range(4):
            scores = [
                part.score.weight[0]
                @ torch.tanh(part.key.weight @ items[b, j] + part.query.weight @ queries[b, t])
                for j in range(5)
            ]
            torch.testing.assert_close(p[b, t], torch.stack(scores).softmax(0))


@pytest.mark.parametrize(("glimpses", "clip"), [(0, None), (2, 10.0)])
def test_what_is_masked_has_exactly_no_probability_and_gradients_are_finite(
    glimpses: int, clip: float | None
) -> None:
    torch.manual_seed(0)
    pointer = PointerAttention(8, glimpses=glimpses, clip=clip)
    items, queries, feasible = problem()
    items.requires_grad_()
    log_p = pointer(100 * queries, pointer.keys(items), feasible)
    p = log_p.exp()
    assert (p[~feasible] == 0).all()
    torch.testing.assert_close(p.sum(-1), feasible.any(-1).float())
    log_p[feasible].sum().backward()
    assert all(
        torch.isfinite(one.grad).all() for one in (items, *pointer.parameters()) if one.grad is not None
    )
    assert items.grad is not None


@pytest.mark.parametrize("glimpses", [0, 2])
def test_items_that_are_masked_do_not_matter(glimpses: int) -> None:
    torch.manual_seed(0)
    pointer = PointerAttention(8, glimpses=glimpses)
    items, queries, feasible = problem()
    feasible = feasible & (torch.arange(5) < 3)
    others = torch.cat([items[:, :3], items[:, 3:] + 50], 1)
    one, two = (pointer(queries, pointer.keys(x), feasible) for x in (items, others))
    torch.testing.assert_close(one, two)


def test_a_glimpse_replaces_the_query_by_what_it_saw() -> None:
    torch.manual_seed(0)
    pointer = PointerAttention(8, glimpses=1)
    items, queries, _ = problem()
    only = torch.zeros(3, 4, 5, dtype=torch.bool)
    only[..., 2] = True
    everything = torch.ones_like(only)
    plain = PointerAttention(8)
    plain.pointer.load_state_dict(pointer.pointer.state_dict())
    # a glimpse that can see one item only turns any query into that item
    seen = pointer.glimpse(queries, pointer.keys(items).glimpse.key)
    weights = seen.softmax(-1)
    wanted = plain(weights @ items, plain.keys(items), everything)
    torch.testing.assert_close(pointer(queries, pointer.keys(items), everything), wanted)
    assert (pointer(queries, pointer.keys(items), only)[..., 2] == 0).all()


def test_clipping_keeps_scores_apart_by_twice_the_clip_at_most() -> None:
    torch.manual_seed(0)
    pointer = PointerAttention(8, clip=2.0)
    pointer.pointer.score.weight.data *= 1000
    items, queries, _ = problem()
    log_p = pointer(queries, pointer.keys(items), torch.ones(3, 4, 5, dtype=torch.bool))
    spread = (log_p.amax(-1) - log_p.amin(-1)).max().item()
    assert spread == pytest.approx(4.0, abs=1e-3)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="glimpses is -1"):
        PointerAttention(8, glimpses=-1)
    with pytest.raises(ValueError, match="clip is 0"):
        PointerAttention(8, clip=0.0)
    with pytest.raises(ValueError, match="num_heads 3 does not divide"):
        SetAttention(8, num_heads=3)


def test_set_attention_turns_with_the_order_of_its_items_and_does_not_see_absent_ones() -> None:
    torch.manual_seed(0)
    layer = SetAttention(8)
    items, _, _ = problem()
    there = torch.tensor([[True] * 5, [True, False, True, True, False], [True] * 5])
    y, state = layer(items, mask_BT=there)
    assert state == ()
    order = torch.tensor([3, 1, 4, 0, 2])
    turned, _ = layer(items[:, order], mask_BT=there[:, order])
    torch.testing.assert_close(turned, y[:, order])
    alone, _ = layer(items[1:2, there[1]])
    torch.testing.assert_close(y[1:2, there[1]], alone)

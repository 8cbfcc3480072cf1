"""Layers that look up by content in constant memory: the laws on each, and what each is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from remem.core import CausalAttention
from remem.core.export import export_step, export_window
from remem.core.layers.based import Based
from remem.core.layers.landmark import LandmarkAttention
from remem.core.layers.linear_attention import LinearAttention
from remem.core.layers.routing import RoutingAttention
from remem.core.layers.routing_set import RoutingSetAttention
from remem.core.ops.grouped_softmax import grouped_softmax_naive
from remem.core.ops.rotary import rotary
from remem.core.state import nbytes
from remem.core.testing import check_layer

VARIANTS: dict[str, Callable[[int], Any]] = {
    "linear attention": lambda d: LinearAttention(d, num_heads=2, num_features=3),
    "based": lambda d: Based(d, num_heads=2, key_width=4, window=5),
    "taylor alone": lambda d: Based(d, num_heads=1, key_width=3, window=None, conv_width=1),
    "landmark": lambda d: LandmarkAttention(d, num_heads=2, block_size=3, budget=3, top_k=1),
    "landmark, no positions": lambda d: LandmarkAttention(
        d, num_heads=1, block_size=1, budget=5, top_k=2, rotary=False
    ),
    "landmark, all blocks": lambda d: LandmarkAttention(
        d, num_heads=2, block_size=4, budget=2, top_k=None, near=2
    ),
    "routing": lambda d: RoutingAttention(d, num_heads=2, num_clusters=3, budget=3),
    "routing, thresholds": lambda d: RoutingAttention(
        d, num_heads=2, num_clusters=3, budget=3, assign="threshold"
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_laws(name: str, record_property: Callable[[str, object], None]) -> None:
    checks = check_layer(VARIANTS[name], examples=4, export=False)
    record_property("told", f"{name}: {len(checks)} laws held on {sum(checks.values())} cases")
    assert len(checks) == 13


@pytest.mark.parametrize("name", ["based", "landmark", "routing, thresholds"])
def test_window_graph_of_any_length(name: str) -> None:
    """It is refused where it differs from the layer by more than 1e-5, also at lengths that were never traced."""
    torch.manual_seed(0)
    export_window(VARIANTS[name](8).eval(), example=torch.randn(3, 40, 8))


@pytest.mark.parametrize("name", ["based", "landmark", "routing", "routing, thresholds"])
def test_step_graph_for_50_chained_steps(name: str) -> None:
    """The export itself chains them; the step of linear attention is that of Based without window and convolution."""
    torch.manual_seed(0)
    export_step(VARIANTS[name](8).eval(), example=torch.randn(3, 40, 8))


def test_state_bytes_are_as_declared() -> None:
    sizes = {
        4 * 16 * 65: LinearAttention(64, num_heads=1, num_features=16),
        4 * 45 * 65: Based(64, num_heads=1, key_width=8, window=None, conv_width=1),
        # keys and values of 5 blocks of 8, 4 landmarks, a count
        4 * (2 * 5 * 8 * 64 + 4 * 64) + 8: LandmarkAttention(64, block_size=8, budget=4),
        4 * 2 * 8 * 16 * 64 + 4 * 8 * 8: RoutingAttention(64, num_clusters=8, budget=16),
    }
    for size, layer in sizes.items():
        _, state = layer(torch.randn(1, 70, 64))
        assert nbytes(state) == nbytes(layer.init_state(1)) == size


def landmark_by_definition(layer: LandmarkAttention, x_TD: Tensor, fetch: int) -> Tensor:
    """Query after query from the whole sequence: blocks, landmarks, distances, the best blocks, grouped softmax."""
    size, width = layer.block_size, layer.d_model // layer.num_heads
    q_HTK, k_HTK, v_HTK = layer.qkv(x_TD).unflatten(-1, (3, layer.num_heads, -1)).permute(1, 2, 0, 3)
    rows = []
    for t in range(len(x_TD)):
        own, first = t // size, max(0, t // size - layer.budget)
        heads = []
        for h, (q, k, v) in enumerate(zip(q_HTK[:, t], k_HTK, v_HTK, strict=True)):
            k_NLK, v_NLK = (
                F.pad(x, (0, 0, 0, -len(x) % size)).unflatten(0, (-1, size))[first : own + 1] for x in (k, v)
            )
            read = (k_NLK @ layer.landmark_query_HK[h] / width**0.5).softmax(-1)
            landmark_NK = (read[..., None] * k_NLK).sum(1) @ layer.landmark_read_HKK[
                h
            ] + layer.landmark_key_HK[h]
            score_NL, gate_N = [], []
            for block in range(own - first + 1):
                back = min(own - first - block, layer.near + 1)
                places = torch.arange(size + 1) - back * (size + 1)
                keys = torch.cat([k_NLK[block], landmark_NK[block, None]])
                if layer.rotary:
                    keys, asks = rotary(keys, places), rotary(q, torch.tensor(t % size))
                else:
                    asks = q
                found = keys @ asks / width**0.5
                score_NL.append(found[:-1])
                gate_N.append(found[-1])
            past = torch.zeros(own - first + 1, dtype=torch.bool)
            best = torch.stack(gate_N)[:-1].topk(min(fetch, own - first)).indices
            past[best] = True
            mine = torch.zeros(own - first + 1, size, dtype=torch.bool)
            mine[-1, : t % size + 1] = True
            weight = grouped_softmax_naive(torch.stack(score_NL), torch.stack(gate_N), mine, past)
            heads.append((weight[..., None] * v_NLK).sum((0, 1)))
        rows.append(torch.cat(heads))
    return layer.out(torch.stack(rows))


@pytest.mark.parametrize("top_k", [1, 2, None])
@pytest.mark.parametrize("rotary", [True, False])
def test_landmark_attention_is_its_definition(top_k: int | None, rotary: bool) -> None:
    torch.manual_seed(0)
    layer = LandmarkAttention(8, num_heads=2, block_size=3, budget=4, top_k=top_k, rotary=rotary).double()
    layer.landmark_query_HK.data.mul_(50)
    x_TD = 2 * torch.randn(23, 8, dtype=torch.float64)
    with torch.no_grad():
        all_blocks, _ = layer.train()(x_TD[None])
        fetched, _ = layer.eval()(x_TD[None])
        torch.testing.assert_close(all_blocks[0], landmark_by_definition(layer, x_TD, 4))
        torch.testing.assert_close(fetched[0], landmark_by_definition(layer, x_TD, top_k or 4))
    assert torch.equal(all_blocks, fetched) == (top_k is None)


def test_landmark_attention_in_its_first_block_is_attention() -> None:
    torch.manual_seed(0)
    layer, full = (
        LandmarkAttention(8, num_heads=2, block_size=20, rotary=False),
        CausalAttention(8, num_heads=2),
    )
    full.load_state_dict({name: p for name, p in layer.state_dict().items() if "landmark" not in name})
    x_BTD = torch.randn(2, 20, 8)
    torch.testing.assert_close(layer(x_BTD)[0], full(x_BTD)[0], rtol=1e-6, atol=1e-6)


def test_a_block_is_found_again_by_what_lies_in_it() -> None:
    """One fetched block of 40 is enough where keys are orthogonal and sharp: the state is read, not summed up."""
    layer = LandmarkAttention(64, num_heads=1, block_size=2, budget=40, top_k=1, rotary=False).eval()
    with torch.no_grad():
        eye, zero = torch.eye(32), torch.zeros(32, 32)
        key, value = torch.cat([eye, zero], 1), torch.cat([zero, eye], 1)
        layer.qkv.weight.copy_(
            torch.cat([60 * key, zero.repeat(1, 2), 60 * key, zero.repeat(1, 2), value, 0 * value])
        )
        # a landmark is half of each of two keys; it has to be louder than the question, which is a key as well
        layer.landmark_read_HKK.mul_(4)
        layer.out.weight.copy_(torch.eye(64))
        layer.out.bias.zero_()
        pairs = torch.cat([eye, torch.randn(32, 32)], 1)[None]
        _, state = layer(pairs)
        for i in range(32):
            ask = torch.cat([eye[i], torch.zeros(32)])[None]
            y_BD, _ = layer.step(ask, state)
            torch.testing.assert_close(y_BD[0, :32], pairs[0, i, 32:], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearAttention(8, num_heads=3), "num_heads 3 does not divide d_model 8"),
        (lambda: LinearAttention(8, num_features=0), "num_features is 0; it must be at least 1"),
        (lambda: Based(8, num_heads=3), "num_heads 3 does not divide d_model 8"),
        (lambda: Based(8, window=0), r"\{'window': 0\} must be at least 1; no window is None"),
        (lambda: LandmarkAttention(8, num_heads=3), "num_heads 3 does not divide d_model 8"),
        (lambda: LandmarkAttention(8, top_k=0), r"\{'top_k': 0\} must be at least 1; top_k=None"),
        (lambda: LandmarkAttention(12, num_heads=4), "heads of odd width 3 .* or pass rotary=False"),
        (lambda: RoutingAttention(8, num_heads=3), "num_heads 3 does not divide d_model 8"),
        (lambda: RoutingAttention(8, budget=0), "budget is 0; it must be at least 1"),
        (
            lambda: RoutingAttention(8, num_clusters=0),
            "num_clusters is 0; it must be at least 1; one cluster",
        ),
        (
            lambda: RoutingAttention(8, assign="best"),
            r"assign is 'best'; use one of \['nearest', 'threshold'\]",
        ),
        (lambda: RoutingSetAttention(8, num_heads=3), "num_heads 3 does not divide d_model 8"),
        (lambda: RoutingAttention(8, follow=1.5), "follow is 1.5; it must lie in 0 to 1"),
    ],
)
def test_errors_name_the_remedy(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()

"""Routing attention: what each assignment is, what centroids follow, and that processes agree on them."""

from __future__ import annotations

import copy
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributed

from remem.core import CausalAttention, RoutingAttention, RoutingSetAttention, SequenceLayer, SetAttention
from remem.core.layers.routing import Assign


def planted(steps: int, *, equal: bool = True) -> tuple[Tensor, Tensor]:
    """Steps of 8 orthogonal topics, as many of each or not, and which."""
    topic_T = (torch.arange(steps) % 8)[torch.randperm(steps)] if equal else torch.randint(0, 8, (steps,))
    return 4 * F.one_hot(topic_T, 8) + 0.3 * torch.randn(steps, 8), topic_T


def as_topics(layer: RoutingAttention | RoutingSetAttention) -> None:
    """Queries and keys are the inputs; each topic has a centroid to start from: k-means may leave two together."""
    layer.qkv.weight.data[:16] = torch.eye(8).repeat(2, 1)
    layer.centroids.centroid_HCK.copy_(F.normalize(torch.eye(8) + 0.3 * torch.rand(8, 8), dim=-1))


@pytest.mark.parametrize("assign", ["nearest", "threshold"])
def test_one_cluster_is_causal_attention(assign: Assign) -> None:
    torch.manual_seed(0)
    layer = RoutingAttention(16, num_clusters=1, budget=12, assign=assign)
    full = CausalAttention(16, window=12)
    full.load_state_dict(dict(layer.named_parameters()))
    x_BTD, mask_BT = torch.randn(3, 40, 16), torch.rand(3, 40) > 0.2
    layer.train()(x_BTD)  # the one cluster stays open to all, whatever was seen
    found, wanted = layer.eval()(x_BTD, mask_BT=mask_BT)[0], full(x_BTD, mask_BT=mask_BT)[0]
    torch.testing.assert_close(found[mask_BT], wanted[mask_BT], rtol=1e-5, atol=1e-5)
    assert (layer.coverage(x_BTD) == 1).all()


def test_one_cluster_of_a_set_is_full_attention() -> None:
    torch.manual_seed(0)
    layer, full = RoutingSetAttention(16, num_clusters=1), SetAttention(16)
    full.load_state_dict(dict(layer.named_parameters()))
    x_BTD, mask_BT = torch.randn(3, 40, 16), torch.rand(3, 40) > 0.2
    found, wanted = layer(x_BTD, mask_BT=mask_BT)[0], full(x_BTD, mask_BT=mask_BT)[0]
    torch.testing.assert_close(found[mask_BT], wanted[mask_BT], rtol=1e-5, atol=1e-5)
    assert (layer.coverage(x_BTD, mask_BT=mask_BT) == 1).all()


@pytest.mark.parametrize("assign", ["nearest", "threshold"])
def test_planted_topics_are_found_and_then_it_does_as_full_attention(assign: Assign) -> None:
    torch.manual_seed(0)
    layer = RoutingAttention(8, num_heads=1, num_clusters=8, budget=64, assign=assign)
    as_topics(layer)
    full = CausalAttention(8, num_heads=1, window=1000)
    full.load_state_dict(dict(layer.named_parameters()))
    x_TD, topic_T = planted(256, equal=assign == "threshold")
    layer.train()(x_TD[None])
    q_BHTK, k_BHTK, _ = layer._heads(x_TD[None])
    looks_TC, joins_TC = (chosen[0, 0] for chosen in layer._clusters(q_BHTK, k_BHTK))
    seen_TT = (looks_TC[:, None] & joins_TC).any(-1)
    assert seen_TT[topic_T[:, None] == topic_T].double().mean() >= 0.95
    assert seen_TT.double().mean() <= 1.1 / 8
    found, wanted = layer.eval()(x_TD[None])[0], full(x_TD[None])[0]
    assert (found - wanted).norm() / wanted.norm() <= 0.05
    assert layer.coverage(x_TD[None]) >= 0.95


def test_planted_topics_of_a_set_at_an_eighth_of_the_scores() -> None:
    torch.manual_seed(0)
    layer = RoutingSetAttention(8, num_heads=1, num_clusters=8)
    as_topics(layer)
    full = SetAttention(8, num_heads=1)
    full.load_state_dict(dict(layer.named_parameters()))
    x_TD, topic_T = planted(256)
    layer.train()(x_TD[None])
    q_BHTK, k_BHTK, _ = layer._heads(x_TD[None])
    mask_BT = torch.ones(1, 256, dtype=torch.bool)
    asks_CW, keys_CW = (layer._best(x, mask_BT)[0][0, 0] for x in (q_BHTK, k_BHTK))
    assert asks_CW.shape == keys_CW.shape == (8, 32)
    seen_TT = torch.zeros(256, 256, dtype=torch.bool)
    for asks, keys in zip(asks_CW, keys_CW, strict=True):
        seen_TT[asks[:, None], keys] = True
    assert seen_TT[topic_T[:, None] == topic_T].double().mean() >= 0.95
    found, wanted = layer.eval()(x_TD[None])[0], full(x_TD[None])[0]
    assert (found - wanted).norm() / wanted.norm() <= 0.05
    assert layer.coverage(x_TD[None]) >= 0.95


def test_thresholds_are_their_definition() -> None:
    """Step after step and cluster after cluster: the last `budget` that joined, and itself; their mean, or its own."""
    torch.manual_seed(2)
    layer = RoutingAttention(8, num_heads=2, num_clusters=3, budget=4, assign="threshold").double()
    x_TD = torch.randn(30, 8, dtype=torch.float64)
    layer.train()(x_TD[None])
    found = layer.eval()(x_TD[None])[0][0]
    q_HTK, k_HTK, v_HTK = layer.qkv(x_TD).unflatten(-1, (3, 2, 4)).permute(1, 2, 0, 3)
    rows, alone = [], 0
    for t in range(30):
        heads = []
        for h in range(2):
            means = []
            for c, direction in enumerate(layer.centroids.centroid_HCK[h]):
                asks, joins = layer.centroids.threshold_2HC[:, h, c]
                if F.cosine_similarity(q_HTK[h, t], direction, dim=0) < asks:
                    continue
                near_T = F.cosine_similarity(k_HTK[h, : t + 1], direction, dim=-1)
                seen = sorted({*(near_T >= joins).nonzero()[:, 0].tolist()[-4:], t})
                weight = (k_HTK[h, seen] @ q_HTK[h, t] / 2).softmax(0)
                means.append(weight @ v_HTK[h, seen])
            alone += not means
            heads.append(torch.stack(means or [v_HTK[h, t]]).mean(0))
        rows.append(torch.cat(heads))
    torch.testing.assert_close(found, layer.out(torch.stack(rows)))
    assert 0 < alone < 30
    assert layer.coverage(x_TD[None]).mean().item() == pytest.approx(1 - alone / 60)


def test_a_share_of_one_in_c_joins_also_when_the_inputs_move() -> None:
    torch.manual_seed(0)
    layer = RoutingAttention(8, num_heads=2, num_clusters=4, follow=0.9, assign="threshold")
    for shift, warm in ((0.0, 1), (0.5, 60)):
        for _ in range(warm):
            layer.train()(torch.randn(16, 64, 8) + shift)
        q_BHTK, k_BHTK, _ = layer._heads(torch.randn(64, 64, 8) + shift)
        for chosen_BHTC in layer._clusters(q_BHTK, k_BHTK):
            share_HC = chosen_BHTC.double().mean((0, 2))
            torch.testing.assert_close(share_HC, torch.full_like(share_HC, 1 / 4), rtol=0, atol=0.05)


def test_a_set_has_no_order_and_no_padding() -> None:
    torch.manual_seed(0)
    layer = RoutingSetAttention(8, num_heads=2, num_clusters=3)
    x_BTD, mask_BT = torch.randn(4, 11, 8), torch.rand(4, 11) > 0.4
    mask_BT[0] = False  # a row with nothing in it
    y_BTD, state = layer(x_BTD, mask_BT=mask_BT)
    assert state == ()
    assert torch.isfinite(y_BTD).all()
    order = torch.randperm(11)
    turned_BTD, _ = layer(x_BTD[:, order], mask_BT=mask_BT[:, order])
    torch.testing.assert_close(turned_BTD[mask_BT[:, order]], y_BTD[:, order][mask_BT[:, order]])
    noise_BTD = torch.where(mask_BT[..., None], x_BTD, 100.0)
    torch.testing.assert_close(layer(noise_BTD, mask_BT=mask_BT)[0][mask_BT], y_BTD[mask_BT])
    for x_TD, mask_T, y_TD in zip(x_BTD, mask_BT, y_BTD, strict=True):
        torch.testing.assert_close(layer(x_TD[mask_T][None])[0][0], y_TD[mask_T])


def test_the_rule_for_sets_is_none_for_sequences() -> None:
    """A later item pushes an earlier one out of its cluster. So the layer cannot be stepped, and says so."""
    torch.manual_seed(0)
    layer = RoutingSetAttention(8, num_heads=1, num_clusters=4)
    x_BTD = torch.randn(1, 16, 8)
    first_BTD, whole_BTD = layer(x_BTD[:, :12])[0], layer(x_BTD)[0][:, :12]
    assert (first_BTD - whole_BTD).abs().max() > 0.01
    assert not isinstance(layer, SequenceLayer)
    assert isinstance(RoutingAttention(8), SequenceLayer)


@pytest.mark.parametrize("assign", ["nearest", "threshold"])
def test_centroids_move_in_training_only_and_ignore_padding(assign: Assign) -> None:
    torch.manual_seed(0)
    layer = RoutingAttention(8, num_heads=2, num_clusters=3, follow=0.5, assign=assign)
    x_BTD, mask_BT = torch.randn(2, 30, 8), torch.arange(30) < torch.tensor([[30], [11]])
    before = buffers(layer)
    layer.eval()(x_BTD)
    layer.train()(x_BTD, mask_BT=torch.zeros_like(mask_BT))  # nothing to be placed by
    assert same(before, buffers(layer))
    places = []
    for noise in (0.0, 100.0):
        trained = copy.deepcopy(layer)
        for _ in range(3):
            trained(x_BTD + noise * ~mask_BT[..., None], mask_BT=mask_BT)
        places.append(buffers(trained))
    assert same(*places)
    assert not same(places[0], before)
    assert places[0]["centroids.placed"]
    torch.testing.assert_close(places[0]["centroids.centroid_HCK"].norm(dim=-1), torch.ones(2, 3))


def test_in_training_no_step_is_routed_by_later_ones() -> None:
    torch.manual_seed(0)
    layer = RoutingAttention(8, num_heads=2, num_clusters=3, follow=0.5, assign="threshold").train()
    layer(torch.randn(2, 30, 8))
    x_BTD = torch.randn(2, 30, 8)
    first, whole = (copy.deepcopy(layer)(x)[0] for x in (x_BTD[:, :10], x_BTD))
    torch.testing.assert_close(first, whole[:, :10])


def buffers(layer: RoutingAttention) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in layer.named_buffers()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(buffer, other[name]) for name, buffer in one.items())


ROWS, SILENT = 4, {(0, 0), (2, 1)}
"""Rows of each process, and the (batch, process) in which all steps are padding, the first batch among them."""


def batch(number: int, silent: set[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(number)
    mask_BT = torch.rand(2 * ROWS, 20, generator=random) > 0.3
    for at, process in silent:
        if at == number:
            mask_BT[process * ROWS : (process + 1) * ROWS] = False
    return torch.randn(2 * ROWS, 20, 8, generator=random), mask_BT


def trained(rows: slice, assign: Assign, silent: set[tuple[int, int]]) -> dict[str, Tensor]:
    """The buffers after four batches, of which these rows were seen."""
    torch.manual_seed(0)
    layer = RoutingAttention(8, num_heads=2, num_clusters=3, follow=0.7, assign=assign).train()
    for number in range(4):
        x_BTD, mask_BT = batch(number, silent)
        layer(x_BTD[rows], mask_BT=mask_BT[rows])
    return buffers(layer)


CASES: dict[str, tuple[Assign, set[tuple[int, int]]]] = {
    f"{assign}, {name}": (assign, silent)
    for assign in get_args(Assign)
    for name, silent in (("all speak", set()), ("one is silent", SILENT))
}


def one_of_two(rank: int, folder: Path) -> None:
    # a process that waits in vain raises, and the test fails instead of standing still
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    for name, (assign, silent) in CASES.items():
        found = trained(slice(rank * ROWS, (rank + 1) * ROWS), assign, silent)
        torch.save(found, folder / f"{name}, {rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two new processes left their buffers: forks of this one would inherit the locks of its threads."""
    folder = tmp_path_factory.mktemp("two_processes")
    running = [subprocess.Popen([sys.executable, __file__, str(rank), str(folder)]) for rank in range(2)]
    try:
        assert [process.wait(timeout=300) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_centroids_of_one(name: str, two_processes: Path) -> None:
    first, second = (torch.load(two_processes / f"{name}, {rank}.pt", weights_only=True) for rank in range(2))
    assert same(first, second)
    alone = trained(slice(None), *CASES[name])
    assert set(alone) == set(first)
    for buffer_name, buffer in alone.items():
        torch.testing.assert_close(first[buffer_name], buffer, rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
    one_of_two(int(sys.argv[1]), Path(sys.argv[2]))

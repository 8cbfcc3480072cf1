"""The benches of recall: tasks that tell layers apart, and comparisons that are what they say."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from remem.apps.recall import bench, bench_landmark, bench_reweaving
from remem.apps.recall.memories import MEMORIES
from remem.apps.recall.network import TokenNetwork
from remem.apps.recall.plot import plot_recall
from remem.apps.recall.training import CHOOSE, JUDGE, TRAIN, drawn, judged, train
from remem.core import CausalAttention


@pytest.mark.parametrize(
    ("layer", "lowest", "highest"), [("Based, keys of 8", 0.99, 1.0), ("Aaren", 0.1, 0.2)]
)
def test_mqar_tells_layers_apart_in_500_steps(layer: str, lowest: float, highest: float) -> None:
    task = bench.TASKS["MQAR"]
    make = partial(TokenNetwork, task.vocabulary, bench.of_length(MEMORIES[layer], task.length))
    found = train(make, task.draw, steps=500, batch_size=64, lr=1e-2, seed=0)
    accuracy = judged(found.network, drawn(task.draw, 200, seed=0, what_for=JUDGE))
    assert lowest <= accuracy <= highest


def test_quick_rows_and_their_picture(tmp_path: Path) -> None:
    rows = bench.recall(quick=True)
    assert [row["task"] for row in rows] == [task for task in bench.TASKS for _ in range(2)]
    for row in rows:
        assert row["worst"] <= row["accuracy"] <= row["best"]  # type: ignore[operator]
    plot_recall(rows, tmp_path / "picture.png")
    assert 1000 < (tmp_path / "picture.png").stat().st_size < 100_000


@pytest.mark.parametrize("name", MEMORIES)
def test_weights_do_not_depend_on_the_room_that_a_layer_has(name: str) -> None:
    short, long = (TokenNetwork(8, bench.of_length(MEMORIES[name], length)) for length in (16, 64))
    long.load_state_dict(short.state_dict())
    tokens = torch.randint(8, (2, 16))
    torch.testing.assert_close(short(tokens), long(tokens), atol=1e-5, rtol=1e-5)


def test_nothing_is_drawn_twice() -> None:
    task = bench.TASKS["MQAR"]
    sets = [
        drawn(task.draw, 20, seed=seed, what_for=what).tokens
        for seed in range(3)
        for what in (TRAIN, CHOOSE, JUDGE)
    ]
    rows = torch.cat(sets)
    assert len(rows.unique(dim=0)) == len(rows)


def test_the_asked_pair_stands_once() -> None:
    key_BT, value_BT, answer_B = bench_landmark.pairs(64, 3, torch.Generator().manual_seed(0))
    assert key_BT.shape == value_BT.shape == (64, 22)
    there_BT = key_BT[:, :-1] == key_BT[:, -1:]
    assert (there_BT.sum(1) == 1).all()
    assert (value_BT[:, :-1][there_BT] == answer_B).all()
    assert (value_BT[:, -1] == bench_landmark.VALUES).all()


def test_landmark_rows_of_untrained_networks() -> None:
    rows = bench_landmark.landmark(quick=True)
    assert len(rows) == 4 * (4 + 1)
    assert all(row["lost"] == 0 for row in rows if row["looks_at"] == "all")


def test_reweaving_begins_as_nothing_and_is_causal() -> None:
    torch.manual_seed(0)
    woven = bench_reweaving.network("reweaving").eval()
    tokens = torch.randint(256, (2, 12))
    plain = bench_reweaving.network("nothing").eval()
    plain.load_state_dict({name: woven.state_dict()[name] for name in plain.state_dict()})
    torch.testing.assert_close(woven(tokens), plain(tokens))
    torch.nn.init.normal_(woven.weave.out.weight)  # type: ignore[union-attr, arg-type]
    changed = tokens.clone()
    changed[:, 7:] = 0
    torch.testing.assert_close(woven(tokens)[:, :7], woven(changed)[:, :7])
    assert not torch.allclose(woven(tokens), plain(tokens))


def test_reweaving_and_the_attention_layer_are_of_one_size() -> None:
    sizes = {
        added: sum(p.numel() for p in bench_reweaving.network(added).parameters())
        for added in bench_reweaving.ADDED
    }
    extra = {added: size - sizes["nothing"] for added, size in sizes.items()}
    assert extra["reweaving"] == pytest.approx(extra["attention layer"], rel=0.05)
    assert extra["attention layer"] == sum(p.numel() for p in CausalAttention(64).parameters()) + 128

"""Every memory is compared at equal size, on the same batches, and judged by what it never saw."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from remem.apps import bench_memory_by_task as bench
from remem.apps.battery.memory_task import battery_problems
from remem.apps.bench_memory_by_task_plot import plot_memory_by_task
from remem.apps.geometry.memory_task import geometry_problems
from remem.apps.memory_layers import D_MODEL, LAYERS, PARAMETERS, NoMemory, at_equal_size, count
from remem.core.blocks import Block


def test_quick_rows_and_their_picture(tmp_path: Path) -> None:
    rows = bench.memory_by_task(seeds=3, quick=True)
    panels = {(row["task"], row["inputs"]) for row in rows}
    assert len(panels) == 5
    for panel in panels:
        own = [row for row in rows if (row["task"], row["inputs"]) == panel]
        assert [row["memory"] for row in own if row["kind"] != "floor"] == [bench.NONE, *bench.QUICK]
        assert own[0]["gain"] == 0
        assert len({row["figure"] for row in own}) == 1
    trees = [row for row in rows if row["memory"] == "boosted trees"]
    assert len(trees) == 3
    assert all("state_bytes" not in row for row in trees)
    plot_memory_by_task(rows, tmp_path / "picture.png")
    assert 1000 < (tmp_path / "picture.png").stat().st_size < 100_000


@pytest.mark.parametrize("name", LAYERS)
def test_blocks_of_equal_size(name: str) -> None:
    block = at_equal_size(Block(LAYERS[name](D_MODEL), D_MODEL, ff_mult=1), PARAMETERS)
    assert count(block) == pytest.approx(PARAMETERS, rel=0.01)
    y_BTD, _ = block(torch.randn(2, 5, D_MODEL))
    assert y_BTD.shape == (2, 5, D_MODEL)


def test_a_layer_that_leaves_no_room() -> None:
    with pytest.raises(ValueError, match="LSTM of width 32 leaves no room"):
        at_equal_size(Block(LAYERS["LSTM"](D_MODEL), D_MODEL, ff_mult=1), 8000)


def test_nothing_is_remembered() -> None:
    layer = NoMemory(4)
    x_BTD = torch.randn(2, 3, 4)
    y_BTD, state = layer(x_BTD)
    assert not y_BTD.any()
    assert layer.step(x_BTD[:, 0], state)[1] == layer.init_state(2) == ()


def test_cells_that_judge_are_never_chosen_on() -> None:
    parts = [battery_problems(seed=seed, root=None, quick=True)[0].judge.args[0] for seed in range(4)]  # type: ignore[attr-defined]
    chosen = {part["chosen on"].ids for part in parts}
    judged = [set(part["judged"].ids) for part in parts]
    assert len(chosen) == 1
    assert not set(*chosen) & set.union(*judged)
    assert judged[0] == judged[3]
    assert not judged[0] & judged[1]


def test_all_layers_see_the_same_batches() -> None:
    (problem,) = geometry_problems(seed=0, root=None, quick=True)
    first, again, other = (
        torch.cat([batch["x"].flatten() for batch in islice(problem.batches(seed), 3)]) for seed in (0, 0, 1)
    )
    assert first.equal(again)
    assert not first.equal(other)

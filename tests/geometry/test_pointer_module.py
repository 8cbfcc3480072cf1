"""Pointer networks on the three tasks: what they are taught, what their answers are worth, and that they learn."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from remem.apps.geometry import bench_parts
from remem.apps.geometry.data import Pool, labelled
from remem.apps.geometry.pointer_answers import figures, shuffled, taught
from remem.apps.geometry.pointer_module import PointerModule
from remem.core import Aaren
from remem.data.geometry.delaunay import same_triangles
from remem.data.geometry.hull import area_ratio
from remem.serving.geometry.hulls import HullPredictor
from remem.serving.geometry.plane import to_unit

SMALL = partial(PointerModule, d_model=16, num_layers=1)


def instances(task: str, count: int, n: int, seed: int = 0) -> Pool:
    random = np.random.default_rng(seed)
    return labelled(task, [random.random((n, 2)) for _ in range(count)])


def batch(pool: Pool) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(pool.x), torch.from_numpy(pool.label)


def incentre_x(xy: np.ndarray, triple: np.ndarray) -> float:
    a, b, c = xy[triple]
    sides = [np.linalg.norm(b - c), np.linalg.norm(c - a), np.linalg.norm(a - b)]
    return float(np.average([a[0], b[0], c[0]], weights=sides))


@pytest.mark.parametrize("seed", [0, 1])
def test_tours_are_taught_from_the_first_point_counter_clockwise(seed: int) -> None:
    xy, label = batch(instances("tsp", 20, 8, seed))
    backwards = label.flip(1).roll(3, 1)
    action = taught("tsp", xy, label)
    assert (action[:, 0] == 0).all()
    assert (action.sort(1).values == torch.arange(8)).all()
    assert torch.equal(action, taught("tsp", xy, backwards))
    for points, tour in zip(pool_xy(xy), action.numpy(), strict=True):
        x, y = points[tour].T
        assert (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() > 0
    assert figures("tsp", xy, action, label)["gap"] == pytest.approx(0.0, abs=1e-9)


def pool_xy(xy: torch.Tensor) -> np.ndarray:
    return xy.double().numpy()


def test_hulls_are_taught_as_they_are_with_an_end() -> None:
    xy, label = batch(instances("hull", 20, 9))
    action = taught("hull", xy, label)
    for row, wanted in zip(action.tolist(), label.tolist(), strict=True):
        corners = [point for point in wanted if point >= 0]
        assert row[: len(corners) + 1] == [*corners, 9]
        assert set(row[len(corners) + 1 :]) <= {-1}


def test_triangles_are_taught_by_their_incentres_from_their_leftmost_point() -> None:
    xy, label = batch(instances("delaunay", 20, 8))
    # given in another order and the other way round: the same is taught
    other = label.unflatten(1, (-1, 3)).flip(1).flip(2)
    action = taught("delaunay", xy, label)
    for points, row, wanted, turned in zip(
        pool_xy(xy), action.numpy(), label.numpy(), other.numpy(), strict=True
    ):
        end = int(np.flatnonzero(row == 8)[0])
        assert (row[end + 1 :] == -1).all()
        triples = row[:end].reshape(-1, 3)
        assert same_triangles(triples, wanted[wanted >= 0])
        centres = [incentre_x(points, triple) for triple in triples]
        assert centres == sorted(centres)
        for a, b, c in triples:
            assert points[a, 0] == points[[a, b, c], 0].min()
            assert np.cross(np.append(points[b] - points[a], 0), np.append(points[c] - points[a], 0))[2] > 0
        real = turned[turned[:, 0] >= 0]
        again = taught("delaunay", torch.tensor(points[None]).float(), torch.tensor(real.reshape(1, -1)))
        assert again[0].tolist() == row[: end + 1].tolist()


@pytest.mark.parametrize("task", ["tsp", "hull", "delaunay"])
def test_shuffled_instances_have_the_same_answers(task: str) -> None:
    torch.manual_seed(0)
    xy, label = batch(instances(task, 10, 7))
    moved, numbers = shuffled(task, xy, label)
    assert not torch.equal(moved, xy)
    again = labelled(task, list(moved.double().numpy()))
    found = figures(task, moved, numbers, torch.from_numpy(again.label))
    assert found.get("gap", 0.0) == pytest.approx(0.0, abs=1e-6)
    assert found.get("exact", 1.0) == 1.0
    if task == "hull":
        assert taught(task, moved, numbers).shape == taught(task, xy, label).shape


def test_figures_tell_good_answers_from_bad_ones() -> None:
    xy, label = batch(instances("hull", 10, 12))
    assert figures("hull", xy, label, label) == pytest.approx({"exact": 1.0, "area": 1.0, "invalid": 0.0})
    short = torch.where(torch.arange(label.shape[1]) < 3, label, -1)
    found = figures("hull", xy, short, label)
    wanted = [
        area_ratio(p, s[s >= 0], t[t >= 0]) for p, s, t in zip(xy, short.numpy(), label.numpy(), strict=True)
    ]
    assert found["area"] == pytest.approx(np.mean(wanted))
    assert found["exact"] < 0.5
    clockwise = label[:, :3].flip(1)
    assert figures("hull", xy, clockwise, label)["invalid"] == 1.0

    xy, label = batch(instances("delaunay", 10, 6))
    found = figures("delaunay", xy, label[:, :-3], label)
    assert 0.5 < found["coverage"] < 1.0


def test_a_short_training_learns_hulls() -> None:
    """Half of the hulls of ten points right; nobody guesses one in a thousand."""
    torch.manual_seed(0)
    xy, label = batch(instances("hull", 3000, 10))
    module = PointerModule("hull", d_model=32, num_layers=1)
    optimizer = torch.optim.Adam(module.parameters(), lr=4e-3)
    steps = 250
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * (1 - step / steps)
        rows = torch.randint(len(xy), (64,))
        optimizer.zero_grad()
        module.loss({"x": xy[rows], "label": label[rows]}).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    fresh = instances("hull", 300, 10, seed=1)
    found = module.eval().metrics({"x": torch.from_numpy(fresh.x), "label": torch.from_numpy(fresh.label)})
    assert found["exact"] > 0.35
    assert found["area"] > 0.95


def test_titles_and_refusals() -> None:
    assert PointerModule("hull", "paper", d_model=8).title == "LSTM pointer network"
    assert SMALL("tsp", decoder=Aaren).title == "pointer network, SetAttention to Aaren"
    with pytest.raises(ValueError, match="task is 'circle'"):
        PointerModule("circle")
    with pytest.raises(ValueError, match="kind is 'new'"):
        PointerModule("hull", "new")


def test_the_bundle_of_hulls_answers_without_torch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = PointerModule("hull", "paper", d_model=8).eval()
    module.write_bundle(tmp_path / "bundle")
    predictor = HullPredictor(tmp_path / "bundle", device="cpu", threads=1)
    random = np.random.default_rng(0)
    points = [to_unit(random.random((n, 2))) for n in (3, 12, 60)]
    for xy, one in zip(points, predictor.answer(points), strict=True):
        answer = module(torch.from_numpy(xy[None].astype(np.float32)))[0]
        assert one.proposed.tolist() == answer[answer >= 0].tolist()


@pytest.mark.parametrize("task", ["tsp", "delaunay"])
def test_faithful_rows_are_told_with_their_training(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_parts, "INSTANCES", dict.fromkeys(bench_parts.INSTANCES, 60))
    monkeypatch.setattr(bench_parts, "JUDGED", 5)
    bench_parts.training.cache_clear()
    bench_parts.tests.cache_clear()
    try:
        rows = bench_parts.faithful_rows(task, (5, 7), minutes=0.002, seed=0)
    finally:
        bench_parts.training.cache_clear()
        bench_parts.tests.cache_clear()
    assert [(row["model"], row["n"]) for row in rows] == [
        (name, n) for name in ("LSTM pointer network of the paper", "set-transformer pointer") for n in (5, 7)
    ]
    for row in rows:
        assert row["train_cpu_min"] == 0.0
        assert row["instances"] == 5
        assert "gap_pct" in row if task == "tsp" else "coverage_pct" in row

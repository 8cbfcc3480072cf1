"""Batches of points and answers: true labels, one size a batch, from the seed alone, the sizes in their turn."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from remem.apps.geometry.data import GeometryData, to_unit
from remem.data.geometry.delaunay import delaunay_triangles
from remem.data.geometry.exact import exact_tour
from remem.data.geometry.hull import convex_hull
from remem.data.geometry.instances import generate


def batches(data, epoch=0, epochs=1):
    data.trainer = SimpleNamespace(current_epoch=epoch, max_epochs=epochs)
    return list(data.train_dataloader())


def made(task="hull", **settings):
    return GeometryData(
        task,
        **{"sizes": [5, 9], "instances": 40, "batch_size": 8, "steps": 12, "valid_instances": 6} | settings,
    )


def test_tours_are_the_shortest():
    for batch in batches(made("tsp", steps=3, kinds={"uniform": 0.5, "clustered": 0.5})):
        for xy, tour in zip(batch["x"].double().numpy(), batch["label"].numpy(), strict=True):
            away = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
            _, best = exact_tour(away)
            assert away[tour, np.roll(tour, -1)].sum() == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize(
    ("task", "answer"), [("hull", convex_hull), ("delaunay", lambda xy: delaunay_triangles(xy).ravel())]
)
def test_hulls_and_triangles_are_exact(task, answer):
    data = made(task)
    for n, pool in data.training.items():
        for i in range(5):
            truth = answer(generate("uniform", n, _rng(data, n, i)))
            assert pool.label[i][pool.label[i] >= 0].tolist() == truth.tolist()


def _rng(data, n, i):
    rng = np.random.default_rng([data.hparams.seed, 0, n, i])
    rng.choice(1, p=[1.0])  # the kind
    return rng


def test_training_watched_and_fresh_points_are_others():
    data = made()
    seen = {tuple(xy.ravel()) for pool in data.training.values() for xy in pool.x}
    watched = {tuple(xy.ravel()) for pool in data.watched.values() for xy in pool.x}
    fresh = {tuple(xy.ravel()) for n in (5, 9) for xy in data.fresh(n, 20).x}
    assert len(seen) == 40
    assert len(seen | watched | fresh) == 40 + 12 + 40


def test_an_epoch_comes_from_its_number_alone():
    once, again = batches(made(), epoch=1), batches(made(), epoch=1)
    other = batches(made(), epoch=2)
    assert all((a["x"] == b["x"]).all() for a, b in zip(once, again, strict=True))
    assert any(
        a["x"].shape != b["x"].shape or (a["x"] != b["x"]).any() for a, b in zip(once, other, strict=True)
    )


def test_sizes_come_in_one_after_the_other():
    data = made(curriculum=0.5, sizes=[5, 9, 12], steps=60)
    sizes = np.array([batch["x"].shape[1] for batch in batches(data)])
    assert set(sizes[:10]) == {5}
    assert set(sizes[12:20]) <= {5, 9}
    assert set(sizes[30:]) == {5, 9, 12}


def test_own_points(tmp_path):
    rng = np.random.default_rng(0)
    points = [rng.random((6, 2)) * 1000 + 5e5 for _ in range(20)]
    path = tmp_path / "own.parquet"
    pl.DataFrame(
        {"x": [xy[:, 0].tolist() for xy in points], "y": [xy[:, 1].tolist() for xy in points]}
    ).write_parquet(path)
    data = GeometryData("hull", path=str(path), batch_size=4, steps=2)
    [training], [watched] = data.training.values(), data.watched.values()
    assert (len(training.x), len(watched.x)) == (18, 2)
    assert training.x.min() == 0.0
    assert training.x.max() == 1.0
    assert all(batch["x"].shape == (4, 6, 2) for batch in batches(data))


def test_to_unit_keeps_the_shape():
    xy = np.array([[10.0, 10.0], [14.0, 11.0], [12.0, 12.0]])
    assert to_unit(xy).tolist() == [[0, 0], [1, 0.25], [0.5, 0.5]]
    assert to_unit(np.ones((3, 2))).tolist() == [[0, 0]] * 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kinds": {"unifrom": 1.0}}, "no kind 'unifrom'"),
        ({"sizes": [2]}, "wanted sizes of 3 or more"),
        ({"sizes": [5, 9, 12], "every": True}, "wanted \\[first, last\\]"),
        ({"shares": [1.0]}, "a positive share for each of 2 sizes"),
        ({"curriculum": 1.0}, "a curriculum of 0 <= share < 1"),
    ],
)
def test_wrong_settings(settings, said):
    with pytest.raises(ValueError, match=said):
        made(**settings)


def test_wrong_task():
    with pytest.raises(ValueError, match="wanted one of tsp, hull, delaunay"):
        GeometryData("tps")


def test_too_few_of_your_own(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("x,y\n" + "\n".join(f"{i},{i * i}" for i in range(6)))
    with pytest.raises(ValueError, match="wanted several of 5 points or more"):
        _ = GeometryData("hull", path=str(path)).training

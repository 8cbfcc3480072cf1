"""Hulls from the shipped bundle: always a valid polygon, nearly always the hull."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from remem.data.geometry.hull import area_ratio, convex_hull, polygon_fault, same_place
from remem.data.geometry.instances import KINDS, generate
from remem.serving.geometry.hulls import HullPredictor

SCALES = ((1.0, 0.0), (1e300, 0.0), (1e-300, 0.0), (1e-310, 0.0), (1.0, 1e9), (1.0, 1e15), (1e-7, 1.0))
"""Factors and shifts: huge, subnormal, and few digits left."""


@pytest.fixture(scope="module")
def predictor() -> HullPredictor:
    return HullPredictor("hull", device="cpu", threads=1)


def uniform(n: int, count: int) -> list[np.ndarray]:
    return [np.random.default_rng([77, n, i]).random((n, 2)) for i in range(count)]


def is_convex(xy: np.ndarray, hull: np.ndarray) -> bool:
    """Exactly: the hull of its own corners, from its leftmost, then lowest on."""
    return convex_hull(xy[hull]).tolist() == list(range(len(hull)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_is_a_valid_polygon(predictor, kind):
    points = []
    for n in (1, 2, 3, 4, 5, 8, 30, 100):
        for seed, (factor, shift) in enumerate(SCALES):
            points.append(np.clip(generate(kind, n, seed) * factor + shift, -1e300, 1e300))
    for xy, one in zip(points, predictor.answer(points), strict=True):
        flat = len(convex_hull(xy)) < 3
        assert is_convex(xy, one.hull)
        assert not polygon_fault(xy, one.hull) if flat else len(one.hull) >= 3
        assert one.repaired == (not is_convex(xy, one.proposed) or not np.array_equal(one.hull, one.proposed))
        # of points at one place the first stands for all
        assert all((xy[:corner] != xy[corner]).any(-1).all() for corner in one.hull.tolist())


def test_a_polygon_that_rounding_bent_is_mended_and_counted(predictor):
    # a line to float32, and none in truth
    xy = np.column_stack([np.linspace(0.0, 1.0, 9), 1e-12 * np.linspace(-1.0, 1.0, 9) ** 2])
    one = predictor.answer([xy])[0]
    assert len(one.hull) >= 3
    assert is_convex(xy, one.hull)
    assert one.repaired


def test_the_shipped_bundle_reaches_its_figures(predictor, record_property):
    """200 fixed instances of n = 50, and 100 of n = 200, four times what it was trained on."""
    told = []
    for n, count, wanted in ((50, 200, 0.95), (200, 100, 0.8)):
        points = uniform(n, count)
        answers = predictor.answer(points)
        truth = [convex_hull(xy) for xy in points]
        exact = np.mean(
            [same_place(*three) for three in zip(points, (one.hull for one in answers), truth, strict=True)]
        )
        area = np.mean(
            [area_ratio(*three) for three in zip(points, (one.hull for one in answers), truth, strict=True)]
        )
        told.append(f"{100 * exact:.1f} % at n = {n}")
        assert exact >= wanted
        assert area >= 0.999
        assert not any(one.repaired for one in answers)
    record_property("told", f"hull bundle, exact: {', '.join(told)}")


def test_what_is_in_the_batch_changes_nothing(predictor):
    points = [xy for n in (3, 9, 10, 60, 61) for xy in uniform(n, 3)]
    together = predictor.predict(points)
    for xy, hull in zip(points, together, strict=True):
        assert np.array_equal(predictor.predict([xy])[0], hull)
    assert predictor.predict([]) == []


def test_moving_scaling_and_permuting(predictor):
    rng = np.random.default_rng(0)
    for xy in uniform(40, 10):
        hull = predictor.predict([xy])[0]
        assert np.array_equal(predictor.predict([np.ldexp(xy, 40) + 2.0**41])[0], hull)
        order = rng.permutation(40)
        assert np.array_equal(order[predictor.predict([xy[order]])[0]], hull)


def test_frames(predictor):
    xy = uniform(12, 2)
    lists = pl.DataFrame(
        {"instance": ["a", "b"], "n": [12, 12], "x": [p[:, 0] for p in xy], "y": [p[:, 1] for p in xy]}
    )
    out = predictor.predict_frame(lists)
    assert out.schema == {"instance": pl.String, "hull": pl.List(pl.Int64), "area": pl.Float64}
    assert out["instance"].to_list() == ["a", "b"]
    assert out["hull"].to_list() == [convex_hull(one).tolist() for one in xy]
    rows = pl.DataFrame({"x": xy[0][:, 0], "y": xy[0][:, 1]})
    assert predictor.predict_frame(rows)["hull"].to_list() == [convex_hull(xy[0]).tolist()]
    with pytest.raises(ValueError, match="haversine"):
        predictor.predict_frame(pl.DataFrame({"latitude": [1.0, 2.0], "longitude": [0.0, 1.0]}))


def test_errors_name_the_instance(predictor):
    with pytest.raises(ValueError, match="instance 1: nan"):
        predictor.predict([[[0, 0], [1, 0]], [[0, 0], [np.nan, 1]]])
    with pytest.raises(ValueError, match="wanted one of task 'hull'"):
        HullPredictor("delaunay")

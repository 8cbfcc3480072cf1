"""Delaunay triangulations from the shipped bundle: always a triangulation of all points, nearly always Delaunay."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.spatial import Delaunay

from remem.data.geometry.delaunay import delaunay_triangles, same_triangles, triangle_coverage
from remem.data.geometry.instances import KINDS, generate
from remem.data.geometry.triangulation import triangulation_fault
from remem.serving.geometry.completing import complete
from remem.serving.geometry.triangles import DelaunayPredictor

SCALES = ((1.0, 0.0), (1e300, 0.0), (1e-300, 0.0), (1e-310, 0.0), (1.0, 1e9), (1.0, 1e15), (1e-7, 1.0))
"""Factors and shifts: huge, subnormal, and few digits left."""


@pytest.fixture(scope="module")
def predictor() -> DelaunayPredictor:
    return DelaunayPredictor("delaunay", device="cpu", threads=1)


def uniform(n: int, count: int) -> list[np.ndarray]:
    return [np.random.default_rng([78, n, i]).random((n, 2)) for i in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_is_a_triangulation_of_all_points(predictor, kind):
    points = []
    for n in (1, 2, 3, 4, 5, 8, 30, 100):
        for seed, (factor, shift) in enumerate(SCALES):
            points.append(np.clip(generate(kind, n, seed) * factor + shift, -1e300, 1e300))
    for xy, one in zip(points, predictor.answer(points), strict=True):
        assert triangulation_fault(xy, one.triangles) == ""
        assert one.repaired == bool(triangulation_fault(xy, one.proposed))
        if not one.repaired:
            assert same_triangles(one.triangles, one.proposed)


def test_the_shipped_bundle_reaches_its_figures(predictor, record_property):
    """100 fixed instances of n = 50, and 3 of n = 1000, twenty times what it was trained on."""
    told = []
    for n, count, wanted in ((50, 100, 0.9), (1000, 3, 0.0)):
        points = uniform(n, count)
        answers = predictor.answer(points)
        truth = [delaunay_triangles(xy) for xy in points]
        exact = np.mean(
            [same_triangles(one.proposed, rows) for one, rows in zip(answers, truth, strict=True)]
        )
        coverage = [triangle_coverage(one.proposed, rows) for one, rows in zip(answers, truth, strict=True)]
        told.append(f"{100 * exact:.0f} % exact, {100 * np.mean(coverage):.2f} % of the triangles at n = {n}")
        assert exact >= wanted
        assert np.mean(coverage) >= 0.998
    record_property("told", f"delaunay bundle: {'; '.join(told)}")


def test_with_flips_it_is_scipys(record_property):
    predictor = DelaunayPredictor("delaunay", flips=True, device="cpu", threads=1)
    points = [xy for n in (4, 10, 30, 100) for xy in uniform(n, 50)]
    for xy, rows in zip(points, predictor.predict(points), strict=True):
        assert same_triangles(rows, Delaunay(xy).simplices)


def test_moving_scaling_permuting_and_company_change_nothing(predictor):
    rng = np.random.default_rng(0)
    points = uniform(40, 5) + uniform(45, 5)
    for xy, rows in zip(points, predictor.predict(points), strict=True):
        assert np.array_equal(predictor.predict([np.ldexp(xy, 40) + 2.0**41])[0], rows)
        order = rng.permutation(len(xy))
        assert same_triangles(order[predictor.predict([xy[order]])[0]], rows)
    assert predictor.predict([]) == []


def test_frames(predictor):
    xy = uniform(12, 2)
    lists = pl.DataFrame({"instance": [7, 8], "x": [p[:, 0] for p in xy], "y": [p[:, 1] for p in xy]})
    out = predictor.predict_frame(lists)
    assert out.schema == {"instance": pl.String, "triangles": pl.List(pl.Int64)}
    assert out["instance"].to_list() == ["7", "8"]
    assert out["triangles"].to_list() == [delaunay_triangles(one).ravel().tolist() for one in xy]


def test_errors_name_the_instance(predictor):
    with pytest.raises(ValueError, match="instance 1: got"):
        predictor.predict([[[0, 0], [1, 0]], []])
    with pytest.raises(ValueError, match="wanted one of task 'delaunay'"):
        DelaunayPredictor("hull")


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_proposed_is_completed_to_a_triangulation(kind):
    rng = np.random.default_rng(5)
    for n in (3, 4, 6, 12, 40):
        for seed in range(6):
            xy = generate(kind, n, seed)
            first = np.unique(xy, axis=0, return_index=True)[1]
            if len(first) < 3:
                continue
            rows = np.array([rng.choice(first, 3, replace=False) for _ in range(3 * n)])
            assert triangulation_fault(xy, complete(xy, rows, rng.random(len(rows)))) == ""


def test_the_surest_edges_stay():
    rng = np.random.default_rng(6)
    for seed in range(20):
        xy = rng.random((30, 2))
        rows = np.array([rng.choice(30, 3, replace=False) for _ in range(10)])
        sure = rng.random(10)
        done = complete(xy, rows, sure)
        edges = {tuple(sorted(pair)) for t in done.tolist() for pair in zip(t, t[1:] + t[:1], strict=True)}
        a, b, c = rows[sure.argmax()].tolist()
        assert {tuple(sorted(pair)) for pair in ((a, b), (b, c), (c, a))} <= edges, seed


def test_a_right_proposal_with_a_wrong_triangle_loses_nothing_but_that():
    xy = uniform(60, 1)[0]
    truth = delaunay_triangles(xy)
    wrong = np.vstack([truth[5:], [[truth[0, 0], truth[9, 1], truth[30, 2]]]])
    done = complete(xy, wrong, np.r_[np.zeros(len(truth) - 5), -1.0])
    assert triangulation_fault(xy, done) == ""
    assert triangle_coverage(done, truth[5:]) == 1.0

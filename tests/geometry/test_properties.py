"""A share of the 10,000 cases, and that a wrong answer would be counted."""

from __future__ import annotations

import numpy as np
import pytest

from remem.apps.geometry import bench_properties
from remem.apps.geometry.bench_properties import geometry_properties, hull_fault
from remem.apps.geometry.property_cases import FORMS, SCALES, cases
from remem.data.geometry.bound import Certificate
from remem.data.geometry.instances import KINDS, check_points


def test_no_answer_fails():
    rows = geometry_properties(quick=True)
    assert {"search and bound, points", "search and bound, matrix", "unsound input"} <= {
        row["answer"] for row in rows
    }
    for row in rows:
        assert row["cases"] >= (2 if row["answer"].startswith("tour") else 60)
        assert row["failures"] == 0, row["first"]


def test_cases_are_of_every_kind_scale_and_form_and_come_again():
    drawn = list(cases(600, 3))
    assert {case.kind for case in drawn} == set(KINDS)
    for words in (SCALES, FORMS):
        assert all(any(word in case.name for case in drawn) for word in words)
    sizes = [len(case.xy) for case in drawn]
    assert min(sizes) == 1
    assert 900 < max(sizes) <= 1000
    assert {(case.closed, case.start is None, case.end is None) for case in drawn} == {
        (True, True, True),
        (True, False, True),
        (False, True, True),
        (False, True, False),
        (False, False, True),
        (False, False, False),
    }
    for case, again in zip(drawn[:50], cases(50, 3), strict=True):
        np.testing.assert_array_equal(check_points(case.given), case.xy)
        np.testing.assert_array_equal(again.xy, case.xy)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (("search", lambda found: found.tour.__setitem__(0, found.tour[-1])), "no permutation"),
        (
            ("certify", lambda sure: object.__setattr__(sure, "lower_bound", 2 * sure.length + 1)),
            "above the length",
        ),
        (("search", lambda found: object.__setattr__(found, "length", found.length + 1e299)), "length"),
        (("search", lambda found: found.missing), "raised AttributeError"),
    ],
)
def test_what_is_wrong_is_counted(monkeypatch, broken, says):
    name, spoil = broken
    right = getattr(bench_properties, name)

    def wrong(*args, **options):
        answer = right(*args, **options)
        spoil(answer)
        return answer

    monkeypatch.setattr(bench_properties, name, wrong)
    monkeypatch.setattr(bench_properties, "_learned", lambda: [])
    monkeypatch.setattr(bench_properties, "SEARCHED", bench_properties.SEARCHED[:1])
    rows = geometry_properties(quick=True)
    assert rows[0]["failures"] > 40
    assert says in rows[0]["first"]


def test_bounds_and_proofs_are_held_against_the_shortest_tour():
    fault = bench_properties._exact_fault
    assert fault(2.0, 2.0, Certificate(2.0, 1.9, 0.1, False)) == ""
    assert "above the shortest" in fault(2.0, 2.5, Certificate(2.5, 2.1, 0.2, False))
    assert "below the shortest" in fault(2.0, 1.9, Certificate(1.9, 1.8, 0.1, False))
    assert "proved" in fault(2.0, 2.1, Certificate(2.1, 2.0, 0.1, True))


@pytest.mark.parametrize(
    ("hull", "says"),
    [
        ([0, 1, 2, 3], ""),
        ([0, 1, 2], ""),  # smaller than the hull, and a polygon
        ([0, 3, 2, 1], "does not turn to the left"),
        ([1, 2, 3, 0], "begins with 1"),
        ([0, 1, 1, 2], "does not turn to the left"),
        ([0, 2], "not the ends of a line"),
        ([0, 4, 1, 2], "does not turn to the left"),
    ],
)
def test_polygons_that_are_none(hull, says):
    xy = np.array([[0, 0], [4, 0], [4, 4], [0, 4], [2, 1]], float)
    fault = hull_fault(xy, np.array(hull))
    assert says in fault
    assert bool(says) == bool(fault)


def test_unsound_input_that_is_taken_is_counted(monkeypatch):
    monkeypatch.setattr(bench_properties, "_learned", lambda: [])
    monkeypatch.setattr(bench_properties.TSPSolver, "predict", lambda self, X: np.arange(3))
    rows = {row["answer"]: row for row in geometry_properties(quick=True)}
    assert rows["unsound input"]["failures"] > 10
    assert "was taken" in rows["unsound input"]["first"]

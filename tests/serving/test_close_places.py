"""The shipped graph on places that float32 can hardly tell apart: whatever overflows inside, tours come out."""

import numpy as np

from remem import TSPSolver
from remem.apps.geometry.property_cases import cases


def test_a_path_through_places_on_a_line_with_gaps_down_to_1e_20():
    case = list(cases(100, 77))[75]
    n = len(case.xy)
    [tour] = TSPSolver(method="x8", closed=False, start=66, end=67).predict([case.given])
    assert sorted(tour.tolist()) == list(range(n))
    assert (tour[0], tour[-1]) == (66, 67)
    assert np.diff(np.sort(case.xy[:, 0])).min() < 1e-13

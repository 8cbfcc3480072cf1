"""Tours from a bundle: valid whatever the points, never worse after a search, and certified."""

import itertools

import numpy as np
import polars as pl
import pytest

from remem.data.geometry.distances import distance_matrix, tour_length
from remem.data.geometry.instances import KINDS, generate
from remem.data.geometry.tsplib import Problem
from remem.serving.geometry import decoder as decoding
from remem.serving.geometry.methods import METHODS, Method
from remem.serving.geometry.plane import to_city, to_plane, to_unit
from remem.serving.geometry.tours import COLUMNS, TourPredictor, solve


@pytest.fixture(scope="module")
def predictor(tour_bundle):
    return TourPredictor(tour_bundle, device="cpu", threads=1)


def plane(xy, name="p", kind="euclidean"):
    return Problem(name, np.asarray(xy, np.float64), None, kind)


def assert_tour(found, problem, closed=True, start=None, end=None):
    assert sorted(found.tour.tolist()) == list(range(problem.n))
    assert found.tour.dtype == np.int64
    assert start is None or found.tour[0] == start
    assert end is None or found.tour[-1] == end
    length = problem.length(found.tour, closed=closed)
    assert found.length == pytest.approx(length, rel=1e-9, abs=1e-300)
    if found.lower_bound is not None:
        assert 0 <= found.lower_bound <= found.length * (1 + 1e-9)
        assert found.gap >= 0
        assert found.proved_optimal or found.gap > 0


@pytest.mark.parametrize("method", METHODS)
def test_valid_tours_of_every_size_and_kind_by_every_method(predictor, method):
    sizes = [*range(1, 9), *range(9, 61, 7), 60]
    problems = [
        plane(generate(kind, n, 100 * n + i), f"{kind} {n}") for i, kind in enumerate(KINDS) for n in sizes
    ]
    for problem, found in zip(
        problems, predictor.solve(problems, method, certify=False, iterations=5), strict=True
    ):
        assert found.name == problem.name
        assert_tour(found, problem)


@pytest.mark.parametrize("method", ["greedy", "x8", "beam+local", "x8+search", "search", "local"])
@pytest.mark.parametrize("ends", [(None, None), (0, None), (None, 2), (1, 0), (2, 1)])
def test_paths_keep_their_ends(predictor, method, ends):
    problems = [plane(generate(kind, n, n)) for kind in KINDS for n in (3, 4, 5, 17)]
    start, end = ends
    for problem, found in zip(
        problems,
        predictor.solve(problems, method, closed=False, start=start, end=end, certify=False, iterations=5),
        strict=True,
    ):
        assert_tour(found, problem, False, start, end)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_three_places_have_nothing_to_decode(predictor, n):
    problem = plane(generate("uniform", n, 3))
    for closed, start, end in [
        (True, None, None),
        (True, n - 1, None),
        (False, None, None),
        (False, 0, None),
    ]:
        (found,) = predictor.solve([problem], "greedy", closed=closed, start=start, end=end)
        shortest = min(
            problem.length(np.array(p), closed=closed)
            for p in itertools.permutations(range(n))
            if start in (None, p[0])
        )
        assert found.length == pytest.approx(shortest)
        assert_tour(found, problem, closed, start, end)
        assert found.log_p == 0.0
    (one,) = predictor.solve([plane([[3.0, 4.0]])], "x8+search", closed=False, start=0, end=0)
    assert one.tour.tolist() == [0]
    assert (one.length, one.lower_bound, one.gap, one.proved_optimal) == (0, 0, 0, True)


def test_the_graph_decides(predictor):
    """Left to right, as the stub's greedy graph does; from below, as its beam does."""
    xy = generate("uniform", 12, 0)
    for graph, axis in (("greedy", 0), ("beam", 1)):
        (found,) = predictor.solve([plane(xy)], graph)
        others = [i for i in np.argsort(xy[:, axis]) if i != 0]
        assert found.tour.tolist() == [0, *others]
    (path,) = predictor.solve([plane(xy)], "greedy", closed=False, start=3, end=7)
    assert path.tour.tolist() == [3, *(i for i in np.argsort(xy[:, 0]) if i not in (3, 7)), 7]


def test_huge_tiny_and_far_coordinates_change_nothing(predictor):
    xy = np.rint(generate("uniform", 40, 1) * 2**20) / 2**20  # so that moving it rounds nothing
    (plain,) = predictor.solve([plane(xy)], "x8")
    for scale, shift in [(2.0**900, 0.0), (2.0**-900, 0.0), (1.0, 2.0**30), (2.0**40, -(2.0**60))]:
        (found,) = predictor.solve([plane(xy * scale + shift)], "x8", certify=False)
        assert found.tour.tolist() == plain.tour.tolist()
        assert found.length == pytest.approx(plain.length * scale)


def test_points_in_one_place_are_visited_together(predictor):
    xy = generate("duplicates", 60, 4)
    (found,) = predictor.solve([plane(xy)], "greedy")
    places = [tuple(point) for point in xy[found.tour]]
    changes = sum(a != b for a, b in itertools.pairwise([places[-1], *places]))
    # the last place may be the first again
    assert changes == len(set(places))
    (path,) = predictor.solve([plane(xy)], "greedy", closed=False, start=0, end=1)
    assert (path.tour[0], path.tour[-1]) == (0, 1)
    same = np.flatnonzero((xy == xy[0]).all(1))
    (back,) = predictor.solve(
        [plane(xy)], "greedy", closed=False, start=int(same[0]), end=int(same[1]), certify=False
    )
    assert (back.tour[0], back.tour[-1]) == (same[0], same[1])
    # 0 digits of float32 tell these apart
    near = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1], [1 + 1e-12, 0]])
    (close,) = predictor.solve([plane(near)], "greedy")
    assert abs(int(np.flatnonzero(close.tour == 1)[0]) - int(np.flatnonzero(close.tour == 4)[0])) == 1


def test_better_methods_are_never_worse(predictor):
    problems = [plane(generate(kind, 50, i)) for i, kind in enumerate(KINDS)]
    by = {
        method: np.array([one.length for one in predictor.solve(problems, method, certify=False)])
        for method in ("greedy", "x2", "x8", "greedy+local", "x8+local", "x8+search")
    }
    assert (by["x2"] <= by["greedy"]).all()
    assert (by["x8"] <= by["x2"]).all()
    assert (by["greedy+local"] <= by["greedy"]).all()
    assert (by["x8+local"] <= by["greedy+local"] + 1e-12).all()
    assert (by["x8"] / by["greedy"]).mean() < 0.99
    assert (by["x8+search"] / by["greedy"]).mean() < 0.6


def test_batches_bound_memory_and_keep_the_order(predictor, monkeypatch):
    rng = np.random.default_rng(0)
    problems = [plane(generate("uniform", int(n), int(n)), str(n)) for n in rng.permutation(np.arange(4, 60))]
    whole = predictor.solve(problems, "greedy", certify=False)
    seen = []
    monkeypatch.setattr(decoding, "MOST_NODES", 130)
    monkeypatch.setitem(decoding.MOST_ROWS, "greedy.onnx", 3)
    run = decoding.TourDecoder._run

    def watched(self, graph, places):
        seen.append([len(p.unit) for p in places])
        return run(self, graph, places)

    monkeypatch.setattr(decoding.TourDecoder, "_run", watched)
    small = predictor.solve(problems, "greedy", certify=False)
    assert [one.tour.tolist() for one in small] == [one.tour.tolist() for one in whole]
    assert [one.name for one in small] == [problem.name for problem in problems]
    assert max(map(len, seen)) == 3
    assert all(len(batch) * max(batch) <= 130 for batch in seen)
    assert all(max(batch) <= 1.1 * min(batch) for batch in seen)


def test_lengths_are_those_of_the_problem(predictor):
    cities = np.array([[52.5, 13.4], [48.1, 11.6], [53.6, 10.0], [50.9, 6.9], [50.1, 8.7], [51.3, 12.4]])
    (found,) = predictor.solve([plane(cities, kind="haversine")], "x8+local")
    assert found.length == pytest.approx(tour_length(found.tour, cities, "haversine"))
    assert found.proved_optimal
    points = generate("uniform", 20, 2) * 1000
    for kind in ("EUC_2D", "CEIL_2D", "ATT", "MAN_2D"):
        (found,) = predictor.solve([plane(points, kind=kind)], "greedy+local")
        assert found.length == tour_length(found.tour, points, kind)
    space = np.random.default_rng(0).random((15, 3)) * 100
    (found,) = predictor.solve([Problem("s", space, None, "EUC_3D")], "greedy")
    assert found.length == tour_length(found.tour, space, "EUC_3D")


def test_a_matrix_is_embedded_and_its_own_lengths_count(predictor):
    xy = generate("uniform", 25, 5)
    matrix = distance_matrix(xy)
    problem = Problem("m", None, matrix, "EXPLICIT")
    embedded = to_plane(problem)
    assert np.allclose(distance_matrix(embedded), matrix, atol=1e-9)
    (found,) = predictor.solve([problem], "x8+local")
    assert found.length == pytest.approx(tour_length(found.tour, xy))
    noise = np.random.default_rng(1).random((25, 25))
    odd = Problem("o", None, matrix + noise + noise.T - np.diag(2 * np.diag(noise)), "EXPLICIT")
    for method in ("greedy", "beam+search", "search"):
        (found,) = predictor.solve([odd], method)
        assert_tour(found, odd)


@pytest.mark.parametrize("middle", [(50, 8), (0, 179.9), (89.5, 0), (-70, -179.9)])
def test_the_map_keeps_distances_across_dateline_and_poles(middle):
    rng = np.random.default_rng(0)
    degrees = np.array(middle) + rng.uniform(-0.3, 0.3, (30, 2))
    degrees[:, 1] = (degrees[:, 1] + 180) % 360 - 180
    true = distance_matrix(degrees, "haversine")
    flat = distance_matrix(to_plane(plane(degrees, kind="haversine"))) * 6371.0088
    assert np.allclose(flat, true, rtol=1e-4)


def test_places_of_routes_are_the_same_in_every_problem():
    cities = np.array([[52.5, 13.4], [52.6, 13.4], [52.5, 13.5]])
    places = to_city(plane(cities, kind="haversine"))
    assert to_city(plane(cities[1:], kind="haversine")).tolist() == places[1:].tolist()
    east, north = places[2] - places[0], places[1] - places[0]
    assert east[1] == pytest.approx(0, abs=1e-9)
    assert north[0] == pytest.approx(0, abs=1e-9)
    # within a city proportions are those of the globe
    true = distance_matrix(cities, "haversine")
    assert east[0] / north[1] == pytest.approx(true[0, 2] / true[0, 1], rel=2e-3)
    xy = generate("uniform", 5, 0)
    assert to_city(plane(xy)).tolist() == xy.tolist()
    with pytest.raises(ValueError, match="routes are learned from places"):
        to_city(Problem("m", None, distance_matrix(xy), "EXPLICIT"))
    with pytest.raises(ValueError, match="beyond 89"):
        to_city(plane([[90.0, 0.0]], kind="haversine"))


def test_the_unit_box_keeps_every_digit():
    xy = np.array([[2.0**80 + 2.0**60, 0], [2.0**80, 2.0**59]])
    assert to_unit(xy).tolist() == [[0.5, 0.0], [0.0, 0.25]]
    assert to_unit(np.array([[5.0, 5.0], [5.0, 5.0]])).tolist() == [[0, 0], [0, 0]]
    wide = to_unit(np.array([[-1e300, 0], [1e300, 1e300]]))
    assert np.isfinite(wide).all()
    assert wide.max() <= 1


def test_certificate_can_be_left_out(predictor):
    problem = plane(generate("uniform", 20, 0))
    (sure,) = predictor.solve([problem], "search")
    (bare,) = predictor.solve([problem], "search", certify=False)
    assert bare.tour.tolist() == sure.tour.tolist()
    assert (bare.lower_bound, bare.gap, bare.proved_optimal, bare.log_p) == (None, None, None, None)
    assert sure.lower_bound <= sure.length
    (limited,) = predictor.solve([problem], "greedy+search", seconds=0.05)
    assert_tour(limited, problem)


def test_predict_gives_the_columns_of_every_geometry_command(predictor):
    table = pl.DataFrame({"instance": ["b", "a"], "x": [[0.0, 1, 1, 0], [0.0]], "y": [[0.0, 0, 1, 1], [0.0]]})
    out = predictor.predict_frame(table, "greedy+local")
    assert out.schema == COLUMNS
    assert out["instance"].to_list() == ["b", "a"]
    assert out["length"].to_list() == [4.0, 0.0]
    assert out["lower_bound"].to_list() == pytest.approx([4.0, 0.0])
    assert predictor.predict_frame(table, certify=False)["lower_bound"].null_count() == 2
    square = np.column_stack([table["x"][0], table["y"][0]])
    (tour,) = predictor.predict([square], "greedy+local")
    assert tour.tolist() == out["tour"][0].to_list()
    with pytest.raises(ValueError, match="instance 1: nan in row 0"):
        predictor.predict([square, [[np.nan, 0.0]]])


def test_errors_name_place_and_remedy(predictor, tmp_path, early_bundle):
    problem = plane(generate("uniform", 5, 0), "five")
    with pytest.raises(ValueError, match=r"no method 'gredy' \(near: 'greedy'"):
        predictor.solve([problem], "gredy")
    for name in ("greedy+", "+search", "greedy+search+local", "x0", "x8+beam", ""):
        with pytest.raises(ValueError, match="no method"):
            Method.named(name)
    with pytest.raises(ValueError, match="give a bundle, or take method 'search'"):
        solve([problem], "greedy")
    with pytest.raises(ValueError, match="five: start is 5; wanted a node from 0 to 4"):
        predictor.solve([problem], start=5)
    with pytest.raises(ValueError, match="five: a closed tour ends where it starts"):
        predictor.solve([problem], end=1)
    with pytest.raises(ValueError, match="start and end are both 1"):
        predictor.solve([problem], closed=False, start=1, end=1)
    with pytest.raises(ValueError, match="wanted 'tsp' and 'points'"):
        TourPredictor(early_bundle)


def test_a_graph_that_gives_no_tour_is_refused(predictor, monkeypatch):
    class Broken:
        def get_inputs(self):
            return []

        def run(self, names, given):
            return np.zeros((1, 5), np.int64), np.zeros(1, np.float32)

    monkeypatch.setitem(predictor.decoder._sessions, "greedy.onnx", Broken())
    with pytest.raises(ValueError, match="which is no tour from 0 to 0; export the bundle again"):
        predictor.solve([plane(generate("uniform", 5, 0))])


def test_a_graph_without_ends_decodes_closed_tours(predictor, monkeypatch):
    """As a plain pointer network: it starts where it likes."""

    class Likes:
        def get_inputs(self):
            return predictor_inputs[:2]

        def run(self, names, given):
            assert list(given) == ["xy", "real"]
            n = given["real"].sum(1)
            return np.array([[*range(2, m), 0, 1, *[-1] * (max(n) - m)] for m in n]), np.zeros(
                len(n), np.float32
            )

    predictor_inputs = predictor.bundle.session("greedy.onnx", device="cpu").get_inputs()
    monkeypatch.setitem(predictor.decoder._sessions, "greedy.onnx", Likes())
    problems = [plane(generate("uniform", n, 0)) for n in (20, 21)]
    for one in predictor.solve(problems, "greedy", certify=False):
        assert one.tour.tolist() == list(range(len(one.tour)))
    for one, problem in zip(
        predictor.solve(problems, "x8+local", closed=False, start=3, end=1), problems, strict=True
    ):
        assert_tour(one, problem, False, 3, 1)

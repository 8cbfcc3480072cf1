"""TSPSolver, ConvexHullSolver, DelaunaySolver: instances in any form, scikit-learn's ways, errors that help."""

import json
import pickle
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import remem
from remem.apps.geometry import fitting
from remem.data.geometry.delaunay import delaunay_triangles, triangle_coverage
from remem.data.geometry.distances import distance_matrix, tour_length
from remem.data.geometry.hull import convex_hull, polygon_fault
from remem.data.geometry.instances import generate
from remem.data.geometry.triangulation import triangulation_fault
from remem.data.geometry.tsplib import read_tsp

TSP = "NAME : five\nTYPE : TSP\nDIMENSION : 5\nEDGE_WEIGHT_TYPE : EUC_2D\nNODE_COORD_SECTION\n"
TSP += "1 0 0\n2 10 0\n3 10 10\n4 0 10\n5 5 12\nEOF\n"


@pytest.fixture(scope="module")
def many():
    return [generate("uniform", n, n) for n in (12, 20, 12, 7)]


@pytest.fixture
def solvers(geometry_bundles):
    return [
        remem.TSPSolver(method="x8+local", bundle=geometry_bundles / "tsp"),
        remem.ConvexHullSolver(bundle=geometry_bundles / "hull"),
        remem.DelaunaySolver(bundle=geometry_bundles / "delaunay"),
    ]


def test_instances_come_in_any_form(many, tmp_path):
    solver = remem.TSPSolver()
    tours = solver.predict(many)
    assert [sorted(tour.tolist()) for tour in tours] == [list(range(len(xy))) for xy in many]
    one = many[0]
    single = solver.predict(one)
    assert single.shape == (12,)
    assert single.dtype == np.int64
    rows = pl.DataFrame({"x": one[:, 0], "y": one[:, 1]})
    named = pl.DataFrame(
        {
            "instance": list("abcd"),
            "x": [xy[:, 0].tolist() for xy in many],
            "y": [xy[:, 1].tolist() for xy in many],
        }
    )
    for form in (one.tolist(), one.astype(np.float32), rows, tuple(map(tuple, one))):
        assert tour_length(solver.predict(form), one) == pytest.approx(tour_length(single, one))
    ragged = np.empty(4, object)
    ragged[:] = many
    named.write_parquet(tmp_path / "many.parquet")
    forms = [named, ragged, tuple(many), [xy.tolist() for xy in many], tmp_path / "many.parquet"]
    forms.append([pl.DataFrame({"x": xy[:, 0], "y": xy[:, 1]}) for xy in many])
    for form in forms:
        assert [tour.tolist() for tour in solver.predict(form)] == [tour.tolist() for tour in tours]
    stack = np.stack([many[0], many[2]])
    assert [tour.tolist() for tour in solver.predict(stack)] == [tours[0].tolist(), tours[2].tolist()]
    (tmp_path / "five.tsp").write_text(TSP)
    problem = read_tsp(tmp_path / "five.tsp")
    for form in (problem, tmp_path / "five.tsp", str(tmp_path / "five.tsp")):
        answer = solver.solve(form)
        assert (answer.name, answer.length, answer.proved_optimal) == ("five", 40, True)
    assert [answer.length for answer in solver.solve([problem, problem])] == [40, 40]


def test_the_answer_carries_its_certificate(many):
    answers = remem.TSPSolver().solve(many)
    for xy, answer in zip(many, answers, strict=True):
        assert answer.length == pytest.approx(tour_length(answer.tour, xy))
        assert answer.lower_bound <= answer.length
        assert answer.gap == pytest.approx(answer.length / answer.lower_bound - 1, abs=1e-12)
    assert all(answer.proved_optimal for answer in answers)
    assert remem.TSPSolver(certify=False).solve(many[0]).lower_bound is None


def test_metrics(many):
    xy = many[1]
    straight = remem.TSPSolver().solve(xy).length
    matrix = distance_matrix(xy)
    assert remem.TSPSolver(metric="precomputed").solve(matrix).length == pytest.approx(straight)
    assert len(remem.TSPSolver(metric="precomputed").predict([matrix, matrix])) == 2
    cities = np.array([[52.5, 13.4], [48.1, 11.6], [53.6, 10.0], [50.9, 6.9], [50.1, 8.7], [51.3, 12.4]])
    globe = remem.TSPSolver(metric="haversine")
    answer = globe.solve(cities)
    assert answer.length == pytest.approx(tour_length(answer.tour, cities, "haversine"))
    table = pl.DataFrame({"lat": cities[:, 0], "lon": cities[:, 1]})
    assert remem.TSPSolver().solve(table).length == pytest.approx(answer.length)
    with pytest.raises(ValueError, match="latitude 91 at point 1"):
        globe.predict([[0.0, 0.0], [91.0, 0.0]])


def test_paths(many):
    xy = many[0]
    path = remem.TSPSolver(closed=False, start=3, end=5).solve(xy)
    assert (path.tour[0], path.tour[-1]) == (3, 5)
    assert path.length == pytest.approx(tour_length(path.tour, xy, closed=False))
    free = remem.TSPSolver(closed=False).solve(xy)
    assert free.length <= path.length
    assert remem.TSPSolver(start=4).predict(xy)[0] == 4


def test_score_is_minus_the_gap_to_the_search(many, tour_bundle):
    assert remem.TSPSolver().score(many) == 0
    lengths = []
    for method in ("greedy", "search"):
        tours = remem.TSPSolver(method=method, bundle=tour_bundle).predict(many)
        lengths.append([tour_length(tour, xy) for tour, xy in zip(tours, many, strict=True)])
    wanted = np.mean(np.array(lengths[0]) / lengths[1] - 1)
    assert remem.TSPSolver(method="greedy", bundle=tour_bundle).score(many) == pytest.approx(-wanted)
    # against routes: the share of their steps that the tours have
    own = remem.TSPSolver().predict(many)
    assert remem.TSPSolver().score(many, own) == 1
    assert remem.TSPSolver().score(many, [tour[::-1] for tour in own]) == 1
    mixed = [np.random.default_rng(0).permutation(len(xy)) for xy in many]
    assert 0 < remem.TSPSolver().score(many, mixed) < 0.8
    same = np.ones((4, 5, 2))
    assert remem.TSPSolver().score(same) == 0


def test_grid_search_over_methods(many, tour_bundle):
    grid = GridSearchCV(
        remem.TSPSolver(bundle=tour_bundle), {"method": ["local", "search"]}, cv=2, refit=True
    )
    grid.fit([generate("uniform", 60, i) for i in range(4)])
    assert grid.best_params_ == {"method": "search"}
    assert (grid.cv_results_["mean_test_score"] <= 0).all()
    assert grid.predict(many[0]).shape == (12,)


def test_copies_are_the_same(solvers, many, tmp_path):
    for solver in solvers:
        wanted = solver.predict(many)
        copies = [clone(solver), pickle.loads(pickle.dumps(solver)), type(solver)(**solver.get_params())]
        copies.append(type(solver).load(solver.save(tmp_path / "solver.zip")))
        for copy in copies:
            assert str(copy.get_params()["bundle"]) == str(solver.bundle)
            assert all(map(np.array_equal, copy.predict(many), wanted))
        exported = solver.export(tmp_path / solver.task)
        assert json.loads((exported / "manifest.json").read_text())["task"] == solver.task
        fitted = type(solver).load(exported)
        assert "greedy.onnx" in fitted.files_ or "apex.onnx" in fitted.files_
        if solver.task == "tsp":
            fitted.set_params(method=solver.method)
        for copy in (
            fitted,
            pickle.loads(pickle.dumps(fitted)),
            type(solver).load(fitted.save(tmp_path / "f.zip")),
        ):
            assert all(map(np.array_equal, copy.predict(many), wanted))
        with pytest.raises(ValueError, match="nothing was overwritten"):
            solver.export(tmp_path)


def test_loading_refuses_what_is_not_its_own(solvers, tmp_path, geometry_bundles):
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match="not a saved TSPSolver"):
        remem.TSPSolver.load(tmp_path / "text.zip")
    saved = solvers[1].save(tmp_path / "hull.zip")
    with pytest.raises(ValueError, match="not a saved TSPSolver"):
        remem.TSPSolver.load(saved)
    with pytest.raises(ValueError, match="a bundle of task 'hull'; TSPSolver wants 'tsp'"):
        remem.TSPSolver.load(geometry_bundles / "hull")
    with pytest.raises(ValueError, match="no such bundle folder"):
        remem.TSPSolver.load(tmp_path / "nowhere")


def test_hulls(many, geometry_bundles):
    exact = remem.ConvexHullSolver(method="exact")
    assert [hull.tolist() for hull in exact.predict(many)] == [convex_hull(xy).tolist() for xy in many]
    assert exact.score(many) == 1
    assert all(answer.exact for answer in exact.solve(many))
    # the stub finds four extremes: a right answer for four corners alone
    network = remem.ConvexHullSolver(bundle=geometry_bundles / "hull")
    answers = network.solve(many)
    assert [answer.exact for answer in answers] == [
        polygon_fault(xy, a.hull) == "" for xy, a in zip(many, answers, strict=True)
    ]
    right = [
        answer.hull.tolist() == convex_hull(xy).tolist() for xy, answer in zip(many, answers, strict=True)
    ]
    assert network.score(many) == np.mean(right) < 1
    square = np.array([[0.0, 0.2], [1, 0], [1.2, 1], [0.2, 1.1], [0.5, 0.5]])
    one = network.solve(square)
    assert one.hull.tolist() == [0, 1, 2, 3]
    assert one.exact
    assert one.area == pytest.approx(0.98)


def test_triangulations(many, geometry_bundles):
    network = remem.DelaunaySolver(bundle=geometry_bundles / "delaunay")
    rough = network.predict(many)
    assert all(triangulation_fault(xy, rows) == "" for xy, rows in zip(many, rough, strict=True))
    truth = [delaunay_triangles(xy) for xy in many]
    assert network.score(many) == pytest.approx(np.mean(list(map(triangle_coverage, rough, truth))))
    assert not all(answer.exact for answer in network.solve(many))
    network.set_params(flips=True)
    assert network.score(many) == 1
    assert network.solve(many[0]).exact
    assert all(map(np.array_equal, remem.DelaunaySolver(method="exact").predict(many), truth))


@pytest.mark.parametrize("task", ["tsp", "hull", "delaunay"])
def test_fit_trains_on_these_points(task, many, geometry_bundles, monkeypatch):
    """What the command is asked; how it trains is its own test's."""
    asked = {}

    def run(words):
        asked.update(word.removeprefix("--").split("=", 1) for word in words if "=" in word)
        asked["table"] = pl.read_parquet(asked["data.path"])
        out = __import__("pathlib").Path(asked["out"]) / "bundle"
        out.mkdir(parents=True)
        for file in (geometry_bundles / task).iterdir():
            (out / file.name).write_bytes(file.read_bytes())
        return fitting.Fitted(out.parent, [{"method": "greedy"}], None)

    monkeypatch.setattr(fitting, "run", run)
    kind = {"tsp": remem.TSPSolver, "hull": remem.ConvexHullSolver, "delaunay": remem.DelaunaySolver}[task]
    solver = kind(max_epochs=3, steps=7, random_state=5)
    assert solver.fit(many) is solver
    assert (asked["trainer.max_epochs"], asked["data.steps"], asked["data.seed"]) == ("3", "7", "5")
    assert asked["table"]["n"].to_list() == [12, 20, 12, 7]
    assert solver.kind_ == "points"
    assert solver.metrics_ == [{"method": "greedy"}]
    assert len(solver.predict(many)) == 4
    if task == "tsp":
        assert solver.score(many) == pytest.approx(0, abs=0.02)  # auto: decoded, then searched
    else:
        asked.clear()
        solver.set_params(method="exact").fit(many)
        assert asked == {}
        assert not hasattr(solver, "files_")


def test_fit_follows_routes(many, geometry_bundles):
    """Of a kind that no map shows: always up, then down at once. What more routes bring is the bench's to tell."""
    xy = [np.random.default_rng(i).random((9, 2)) for i in range(60)]
    routes = [np.argsort(points[:, 1]) for points in xy]
    routes = [np.roll(route, -int(np.flatnonzero(route == 0)[0])) for route in routes]
    solver = remem.TSPSolver(max_epochs=4, d_model=32)
    assert solver.fit(xy[:40], routes[:40]) is solver
    assert solver.kind_ == "routes"
    assert solver.metrics_[0]["routes"] == 32
    assert solver.score(xy[40:], routes[40:]) > remem.TSPSolver().score(xy[40:], routes[40:])
    with pytest.raises(ValueError, match="this solver was fitted on routes; take 'auto'"):
        solver.set_params(method="greedy").predict(xy[0])
    with pytest.raises(ValueError, match="got 4 routes; wanted 20 or more"):
        remem.TSPSolver().fit(many, remem.TSPSolver().predict(many))


def test_routes_keep_their_ends_and_are_measured_on_the_map(many, geometry_bundles, tmp_path):
    solver = remem.TSPSolver.load(geometry_bundles / "routes")
    for xy, answer in zip(many, solver.solve(many), strict=True):
        up = np.argsort(xy[:, 1])
        assert answer.tour.tolist() == np.roll(up, -int(np.flatnonzero(up == 0)[0])).tolist()
        assert answer.length == pytest.approx(tour_length(up, xy))
        assert answer.lower_bound <= answer.length
        assert answer.log_p is None
    copy = remem.TSPSolver.load(solver.save(tmp_path / "routes.zip"))
    assert copy.kind_ == "routes"
    assert list(map(len, copy.predict(many))) == [12, 20, 12, 7]
    path = solver.set_params(closed=False, start=3, end=5).predict(many[0])
    assert (path[0], path[-1]) == (3, 5)
    for n in (1, 2, 3):
        some = generate("duplicates", n, 0)
        for ends in ({"closed": True}, {"closed": False}, {"closed": False, "start": 0}):
            found = remem.TSPSolver.load(geometry_bundles / "routes").set_params(**ends).predict(some)
            assert sorted(found.tolist()) == list(range(n))
    globe = remem.TSPSolver.load(geometry_bundles / "routes").set_params(metric="haversine")
    degrees = np.column_stack([many[0][:, 1] * 0.1 + 50, many[0][:, 0] * 0.1 + 8])
    north = np.argsort(degrees[:, 0])
    assert globe.predict(degrees).tolist() == np.roll(north, -int(np.flatnonzero(north == 0)[0])).tolist()
    with pytest.raises(ValueError, match="routes are learned from places"):
        globe.set_params(metric="precomputed").predict(distance_matrix(many[0]))


def test_searching_methods_have_nothing_to_learn(many, monkeypatch):
    monkeypatch.setattr(fitting, "run", lambda words: pytest.fail("trained"))
    solver = remem.TSPSolver(method="search").fit(many)
    assert not hasattr(solver, "files_")


@pytest.mark.parametrize(
    ("parameters", "X", "told"),
    [
        ({"method": "serch"}, [[0.0, 0]], r"TSPSolver: no method 'serch' \(near: 'search'"),
        ({"metric": "euclid"}, [[0.0, 0]], r"metric is 'euclid' \(near: 'euclidean'\)"),
        ({"closed": 1}, [[0.0, 0]], "closed is 1; wanted True or False"),
        ({"start": 1.5}, [[0.0, 0]], "start is 1.5; wanted a whole number of 0 or more, or None"),
        ({"start": 1}, [[0.0, 0]], "start is 1; wanted a node from 0 to 0"),
        ({"end": 1}, np.eye(2), "a closed tour ends where it starts"),
        ({"seconds": -1}, [[0.0, 0]], "seconds is -1; wanted more than 0"),
        ({"random_state": None}, [[0.0, 0]], "random_state is None"),
        ({}, [[0.0, np.nan]], "X: nan in row 0, column 1"),
        ({}, [np.zeros((3, 2)), np.full((2, 2), np.inf)], r"X\[1\]: inf in row 0"),
        ({}, np.zeros((4, 3)), r"X: got shape \(4, 3\); wanted \(n, 2\)"),
        ({}, np.zeros(4), r"X: got ndarray of shape \(4,\); wanted \(n, 2\) points"),
        ({}, np.zeros((2, 3, 4, 2)), r"of shape \(2, 3, 4, 2\)"),
        ({}, [], "X: no instances"),
        ({}, [[0.0, 0], [1.0]], "not a table of numbers"),
        ({}, [["a", "b"]], "not a table of numbers"),
        ({"metric": "precomputed"}, [[0.0, 1], [2, 0]], "not symmetric: .* asymmetric problems"),
        ({"metric": "precomputed"}, np.zeros((3, 2)), r"got shape \(3, 2\); wanted \(n, n\)"),
    ],
)
def test_errors_say_where_and_what_to_do(parameters, X, told):
    with pytest.raises(ValueError, match=told):
        remem.TSPSolver(**parameters).predict(X)


def test_errors_of_labels_and_of_the_plane(many):
    with pytest.raises(ValueError, match="X is a single instance"):
        remem.TSPSolver().fit(many[0])
    with pytest.raises(ValueError, match="tours: got 1 for 4 instances"):
        remem.TSPSolver().score(many, [[0, 1]])
    wrong = [np.arange(len(xy)) for xy in many]
    wrong[2] = np.zeros(12, int)
    with pytest.raises(ValueError, match=r"tours\[2\]: node 0 comes 12 times"):
        remem.TSPSolver().score(many, wrong)
    with pytest.raises(ValueError, match=r"method is 'exct' \(near: 'exact'\)"):
        remem.ConvexHullSolver(method="exct").predict(many)
    with pytest.raises(ValueError, match="flips is 'yes'"):
        remem.DelaunaySolver(flips="yes").predict(many)
    table = pl.DataFrame({"lat": [1.0, 2, 3], "lon": [1.0, 2, 4]})
    with pytest.raises(ValueError, match="is haversine; wanted points of the plane"):
        remem.ConvexHullSolver(method="exact").predict(table)


def test_torch_is_not_loaded_before_fit(geometry_bundles):
    code = f"""
import sys
import numpy as np
import remem
xy = np.random.default_rng(0).random((9, 2))
root = {str(geometry_bundles)!r}
remem.TSPSolver().solve(xy)
remem.TSPSolver(method="x8+local", bundle=root + "/tsp").solve(xy)
remem.ConvexHullSolver(bundle=root + "/hull").score([xy])
remem.DelaunaySolver(bundle=root + "/delaunay").solve(xy)
sys.exit(sum(name in sys.modules for name in ("torch", "lightning", "matplotlib")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

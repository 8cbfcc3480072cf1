"""`remem predict|evaluate|solve` on points, without torch."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from remem.apps.cli import main
from remem.data.geometry.delaunay import delaunay_triangles, same_triangles
from remem.data.geometry.distances import tour_length
from remem.data.geometry.geojson import read_geojson, write_geojson
from remem.data.geometry.hull import convex_hull, polygon_area
from remem.data.geometry.instances import generate
from remem.data.geometry.tours import write_tour
from remem.serving import bundle as bundles
from remem.serving.geometry.tours import TourPredictor

WITHOUT_TORCH = """
import sys
for name in ("torch", "lightning", "sklearn", "xgboost", "matplotlib"):
    sys.modules[name] = None
from remem.apps.cli import main
sys.exit(main())
"""

POINTS = {name: generate("uniform", n, n) for name, n in (("b", 12), ("a", 7), ("c", 30))}
CITIES = np.array([[52.5, 13.4], [48.1, 11.6], [53.6, 10.0], [50.9, 6.9], [50.1, 8.7], [51.3, 12.4]])
TSP = "NAME : five\nTYPE : TSP\nDIMENSION : 5\nEDGE_WEIGHT_TYPE : EUC_2D\nNODE_COORD_SECTION\n"
TSP += "1 0 0\n2 10 0\n3 10 10\n4 0 10\n5 5 12\nEOF\n"


def remem(*arguments):
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def table(**columns):
    xy = {axis: [points[:, i].tolist() for points in POINTS.values()] for i, axis in enumerate("xy")}
    return pl.DataFrame(
        {"instance": list(POINTS), "n": [len(one) for one in POINTS.values()], **xy, **columns}
    )


@pytest.fixture(autouse=True)
def shipped(geometry_bundles, monkeypatch):
    """The stubs stand for the shipped bundles."""
    monkeypatch.setattr(bundles, "SHIPPED", geometry_bundles)


@pytest.fixture
def points_file(tmp_path):
    table().write_parquet(tmp_path / "points.parquet")
    return tmp_path / "points.parquet"


@pytest.mark.parametrize("task", ["tsp", "hull", "delaunay"])
def test_predict_writes_a_row_for_every_instance_without_torch(task, geometry_bundles, points_file, tmp_path):
    done = remem("predict", geometry_bundles / task, points_file, "-o", tmp_path / "out.parquet")
    assert done.returncode == 0, done.stderr
    assert "read 3 instances of 49 points together" in done.stderr
    out = pl.read_parquet(tmp_path / "out.parquet")
    assert out["instance"].to_list() == ["b", "a", "c"]
    if task == "tsp":
        assert out.columns == ["instance", "tour", "length", "lower_bound"]
        for row, xy in zip(out.iter_rows(named=True), POINTS.values(), strict=True):
            assert sorted(row["tour"]) == list(range(len(xy)))
            assert row["length"] == pytest.approx(tour_length(np.array(row["tour"]), xy))
            assert row["lower_bound"] <= row["length"]
        wanted = TourPredictor(geometry_bundles / "tsp").solve(
            [*map(_problem, POINTS.values())], "greedy+search", certify=False
        )
        assert out["tour"].to_list() == [one.tour.tolist() for one in wanted]
    elif task == "hull":
        assert out.columns == ["instance", "hull", "area"]
        for row, xy in zip(out.iter_rows(named=True), POINTS.values(), strict=True):
            assert row["area"] == pytest.approx(polygon_area(xy, row["hull"]))
    else:
        assert out.columns == ["instance", "triangles"]
        assert [len(row) // 3 for row in out["triangles"]] == [
            2 * len(xy) - 2 - len(convex_hull(xy)) for xy in POINTS.values()
        ]


def _problem(xy):
    from remem.data.geometry.tsplib import Problem

    return Problem("", xy, None, "euclidean")


def test_shipped_bundles_are_called_by_name(points_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert (
        main(["predict", "tsp", str(points_file), "-o", "out.csv", "--method", "greedy", "--no-certificate"])
        == 0
    )
    out = pl.read_csv("out.csv")
    assert [len(tour.split(";")) for tour in out["tour"]] == [12, 7, 30]
    assert out["lower_bound"].null_count() == 3
    assert main(["predict", "hull", str(points_file)]) == 0
    assert capsys.readouterr().out.startswith("instance,hull,area\nb,")
    assert main(["predict", "delaunay", str(points_file), "-o", "t.parquet", "--flips"]) == 0
    for flat, xy in zip(pl.read_parquet("t.parquet")["triangles"], POINTS.values(), strict=True):
        assert same_triangles(flat.to_numpy().reshape(-1, 3), delaunay_triangles(xy))
    assert main(["predict", "huls", str(points_file)]) == 1
    assert "shipped with the package: delaunay, hull, routes, tsp" in capsys.readouterr().err


def test_inputs_of_several_kinds_keep_their_order(points_file, tmp_path, capsys):
    (tmp_path / "five.tsp").write_text(TSP)
    pl.DataFrame({"place": ["k"] * 6, "lat": CITIES[:, 0], "lng": CITIES[:, 1]}).write_csv(tmp_path / "k.csv")
    files = [str(tmp_path / name) for name in ("k.csv", "five.tsp")]
    words = ["--columns", "place=instance", "--method", "x8+search", "-o", str(tmp_path / "out.parquet")]
    assert main(["predict", "tsp", *files, *words]) == 0
    out = pl.read_parquet(tmp_path / "out.parquet")
    assert out["instance"].to_list() == ["k", "five"]
    assert out["length"][1] == out["lower_bound"][1] == 40
    assert out["length"][0] == pytest.approx(tour_length(out["tour"][0].to_numpy(), CITIES, "haversine"))
    assert "2 of 2 tours are proved to be the shortest" in capsys.readouterr().err
    # hulls are of the plane, whatever a file says of lengths
    assert main(["predict", "hull", str(tmp_path / "five.tsp"), "-o", str(tmp_path / "h.csv")]) == 0
    assert main(["predict", "hull", files[0], "--columns", "place=instance"]) == 1
    assert "instance k is haversine; wanted points of the plane" in capsys.readouterr().err


def test_paths(points_file, tmp_path):
    words = ["--open", "--start", "2", "--end", "0", "-o", str(tmp_path / "out.parquet")]
    assert main(["predict", "tsp", str(points_file), *words]) == 0
    for tour in pl.read_parquet(tmp_path / "out.parquet")["tour"]:
        assert (tour[0], tour[-1]) == (2, 0)


def test_places_in_a_geojson_file_become_a_line(tmp_path, capsys):
    file, out = tmp_path / "stops.geojson", tmp_path / "route.geojson"
    points = [{"type": "Point", "coordinates": [lon, lat, 34.0]} for lat, lon in CITIES.tolist()]
    features = [{"type": "Feature", "geometry": one, "properties": {}} for one in points]
    features.append(
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": []}, "properties": None}
    )
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    assert main(["predict", "tsp", str(file), "-o", str(out)]) == 0
    assert "1 features that are no points left out: Polygon" in capsys.readouterr().err
    (feature,) = json.loads(out.read_text())["features"]
    line, told = np.array(feature["geometry"]["coordinates"]), feature["properties"]
    assert feature["geometry"]["type"] == "LineString"
    assert line.tolist() == CITIES[[*told["tour"], told["tour"][0]], ::-1].tolist()
    assert told["length"] == pytest.approx(tour_length(np.array(told["tour"]), CITIES, "haversine"))
    solved = tmp_path / "solved.geojson"
    assert main(["solve", str(file), "--open", "-o", str(solved), "--json"]) == 0
    assert len(json.loads(solved.read_text())["features"][0]["geometry"]["coordinates"]) == 6
    assert json.loads(capsys.readouterr().out)["proved_optimal"]


def test_geojson_of_several_instances_and_of_none(tmp_path):
    write_geojson(tmp_path / "a.geojson", [(CITIES, {})], "Polygon")
    with pytest.raises(ValueError, match="no Point and no MultiPoint"):
        read_geojson(tmp_path / "a.geojson")
    where = CITIES[:, ::-1].tolist()
    several = [
        {
            "type": "Feature",
            "geometry": {"type": "MultiPoint", "coordinates": where[:k]},
            "properties": {"name": k},
        }
        for k in (3, 6)
    ]
    (tmp_path / "b.json").write_text(json.dumps({"type": "FeatureCollection", "features": several}))
    assert [(one.name, one.n, one.kind) for one in read_geojson(tmp_path / "b.json")] == [
        ("3", 3, "haversine"),
        ("6", 6, "haversine"),
    ]
    for text, told in [
        ("{", "not GeoJSON"),
        ("[]", "type is None"),
        ('{"type": "Point", "coordinates": [3]}', "of every point"),
        ('{"type": "Point", "coordinates": [3, 120]}', "latitude 120 at point 0"),
    ]:
        (tmp_path / "c.geojson").write_text(text)
        with pytest.raises(ValueError, match=told):
            read_geojson(tmp_path / "c.geojson")


def evaluated(capsys, *words):
    assert main(["evaluate", *map(str, words), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    return told["compared_with"], {row["model"]: row for row in told["rows"]}


def test_tours_are_compared_with_the_search_or_with_labels(points_file, tmp_path, capsys):
    picture = tmp_path / "p" / "gaps.png"
    compared, rows = evaluated(capsys, "tsp", points_file, "--method", "x8", "--plot", picture)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert compared == "search"
    assert list(rows) == ["bundle, x8", "bundle, greedy", "search", "farthest insertion", "nearest neighbour"]
    assert rows["search"]["gap_pct"] == 0
    assert rows["search"]["optimal"] == 1
    greedy = [tour_length(np.append(0, 1 + np.argsort(xy[1:, 0])), xy) for xy in POINTS.values()]
    assert rows["bundle, greedy"]["length"] == pytest.approx(np.mean(greedy))
    assert rows["bundle, x8"]["gap_pct"] <= rows["bundle, greedy"]["gap_pct"]
    labels = [list(range(len(xy))) for xy in POINTS.values()]
    for name in ("labelled.parquet", "labelled.csv"):
        if name.endswith("csv"):
            lists = [
                pl.format("[{}]", pl.col(c).cast(pl.List(pl.String)).list.join(", ")).alias(c) for c in "xy"
            ]
            table(tour=[";".join(map(str, tour)) for tour in labels]).with_columns(lists).write_csv(
                tmp_path / name
            )
        else:
            table(tour=labels).write_parquet(tmp_path / name)
        compared, rows = evaluated(capsys, "tsp", tmp_path / name)
        assert compared == "labels"
        known = np.array(
            [tour_length(np.array(tour), xy) for tour, xy in zip(labels, POINTS.values(), strict=True)]
        )
        assert rows["bundle, greedy"]["gap_pct"] == pytest.approx(100 * np.mean(np.array(greedy) / known - 1))
        assert rows["search"]["gap_pct"] < 0
    table(tour=[[0, 0, *range(2, len(xy))] for xy in POINTS.values()]).write_parquet(
        tmp_path / "wrong.parquet"
    )
    assert main(["evaluate", "tsp", str(tmp_path / "wrong.parquet")]) == 1
    assert "instance b: tour: node 0 comes 2 times" in capsys.readouterr().err


def test_a_tour_beside_its_problem_is_its_label(tmp_path, capsys):
    (tmp_path / "five.tsp").write_text(TSP)
    write_tour(tmp_path / "five.opt.tour", np.array([0, 2, 1, 3, 4]), "five.opt.tour")
    compared, rows = evaluated(capsys, "tsp", tmp_path / "five.tsp")
    assert compared == "labels"
    assert rows["search"]["gap_pct"] == pytest.approx(100 * (40 / 56 - 1))


def test_hulls_and_triangulations_are_compared_with_exact_ones(points_file, tmp_path, capsys):
    compared, rows = evaluated(capsys, "hull", points_file)
    assert compared == "exact arithmetic"
    assert rows["qhull"]["exact"] == rows["qhull"]["area"] == 1
    assert rows["bundle"]["area"] < 1
    compared, rows = evaluated(capsys, "delaunay", points_file)
    assert rows["qhull"]["exact"] == rows["bundle, flips"]["exact"] == rows["qhull"]["coverage"] == 1
    assert rows["bundle"]["coverage"] < 1
    assert rows["bundle"]["repaired"] == 1
    shifted = [np.roll(convex_hull(xy), 1).tolist() for xy in POINTS.values()]
    table(hull=shifted).write_parquet(tmp_path / "h.parquet")
    compared, rows = evaluated(capsys, "hull", tmp_path / "h.parquet")
    assert (compared, rows["qhull"]["exact"]) == ("labels", 1)
    triangles = [delaunay_triangles(xy).ravel().tolist() for xy in POINTS.values()]
    table(triangles=triangles).write_parquet(tmp_path / "t.parquet")
    compared, rows = evaluated(capsys, "delaunay", tmp_path / "t.parquet")
    assert (compared, rows["qhull"]["exact"]) == ("labels", 1)
    assert main(["evaluate", "hull", str(points_file)]) == 0
    assert capsys.readouterr().out.startswith("compared with: exact arithmetic\n\nmodel")


def test_routes_are_followed_and_judged_by_those_that_were_driven(
    geometry_bundles, points_file, tmp_path, capsys
):
    bundle = geometry_bundles / "routes"
    few = list(POINTS.values())[:2]  # so small that the search surely finds the best
    table()[:2].write_parquet(points_file)
    done = remem("predict", bundle, points_file, "-o", tmp_path / "out.parquet", "--start", "1")
    assert done.returncode == 0, done.stderr
    out = pl.read_parquet(tmp_path / "out.parquet")
    assert out.columns == ["instance", "tour", "length", "lower_bound"]
    for row, xy in zip(out.iter_rows(named=True), few, strict=True):
        up = np.argsort(xy[:, 1])
        assert row["tour"] == np.roll(up, -int(np.flatnonzero(up == 1)[0])).tolist()
        assert row["length"] == pytest.approx(tour_length(up, xy))
        assert row["lower_bound"] < row["length"]
    assert main(["evaluate", str(bundle), str(points_file)]) == 1
    assert "2 of 2 instances have no observed route, first b" in capsys.readouterr().err
    driven = [np.argsort(xy[:, 1])[::-1].tolist() for xy in few]
    table()[:2].with_columns(tour=pl.Series(driven)).write_parquet(tmp_path / "r.parquet")
    compared, rows = evaluated(capsys, bundle, tmp_path / "r.parquet")
    assert compared == "observed routes"
    assert (rows["bundle"]["agreement"], rows["bundle"]["directed"]) == (1, 0)
    assert rows["shortest"]["agreement"] < 1
    assert rows["shortest"]["longer_pct"] == 0
    assert rows["bundle"]["longer_pct"] == pytest.approx(rows["observed"]["longer_pct"])
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(bundle), str(points_file), "--method", "greedy"])
    assert stop.value.code == 2
    assert "this bundle follows observed routes" in capsys.readouterr().err


def test_solve_decodes_where_it_is_asked_to(tmp_path, capsys):
    (tmp_path / "five.tsp").write_text(TSP)
    words = [str(tmp_path / "five.tsp"), "--json", "--method"]
    assert main(["solve", *words, "greedy"]) == 0
    assert json.loads(capsys.readouterr().out)["tour"] == [1, 4, 5, 2, 3]
    assert main(["solve", *words, "greedy+local", "--plot", str(tmp_path / "p" / "five.png")]) == 0
    assert json.loads(capsys.readouterr().out)["length"] == 40
    assert (tmp_path / "p" / "five.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["solve", *words, "gredy"]) == 1
    assert "--method: no method 'gredy' (near: 'greedy'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tsp", "--flips"], "--flips is for bundles of task 'delaunay'; this one's is 'tsp'"),
        (["hull", "--method", "greedy"], "--method is for bundles of task 'tsp'; this one's is 'hull'"),
        (["hull", "--start", "0"], "--start is for bundles of task 'tsp'"),
        (["tsp", "-o", "out.txt"], "end the name in .parquet, .csv or .geojson"),
    ],
)
def test_options_of_other_tasks_are_wrong_usage(words, told, points_file, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["predict", words[0], str(points_file), *words[1:]])
    assert stop.value.code == 2
    assert told in capsys.readouterr().err


def test_what_cannot_be_read_or_written_is_1(points_file, tmp_path, capsys):
    assert main(["predict", "tsp", str(points_file), "-o", str(tmp_path / "o.geojson")]) == 1
    assert "GeoJSON wants latitude and longitude" in capsys.readouterr().err
    assert main(["predict", "tsp", str(points_file), "--method", "bem"]) == 1
    assert "no method 'bem' (near: 'beam'" in capsys.readouterr().err
    assert main(["predict", "tsp", str(points_file), "--open", "--end", "9"]) == 1
    assert "a: end is 9; wanted a node from 0 to 6" in capsys.readouterr().err
    (tmp_path / "nan.csv").write_text("x,y\n0,0\n1,nan\n")
    assert main(["predict", "tsp", str(tmp_path / "nan.csv")]) == 1
    assert "instance nan: nan in row 1, column 1" in capsys.readouterr().err
    assert main(["stream", "tsp"]) == 1
    assert "answers whole sets of points; use `remem predict`" in capsys.readouterr().err

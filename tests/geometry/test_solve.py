"""`remem solve`: a file in, a tour with its certificate out."""

import json
import subprocess
import sys

import numpy as np
import pytest

from remem.apps import cli
from remem.data.geometry.tours import read_tour

TSP = """NAME : five
TYPE : TSP
DIMENSION : 5
EDGE_WEIGHT_TYPE : EUC_2D
NODE_COORD_SECTION
1 0 0
2 10 0
3 10 10
4 0 10
5 5 12
EOF
"""


@pytest.fixture
def five(tmp_path):
    path = tmp_path / "five.tsp"
    path.write_text(TSP)
    return path


def test_people_read_length_bound_and_gap(five, capsys):
    assert cli.main(["solve", str(five)]) == 0
    out, _ = capsys.readouterr()
    told = dict(line.rsplit(maxsplit=1) for line in out.splitlines())
    assert told["length"] == told["lower bound"] == "40"
    assert told["gap"] == "0.000%"
    assert told["proved optimal"] == "yes"


def test_the_tour_is_written(five, tmp_path, capsys):
    out = tmp_path / "five.tour"
    assert cli.main(["solve", str(five), "-o", str(out), "--seconds", "0.2", "--json", "--start", "3"]) == 0
    told = json.loads(capsys.readouterr().out)
    tour = read_tour(out, 5)
    assert (tour + 1).tolist() == told["tour"]
    assert told["tour"][0] == 3
    assert told["places"] == 5
    assert told["seconds"] < 2


def test_a_path_between_ends(five, capsys):
    assert cli.main(["solve", str(five), "--open", "--start", "1", "--end", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tour"] == [1, 2, 3, 5, 4]
    assert told["length"] == 30


@pytest.mark.parametrize(("header", "km"), [("x,y", 4.0), ("name,Lat,lng", 444.78)])
def test_csv(header, km, tmp_path, capsys):
    path = tmp_path / "places.csv"
    rows = [(0, 0), (0, 1), (1, 1), (1, 0)]
    lead = "a," if header.startswith("name") else ""
    path.write_text("\n".join([header, *(f"{lead}{x},{y}" for x, y in rows)]))
    assert cli.main(["solve", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["length"] == pytest.approx(km, abs=0.1)
    assert told["proved_optimal"]


def test_a_seed_gives_one_tour(tmp_path, capsys):
    path = tmp_path / "places.csv"
    points = np.random.default_rng(0).random((60, 2))
    path.write_text("x,y\n" + "\n".join(f"{x},{y}" for x, y in points))
    told = []
    for _ in range(2):
        assert cli.main(["solve", str(path), "--json", "--seed", "7"]) == 0
        told.append(json.loads(capsys.readouterr().out)["tour"])
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,y\n1,2\n3,\n", "nan in row 1, column 1"),
        ("a,b\n1,2\n", "no columns x and y"),
        ("", "the file is empty"),
    ],
)
def test_a_csv_that_cannot_be_used(text, said, tmp_path, capsys):
    path = tmp_path / "places.csv"
    path.write_text(text)
    assert cli.main(["solve", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def test_failed_is_1(five, tmp_path, capsys):
    assert cli.main(["solve", str(tmp_path / "none.tsp")]) == 1
    assert cli.main(["solve", str(tmp_path / "none.csv")]) == 1
    assert cli.main(["solve", str(five), "--start", "6"]) == 1
    assert "--start is 6; give a place from 1 to 5" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [[], ["a.txt"], ["a.tsp", "--seconds", "0"], ["a.tsp", "--seed", "-1"], ["a.tsp", "--end", "2"]]
)
def test_wrong_usage_is_2(argv):
    with pytest.raises(SystemExit) as stop:
        cli.main(["solve", *argv])
    assert stop.value.code == 2


def test_no_training_stack(five):
    code = (
        f"import sys; from remem.apps.cli import main; assert main(['solve', {str(five)!r}]) == 0; "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'lightning', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

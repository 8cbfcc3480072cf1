"""Coordinates in csv and parquet files, as lists and as a row for each point."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from remem.data.geometry.tables import problems_from, read_coordinates

LISTS = pl.DataFrame(
    {"instance": ["b", "a"], "n": [2, 3], "x": [[0.0, 3], [1.0, 2, 3]], "y": [[0.0, 4], [4.0, 5, 6]]}
)
WANTED = [("b", [[0, 0], [3, 4]]), ("a", [[1, 4], [2, 5], [3, 6]])]


def told(problems: list) -> list:
    assert {problem.kind for problem in problems} == {"euclidean"}
    return [(problem.name, problem.xy.tolist()) for problem in problems]


def test_lists_and_rows_in_parquet_and_csv(tmp_path: Path):
    LISTS.write_parquet(tmp_path / "l.parquet")
    assert told(read_coordinates(tmp_path / "l.parquet")) == WANTED
    text = LISTS.with_columns(
        pl.format("[{}]", pl.col(name).cast(pl.List(pl.String)).list.join(", ")).alias(name) for name in "xy"
    )
    text.write_csv(tmp_path / "l.csv")
    assert told(read_coordinates(tmp_path / "l.csv")) == WANTED
    rows = LISTS.explode("x", "y")
    rows.write_parquet(tmp_path / "r.parquet")
    rows.write_csv(tmp_path / "r.csv")
    assert told(read_coordinates(tmp_path / "r.parquet")) == WANTED
    assert told(read_coordinates(tmp_path / "r.csv")) == WANTED
    assert told(problems_from(rows[[2, 0, 3, 1, 4]])) == WANTED[::-1]


def test_names_where_there_are_none(tmp_path: Path):
    rows = LISTS.explode("x", "y")["x", "y"]
    rows.write_csv(tmp_path / "city.csv")
    (problem,) = read_coordinates(tmp_path / "city.csv")
    assert (problem.name, problem.n) == ("city", 5)
    assert [p.name for p in problems_from(LISTS.drop("instance"))] == ["0", "1"]
    blanks = pl.DataFrame({"x": ["0 3"], "y": ["0  4"]})
    assert problems_from(blanks)[0].xy.tolist() == [[0, 0], [3, 4]]
    one = pl.DataFrame({"instance": ["p"], "x": ["[1.5]"], "y": ["[2]"]})
    assert problems_from(one)[0].xy.tolist() == [[1.5, 2]]


def test_other_names_and_places_on_earth():
    frame = pl.DataFrame({"Lat": [48.0, 49.0], "LNG": [2.0, 2.0]})
    (problem,) = problems_from(frame)
    assert problem.kind == "haversine"
    assert problem.length([0, 1], closed=False) == pytest.approx(111.2, abs=0.1)
    frame = pl.DataFrame({"a": [1], "b": [2], "who": [9]})
    assert problems_from(frame, columns={"a": "x", "b": "y", "who": "instance"})[0].name == "9"


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (pl.DataFrame({"x": [1], "z": [2]}), "no columns x and y"),
        (pl.DataFrame({"x": [], "y": []}), "no rows"),
        (pl.DataFrame({"x": [1.0, None], "y": [1.0, 2.0]}), "nan in row 1, column 0"),
        (pl.DataFrame({"x": ["1", "two"], "y": ["1", "2"]}), "column x: 'two', number 1"),
        (pl.DataFrame({"x": ["[1, b]"], "y": ["[1, 2]"]}), "column x: 'b'"),
        (pl.DataFrame({"x": [[1, 2]], "y": [[1]]}), "2 x and 1 y"),
        (pl.DataFrame({"x": [[1, 2]], "y": [1]}), "lists in one"),
        (
            pl.DataFrame({"x": [[]], "y": [[]]}, schema={"x": pl.List(pl.Float64), "y": pl.List(pl.Float64)}),
            "no points",
        ),
        (pl.DataFrame({"x": [1], "y": [1], "n": [2]}), "has 1 points, and n is 2"),
        (pl.DataFrame({"instance": ["a", "a"], "x": [[1], [1]], "y": [[1], [1]]}), "two rows of lists"),
        (pl.DataFrame({"instance": ["a", None], "x": [1, 2], "y": [1, 2]}), "row 1 has no instance"),
        (pl.DataFrame({"lat": [100.0], "lon": [2.0]}), "exchanged"),
        (pl.DataFrame({"x": [True], "y": [[[1]]]}), "lists in one"),
        (pl.DataFrame({"lat": [1.0], "Lat": [1.0], "lon": [2.0]}), "two columns would be called latitude"),
    ],
)
def test_refusals(frame: pl.DataFrame, says: str):
    with pytest.raises(ValueError, match=says) as error:
        problems_from(frame, "t.csv")
    assert "t.csv" in str(error.value)


def test_unknown_column_to_rename_and_missing_file(tmp_path: Path):
    with pytest.raises(ValueError, match="no column 'xx'"):
        problems_from(LISTS, columns={"xx": "x"})
    with pytest.raises(ValueError, match="no such file"):
        read_coordinates(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="folder"):
        read_coordinates(tmp_path)

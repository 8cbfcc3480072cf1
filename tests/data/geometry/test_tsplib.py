"""TSPLIB files: the shared ones, every edge weight format, odd spellings, and what is refused."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from remem.data.geometry.bound import certify
from remem.data.geometry.costs import Costs
from remem.data.geometry.distances import KINDS, dimensions, distance_matrix
from remem.data.geometry.exact import exact_tour
from remem.data.geometry.search import search
from remem.data.geometry.tours import read_tour, write_tour
from remem.data.geometry.tsplib import read_tsp
from remem.data.geometry.tsplib_matrix import FORMATS

ROOT = Path(os.environ.get("REMEM_DATA", "")) / "tsplib"
real = pytest.mark.skipif(
    not (ROOT / "optimal_lengths.csv").is_file(), reason="REMEM_DATA is not set or has no tsplib"
)


@real
def test_every_shared_file_has_its_published_length(record_property):
    with (ROOT / "optimal_lengths.csv").open() as file:
        rows = list(csv.DictReader(file))
    tours = 0
    for row in rows:
        problem = read_tsp(ROOT / f"{row['name']}.tsp")
        assert (problem.name, problem.n) == (row["name"], int(row["n"]))
        path = ROOT / f"{row['name']}.opt.tour"
        assert path.exists() == (row["tour_source"] != "none")
        if path.exists():
            tours += 1
            assert problem.length(read_tour(path, problem.n)) == int(row["optimal_length"]), row
    assert len(rows) == len(list(ROOT.glob("*.tsp")))
    record_property("told", f"TSPLIB: {len(rows)} problems, {tours} optimal tours of the published length")


def put(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def weights(matrix: np.ndarray, form: str) -> list[float]:
    """The definition, entry by entry."""
    n = len(matrix)
    part = form.partition("_")[0]
    first = {"FULL": lambda i: 0, "UPPER": lambda i: i, "LOWER": lambda i: 0}[part]
    last = {"FULL": lambda i: n - 1, "UPPER": lambda i: n - 1, "LOWER": lambda i: i}[part]
    diagonal = "DIAG" in form or form == "FULL_MATRIX"
    cells = [(i, j) for i in range(n) for j in range(n) if first(i) <= j <= last(i) and (diagonal or i != j)]
    if form.endswith("COL"):
        cells.sort(key=lambda cell: (cell[1], cell[0]))
    return [matrix[cell] for cell in cells]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("width", [1, 4, 1000])
def test_every_format_gives_the_same_matrix(tmp_path: Path, form: str, n: int, width: int):
    matrix = np.random.default_rng(n).integers(1, 99, (n, n)).astype(float)
    matrix = np.triu(matrix, 1) + np.triu(matrix, 1).T
    words = [f"{value:g}" for value in weights(matrix, form)]
    lines = [" ".join(words[i : i + width]) for i in range(0, len(words), width)]
    head = [
        "NAME: m",
        "TYPE: TSP",
        f"DIMENSION: {n}",
        "EDGE_WEIGHT_TYPE: EXPLICIT",
        f"EDGE_WEIGHT_FORMAT: {form}",
    ]
    path = put(tmp_path / "m.tsp", "\n".join([*head, "EDGE_WEIGHT_SECTION", *lines, "EOF"]))
    problem = read_tsp(path)
    assert problem.kind == "EXPLICIT"
    assert problem.xy is None
    np.testing.assert_array_equal(problem.matrix, matrix)


def coordinates(kind: str, xy: np.ndarray) -> str:
    rows = [f"{i} {' '.join(map(repr, row))}" for i, row in enumerate(xy.tolist(), 1)]
    head = [
        "NAME: c",
        "TYPE: TSP",
        f"DIMENSION: {len(xy)}",
        f"EDGE_WEIGHT_TYPE: {kind}",
        "NODE_COORD_SECTION",
    ]
    return "\n".join([*head, *rows, "EOF\n"])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "EXPLICIT"])
def test_every_kind_of_coordinates_is_read_and_solved(tmp_path: Path, kind: str):
    xy = np.random.default_rng(1).uniform(-80, 80, (9, dimensions(kind))).round(2)
    problem = read_tsp(put(tmp_path / "c.tsp", coordinates(kind.lower(), xy)))
    assert problem.kind == kind
    np.testing.assert_array_equal(problem.xy, xy)
    costs = Costs.of_problem(problem)
    found = search(costs)
    assert found.length == pytest.approx(problem.length(found.tour), rel=1e-14)
    assert found.length == pytest.approx(exact_tour(distance_matrix(xy, kind))[1], rel=1e-12)
    assert certify(costs, found.length).proved_optimal


GR17 = """0 633 0 257 390 0 91 661 228 0 412 227 169 383 0 150 488 112 120 267 0 80 572 196 77 351 63 0
134 530 154 105 309 34 29 0 259 555 372 175 338 264 232 249 0 505 289 262 476 196 360 444 402 495 0
353 282 110 324 61 208 292 250 352 154 0 324 638 437 240 421 329 297 314 95 578 435 0
70 567 191 27 346 83 47 68 189 439 287 254 0 211 466 74 182 243 105 150 108 326 336 184 391 145 0
268 420 53 239 199 123 207 165 383 240 140 448 202 57 0 246 745 472 237 528 364 332 349 202 685 542 157 289 426 483 0
121 518 142 84 297 35 29 36 236 390 238 301 55 96 153 336 0"""


def test_a_published_optimum_of_a_matrix(tmp_path: Path):
    head = "NAME: gr17\nTYPE: TSP\nDIMENSION: 17\nEDGE_WEIGHT_TYPE: EXPLICIT\nEDGE_WEIGHT_FORMAT: LOWER_DIAG_ROW\n"
    problem = read_tsp(put(tmp_path / "gr17.tsp", f"{head}EDGE_WEIGHT_SECTION\n{GR17}\nEOF\n"))
    costs = Costs.of_problem(problem)
    found = search(costs)
    assert found.length == problem.length(found.tour) == 2085
    assert certify(costs, found.length).proved_optimal


SQUARE = "NAME: s\nTYPE: TSP\nDIMENSION: 3\nEDGE_WEIGHT_TYPE: EUC_2D\nNODE_COORD_SECTION\n1 0 0\n2 3 4\n3 0 4\nEOF\n"


@pytest.mark.parametrize(
    "text",
    [
        SQUARE,
        SQUARE.replace("EOF\n", ""),
        SQUARE.replace(": ", "   :  ").replace("\n", "\r\n"),
        SQUARE.replace(": ", " "),
        SQUARE.lower(),
        "\ufeff" + SQUARE,
        SQUARE.replace("SECTION", "SECTION :"),
        SQUARE.replace("1 0 0\n2 3 4", "  1\t0.0e+00   -0\n\n  2 3E0 +4.00000e+00  "),
        SQUARE.replace("1 0 0\n2 3 4\n", "2 3 4\n1 0 0\n"),
        SQUARE.replace("1 0 0\n2 3 4\n3", "0 0 0\n1 3 4\n2"),
        SQUARE.replace("1 0 0\n2 3 4\n3", "1 0\n0 2 3 4 3"),
        SQUARE.replace("TYPE: TSP\n", "TYPE: TSP (A. Name)\n", 1),
        SQUARE.replace("DIMENSION: 3\n", "COMMENT: x: y\nCOMMENT: z\n"),
        SQUARE.replace("DIMENSION: 3\n", "DIMENSION: 3\nBEST_KNOWN : 12\n"),
    ],
)
def test_odd_spellings_mean_the_same(tmp_path: Path, text: str):
    problem = read_tsp(put(tmp_path / "s.tsp", text))
    np.testing.assert_array_equal(problem.xy, [[0, 0], [3, 4], [0, 4]])
    assert (problem.name, problem.kind, problem.n) == ("s", "EUC_2D", 3)
    assert problem.length(np.array([0, 1, 2])) == 12


def test_gzip_comments_notes_and_no_name(tmp_path: Path):
    path = tmp_path / "q.tsp.gz"
    text = SQUARE.replace("NAME: s\n", "COMMENT: a\nCOMMENT: b\nBEST: 3\n").replace("EOF\n", "")
    path.write_bytes(gzip.compress(text.encode()))
    problem = read_tsp(path)
    assert problem.comment == "a\nb"
    assert problem.name == "q.tsp"
    assert problem.notes == ("keyword BEST is not TSPLIB's, not used", "no EOF at the end")


def test_three_dimensions_fixed_edges_and_display(tmp_path: Path):
    text = (
        "TYPE: TSP\nDIMENSION: 2\nEDGE_WEIGHT_TYPE: EUC_3D\nFIXED_EDGES_SECTION\n1 2\n-1\n"
        "NODE_COORD_SECTION\n1 0 0 0\n2 1 2 2\nEOF"
    )
    problem = read_tsp(put(tmp_path / "a.tsp", text))
    assert problem.fixed_edges.tolist() == [[0, 1]]
    assert problem.distances()[0, 1] == 3
    text = (
        "TYPE: TSP\nDIMENSION: 2\nEDGE_WEIGHT_TYPE: EXPLICIT\nEDGE_WEIGHT_FORMAT: UPPER_ROW\n"
        "DISPLAY_DATA_TYPE: TWOD_DISPLAY\nEDGE_WEIGHT_SECTION\n7\nDISPLAY_DATA_SECTION\n1 5 6\n2 7 8\nEOF"
    )
    problem = read_tsp(put(tmp_path / "b.tsp", text))
    assert problem.xy.tolist() == [[5, 6], [7, 8]]
    assert problem.length(np.array([0, 1]), closed=False) == 7


ATSP = "TYPE: ATSP\nDIMENSION: 2\nEDGE_WEIGHT_TYPE: EXPLICIT\nEDGE_WEIGHT_FORMAT: FULL_MATRIX\nEDGE_WEIGHT_SECTION\n"


def test_atsp_that_is_symmetric(tmp_path: Path):
    problem = read_tsp(put(tmp_path / "a.atsp", ATSP + "9999 2\n2 9999\nEOF"))
    assert problem.matrix.tolist() == [[0, 2], [2, 0]]
    assert problem.notes == ("distances from a node to itself not used",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ATSP + "0 2 3 0\nEOF", "not symmetric"),
        (ATSP + "0 -2 -2 0\nEOF", "wanted 0 or more"),
        (ATSP + "0 2 3\nEOF", "holds 3 numbers; wanted 4"),
        (ATSP.replace("FULL_MATRIX", "FUNCTION") + "0", "EDGE_WEIGHT_FORMAT"),
        (SQUARE.replace("EUC_2D", "XRAY1"), "EDGE_WEIGHT_TYPE is.*XRAY1.*wanted one of EUC_2D"),
        (SQUARE.replace("EUC_2D", "XRAY2"), "XRAY2.*wanted one of"),
        (SQUARE.replace("EUC_2D", "SPECIAL"), "SPECIAL.*wanted one of"),
        (SQUARE.replace("EUC_2D", "EUC_3D"), "wanted 4 .number, 3 coordinates."),
        (SQUARE.replace("EUC_2D", "EXPLICIT"), "no EDGE_WEIGHT_SECTION"),
        (SQUARE.replace("TYPE: TSP", "TYPE: HCP", 1), "no lengths"),
        (SQUARE.replace("TYPE: TSP", "TYPE: SOP", 1), "order constraints"),
        (SQUARE.replace("TYPE: TSP", "TYPE: TOUR", 1), "read_tour"),
        (SQUARE.replace("TYPE: TSP", "TYPE: MAP", 1), "MAP: not known here"),
        (SQUARE.replace("EUC_2D", "EUC2D"), "near: 'EUC_2D'"),
        (SQUARE.replace("EDGE_WEIGHT_TYPE: EUC_2D\n", ""), "missing"),
        (SQUARE.replace("TYPE: TSP", "TYPE: CVRP", 1), "vehicle routing"),
        (SQUARE.replace("3 0 4\n", ""), "cut short"),
        (SQUARE.replace("3 0 4", "3 0"), "line 8 has 2 numbers"),
        (SQUARE.replace("3 0 4", "2 0 4"), "node 2 comes 2 times"),
        (SQUARE.replace("3 0 4", "3 nan 4"), "line 8: nan"),
        (SQUARE.replace("3 0 4", "3 zero 4"), "line 8: 'zero'"),
        (SQUARE.replace("3 0 4", "hello"), "line 8: 'hello'.*neither"),
        (SQUARE.replace("DIMENSION: 3", "DIMENSION: three"), "'three'"),
        ("NAME: x\nEOF\n", "no section"),
        ("", "empty"),
    ],
)
def test_refusals(tmp_path: Path, text: str, says: str):
    with pytest.raises(ValueError, match=says) as error:
        read_tsp(put(tmp_path / "bad.tsp", text))
    assert "bad.tsp" in str(error.value)


def test_files_that_are_not_text(tmp_path: Path):
    (tmp_path / "a.tsp").write_bytes(b"\0\1\2")
    with pytest.raises(ValueError, match="not text"):
        read_tsp(tmp_path / "a.tsp")
    with pytest.raises(ValueError, match="no such file"):
        read_tsp(tmp_path / "b.tsp")
    with pytest.raises(ValueError, match="folder"):
        read_tsp(tmp_path)


def test_tours_come_back(tmp_path: Path):
    tour = np.random.default_rng(0).permutation(20)
    write_tour(tmp_path / "new" / "a.tour", tour, "a.tour", "Length 5\nby hand")
    assert read_tour(tmp_path / "new" / "a.tour", 20).tolist() == tour.tolist()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.tour"]
    write_tour(tmp_path / "one.tour", np.array([0]), "one")
    assert read_tour(tmp_path / "one.tour").tolist() == [0]


def test_a_bad_tour_leaves_the_file(tmp_path: Path):
    path = tmp_path / "a.tour"
    write_tour(path, np.arange(3), "a")
    with pytest.raises(ValueError, match="node 1 comes 2 times"):
        write_tour(path, np.array([0, 1, 1]), "a")
    with pytest.raises(ValueError, match="one line"):
        write_tour(path, np.arange(3), "a\nEOF")
    assert read_tour(path).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("TOUR_SECTION\n1 2 2 -1\nEOF", "comes 2 times"),
        ("TOUR_SECTION\n1 2 4 -1\nEOF", "node 3 at place 2"),
        ("DIMENSION: 4\nTOUR_SECTION\n1 2 3 -1\nEOF", "DIMENSION is 4"),
        ("TOUR_SECTION\n1 2 -1\nEOF", "wanted 3"),
        ("TOUR_SECTION\n-1\nEOF", "wanted 3"),
        (SQUARE, "read_tsp"),
    ],
)
def test_bad_tour_files(tmp_path: Path, text: str, says: str):
    with pytest.raises(ValueError, match=says):
        read_tour(put(tmp_path / "t.tour", text), 3)


@pytest.mark.parametrize(
    "text", ["TOUR_SECTION\n1\n3 2\n-1\n-1\nEOF", "TOUR_SECTION\n1 3 2", "tour_section 0 2 1 -1"]
)
def test_tours_in_other_spellings(tmp_path: Path, text: str):
    assert read_tour(put(tmp_path / "t.tour", text), 3).tolist() == [0, 2, 1]

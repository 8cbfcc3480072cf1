"""The bench of tours runs: every solver on the same instances, the control among them, papers' rows told apart."""

from __future__ import annotations

import numpy as np
import pytest

from remem.apps.geometry import bench_tsp
from remem.apps.geometry.bench_tsp import tsp
from remem.apps.geometry.peers import Peer, installed
from remem.apps.geometry.quoted_tours import quoted
from remem.data.geometry.costs import Costs
from remem.data.geometry.exact import exact_tour


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("bench")
        patch.chdir(folder)
        patch.setattr(bench_tsp, "installed", lambda: [by_rows])
        found = tsp(seeds=1, root=str(folder), quick=True)
        assert (folder / "out" / "bench_tsp_uniform_20.png").stat().st_size > 1000
    return found


by_rows = Peer("in the order of the file", "numpy", 1000, lambda matrix: np.arange(len(matrix)))


def test_measured_rows(rows: list[dict[str, object]]):
    measured = {row["solver"]: row for row in rows if row["kind"] != "quoted"}
    assert {"nearest neighbour", "farthest insertion", "search", "random start+search"} <= set(measured)
    for row in measured.values():
        assert row["gap_pct"] >= 0
        assert row["worst_pct"] >= row["gap_pct"]
        assert row["cpu_ms"] > 0
        assert row["length"] > 2
    assert measured["search"]["gap_pct"] < 0.5 < measured["nearest neighbour"]["gap_pct"]
    assert measured["search"]["certified_gap_pct"] < 0.5
    assert measured["in the order of the file"]["kind"] == "peer"
    assert measured["in the order of the file"]["gap_pct"] > 50


def test_quoted_rows_are_told_apart(rows: list[dict[str, object]]):
    assert [row for row in rows if row["kind"] == "quoted"] == quoted()
    for row in quoted():
        assert row["source"]
        assert "cpu_ms" not in row
        assert (row["gap_pct"] is None) != (row["length"] is None)


def test_whole_numbers_for_other_solvers():
    matrix = Costs.of_points(np.random.default_rng(0).random((8, 2))).dense()
    ready = by_rows.ready(matrix)
    assert ready.dtype == np.int64
    assert ready.max() == 1000
    assert np.abs(ready / 1000 - matrix / matrix.max()).max() <= 0.0005
    np.testing.assert_array_equal(by_rows.ready(np.rint(matrix * 100)), np.rint(matrix * 100))


@pytest.mark.parametrize("peer", installed(), ids=lambda peer: peer.name)
def test_peers_that_are_there_find_the_shortest_of_few(peer: Peer):
    matrix = Costs.of_points(np.random.default_rng(1).random((8, 2))).dense()
    tour = peer.solve(peer.ready(matrix))
    assert sorted(tour.tolist()) == list(range(8))
    length = matrix[tour, np.roll(tour, -1)].sum()
    assert length <= exact_tour(matrix)[1] * (1.05 if peer.name == "OR-tools, defaults" else 1.0001)

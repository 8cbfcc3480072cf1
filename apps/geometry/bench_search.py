"""`remem bench tsp-search`: the search beside the simple constructions, and what the bound proves."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable

import numpy as np

from ...data.files import data_root
from ...data.geometry.bound import certify
from ...data.geometry.construct import farthest_insertion, nearest_neighbour
from ...data.geometry.costs import Costs
from ...data.geometry.search import search
from ...data.geometry.tsplib import read_tsp

UNIFORM = {20: 100, 50: 50, 100: 50, 200: 20, 1000: 2}
"""Nodes of uniform instances, and instances per seed."""
LONG = 20
"""Times the default iterations in the row of the long search, which stands for the optimum where none is known."""

Solver = Callable[[Costs], float]


def tsp_search(*, seeds: int, root: str | None, quick: bool) -> list[dict[str, object]]:
    """Rows of solver and instances: mean gap in % to the optimum (TSPLIB) or to the best known, and CPU ms."""
    rows = []
    _table("", [Costs.of_points(np.random.default_rng(0).random((30, 2)))], None)  # compiles
    for n, number in UNIFORM.items():
        if quick and n > 50:
            break
        instances = [
            Costs.of_points(np.random.default_rng((seed, n, i)).random((n, 2)))
            for seed in range(1 if quick else seeds)
            for i in range(5 if quick else number)
        ]
        rows += _table(f"uniform {n}", instances, None)
    folder = data_root(root) / "tsplib"
    if (folder / "optimal_lengths.csv").is_file() and not quick:
        with (folder / "optimal_lengths.csv").open() as file:
            known = {row["name"]: float(row["optimal_length"]) for row in csv.DictReader(file)}
        instances = [Costs.of_problem(read_tsp(folder / f"{name}.tsp")) for name in known]
        rows += _table("TSPLIB", instances, np.array(list(known.values())))
    return rows


def _table(name: str, instances: list[Costs], best: np.ndarray | None) -> list[dict[str, object]]:
    solvers: dict[str, Solver] = {
        "nearest neighbour": lambda costs: costs.length(nearest_neighbour(costs)),
        "farthest insertion": lambda costs: costs.length(farthest_insertion(costs)),
        "construction, 2-opt, Or-opt": lambda costs: search(costs, iterations=0).length,
        "remem search": lambda costs: search(costs).length,
        f"remem search, {LONG}x": lambda costs: search(costs, iterations=LONG * 3 * len(costs)).length,
    }
    lengths, cpu_ms = {}, {}
    for solver, solve in solvers.items():
        since = time.process_time()
        lengths[solver] = np.array([solve(costs) for costs in instances])
        cpu_ms[solver] = 1e3 * (time.process_time() - since) / len(instances)
    known = np.min(list(lengths.values()), axis=0) if best is None else best
    since = time.process_time()
    sure = [certify(costs, length) for costs, length in zip(instances, lengths["remem search"], strict=True)]
    bound_ms = 1e3 * (time.process_time() - since) / len(instances)
    rows: list[dict[str, object]] = []
    for solver, found in lengths.items():
        row = {
            "instances": name,
            "solver": solver,
            "gap_pct": round(100 * float((found / known - 1).mean()), 3),
        }
        row |= {
            "cpu_ms": round(cpu_ms[solver], 2),
            "certified_gap_pct": None,
            "proved": None,
            "bound_cpu_ms": None,
        }
        if solver == "remem search":
            row["certified_gap_pct"] = round(100 * float(np.mean([one.gap for one in sure])), 3)
            row["proved"] = round(float(np.mean([one.proved_optimal for one in sure])), 3)
            row["bound_cpu_ms"] = round(bound_ms, 2)
        if name:
            print(row, file=sys.stderr)
        rows.append(row)
    return rows

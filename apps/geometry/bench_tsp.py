"""`remem bench tsp`: the network, the search and both, beside the controls, the constructions and other solvers.

Every figure of a set of instances is measured in one run on one thread; what several methods decode alike is decoded
once, and its time added to each. CPU time is of the whole way from points to a tour for ours, from a ready matrix of
whole numbers to a tour for the solvers of others. The control begins the same search at a random tour: what a network
adds to a search is the difference to that row, and to no other.

LKH and Concorde are better than anything here where they may be used; elkai's row appears where it is installed.
"""

from __future__ import annotations

import csv
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...data.files import data_root
from ...data.geometry.bound import certify
from ...data.geometry.construct import farthest_insertion, greedy, hilbert, nearest_neighbour
from ...data.geometry.costs import Costs
from ...data.geometry.search import search
from ...data.geometry.tsplib import Problem, read_tsp
from ...serving.bundle import open_bundle
from ...serving.geometry.decoder import Decoded, Task, TourDecoder
from ...serving.geometry.tours import solve
from .peers import Peer, installed
from .quoted_tours import quoted

TEST = 20_261_128
"""Seed of the instances: `default_rng((TEST, seed, n, i)).random((n, 2))`. No training draws from it."""
SIZES = (20, 50, 100)
PER_SEED = 40
"""Instances of each size for each seed; with the default of five seeds, 200."""
SMALL = 200
"""The network is shown the TSPLIB files below so many nodes; the search all of them."""
LONG = 60
"""Kicks per node, from two starts, of the search that stands for the optimum where none is known."""
SECONDS = 2.0
"""Of the row that shows what more time gives."""
PLOTS = Path("out")
"""Folder of the plots, `bench_tsp_<instances>.png`."""

NETWORK = ("greedy", "x8", "beam", "greedy+local", "x8+local", "beam+local", "greedy+search", "x8+search")


@dataclass(frozen=True)
class Solver:
    """kind: of row, e.g. "construction" or "network". solve: what is ready -> a tour (n,) of each problem.

    ready: problems -> what `solve` takes, not timed; the problems themselves where it is None. clock: CPU seconds.
    """

    name: str
    kind: str
    solve: Callable[[Sequence[Any]], Sequence[np.ndarray]]
    ready: Callable[[Sequence[Problem]], Sequence[Any]] | None = None
    clock: Callable[[], float] = time.process_time

    def timed(self, problems: Sequence[Problem]) -> tuple[np.ndarray, float]:
        """(B,) lengths of its tours, and CPU ms per problem."""
        given = self.ready(problems) if self.ready else problems
        since = self.clock()
        tours = self.solve(given)
        cpu_ms = 1e3 * (self.clock() - since) / len(problems)
        return np.array([p.length(tour) for p, tour in zip(problems, tours, strict=True)]), cpu_ms


def tsp(*, seeds: int = 5, root: str | None = None, quick: bool = False) -> list[dict[str, object]]:
    """Rows of instances and solver; plots of gap over CPU time go to `PLOTS`.

    Args:
        seeds: sets of `PER_SEED` instances of every size.
        root: folder of the real data, with `tsplib`.
        quick: three instances of 20 nodes and the smallest TSPLIB file.

    Returns:
        Rows `instances, solver, kind, number` (of instances)`, gap_pct` (mean, to the optimum or the best known),
        `worst_pct, optimal` (share of instances), `length` (mean), `cpu_ms` (of one thread, per instance), of the
        search also `certified_gap_pct, proved` (share), `bound_cpu_ms`; and papers' rows of kind "quoted" with their
        `source`.
    """
    solvers = [*_classical(), *_networks(), *_others()]
    rows: list[dict[str, object]] = []
    for solver in solvers:  # compiles, opens graphs, imports
        solver.timed([Problem("", np.random.default_rng(0).random((10, 2)), None, "euclidean")])
    for n in SIZES[:1] if quick else SIZES:
        problems = [
            Problem(
                f"{seed}/{i}", np.random.default_rng((TEST, seed, n, i)).random((n, 2)), None, "euclidean"
            )
            for seed in range(1 if quick else seeds)
            for i in range(3 if quick else PER_SEED)
        ]
        rows += _rows(f"uniform {n}", problems, solvers, None)
    rows += _tsplib(data_root(root) / "tsplib", solvers, quick)
    _plot(rows)
    return rows + quoted()


def _plot(rows: list[dict[str, object]]) -> None:
    """Gap over CPU time, a picture for each set of instances."""
    from .plots import plot_pareto  # noqa: PLC0415  (matplotlib takes a second to import)

    PLOTS.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(str(row["instances"]) for row in rows):
        path = PLOTS / f"bench_tsp_{re.sub('[^a-zA-Z0-9]+', '_', name)}.png"
        plot_pareto([row for row in rows if row["instances"] == name], title=name).savefig(path, dpi=130)
        print(f"plot in {path}", file=sys.stderr)


def _tsplib(folder: Path, solvers: list[Solver], quick: bool) -> list[dict[str, object]]:
    if not (folder / "optimal_lengths.csv").is_file():
        print(f"{folder}: no optimal_lengths.csv, so no rows of TSPLIB; set REMEM_DATA", file=sys.stderr)
        return []
    with (folder / "optimal_lengths.csv").open() as file:
        known = {row["name"]: float(row["optimal_length"]) for row in csv.DictReader(file)}
    problems = sorted((read_tsp(folder / f"{name}.tsp") for name in known), key=lambda problem: problem.n)
    small = [problem for problem in problems if problem.n < SMALL][: 1 if quick else None]
    rows = _rows(f"TSPLIB below {SMALL}", small, solvers, np.array([known[one.name] for one in small]))
    if quick:
        return rows
    longer = Solver(
        f"search, {SECONDS:g} s", "search", _each(lambda costs: search(costs, seconds=SECONDS).tour)
    )
    fast = [solver for solver in solvers if solver.kind not in ("network", "peer")]
    optima = np.array([known[one.name] for one in problems])
    return rows + _rows(f"TSPLIB, {len(problems)} files", problems, [*fast, longer], optima)


def _rows(
    name: str, problems: list[Problem], solvers: list[Solver], best: np.ndarray | None
) -> list[dict[str, object]]:
    """One for each solver. best: (B,) shortest lengths, where they are known."""
    found = {solver.name: solver.timed(problems) for solver in solvers}
    if best is None:
        best = np.min([_long(problems), *(lengths for lengths, _ in found.values())], axis=0)
    rows = []
    for solver in solvers:
        lengths, cpu_ms = found[solver.name]
        gap = lengths / best - 1
        row: dict[str, object] = {
            "instances": name,
            "solver": solver.name,
            "kind": solver.kind,
            "number": len(problems),
            "gap_pct": round(100 * float(gap.mean()), 4),
            "worst_pct": round(100 * float(gap.max()), 3),
            "optimal": round(float((gap < 1e-9).mean()), 3),
            "length": round(float(lengths.mean()), 4),
            "cpu_ms": round(cpu_ms, 3),
        }
        if solver.name == "search":
            row |= _certificate(problems, lengths)
        print(row, file=sys.stderr)
        rows.append(row)
    return rows


def _certificate(problems: list[Problem], lengths: np.ndarray) -> dict[str, object]:
    since = time.process_time()
    sure = [certify(Costs.of_problem(p), length) for p, length in zip(problems, lengths, strict=True)]
    return {
        "certified_gap_pct": round(100 * float(np.mean([one.gap for one in sure])), 3),
        "proved": round(float(np.mean([one.proved_optimal for one in sure])), 3),
        "bound_cpu_ms": round(1e3 * (time.process_time() - since) / len(problems), 2),
    }


def _long(problems: list[Problem]) -> np.ndarray:
    """(B,) lengths of a search much longer than any row."""
    return np.array(
        [
            min(search(costs, seed=seed, iterations=LONG * len(costs)).length for seed in (11, 12))
            for costs in map(Costs.of_problem, problems)
        ]
    )


def _each(solve: Callable[[Costs], np.ndarray]) -> Callable[[Sequence[Problem]], list[np.ndarray]]:
    return lambda problems: [solve(Costs.of_problem(problem)) for problem in problems]


def _classical() -> list[Solver]:
    """Constructions, the search, and the controls: the same from random tours."""

    def of_random(costs: Costs, starts: int, iterations: int | None) -> np.ndarray:
        rng = np.random.default_rng(0)
        found = [
            search(costs, tour=rng.permutation(len(costs)), iterations=iterations) for _ in range(starts)
        ]
        return min(found, key=lambda one: one.length).tour

    ways: dict[str, list[tuple[str, Callable[[Costs], np.ndarray]]]] = {
        "construction": [
            ("nearest neighbour", nearest_neighbour),
            ("cheapest edges first", greedy),
            ("farthest insertion", farthest_insertion),
        ],
        "search": [
            ("construction+local", lambda costs: search(costs, iterations=0).tour),
            ("search", lambda costs: search(costs).tour),
        ],
        "control": [
            ("random start+local", lambda costs: of_random(costs, 1, 0)),
            ("best of 8 random starts+local", lambda costs: of_random(costs, 8, 0)),
            ("random start+search", lambda costs: of_random(costs, 1, None)),
        ],
    }
    curve = Solver(
        "Hilbert curve", "construction", lambda problems: [hilbert(np.asarray(p.xy)) for p in problems]
    )
    return [curve, *(Solver(name, kind, _each(solve)) for kind, some in ways.items() for name, solve in some)]


class _Once(TourDecoder):
    """Decodes the same tasks once, and remembers what it took: `+local` and `+search` begin where others end."""

    def __init__(self, bundle: str) -> None:
        super().__init__(open_bundle(bundle), device="cpu", threads=1)
        self._known: dict[object, tuple[list[Decoded], float]] = {}
        self._spared = 0.0

    def decode(self, tasks: Sequence[Task], graph: str = "greedy.onnx") -> list[Decoded]:
        key = (graph, *((task.xy.tobytes(), task.head, task.tail) for task in tasks))
        if key in self._known:
            self._spared += self._known[key][1]
        else:
            since = time.process_time()
            self._known[key] = super().decode(tasks, graph), time.process_time() - since
        return self._known[key][0]

    def clock(self) -> float:
        """CPU seconds of this process, and those that decoding again would have taken."""
        return time.process_time() + self._spared


def _networks() -> list[Solver]:
    """None where no bundle is shipped."""
    try:
        decoder = _Once("tsp")
    except ValueError as error:
        print(f"no rows of the network: {error}", file=sys.stderr)
        return []

    def by(method: str) -> Solver:
        return Solver(
            method,
            "network",
            lambda problems: [one.tour for one in solve(problems, method, decoder, certify=False)],
            clock=decoder.clock,
        )

    return [by(method) for method in NETWORK]


def _others() -> list[Solver]:
    def by(peer: Peer) -> Solver:
        return Solver(
            peer.name,
            "peer",
            lambda matrices: [peer.solve(matrix) for matrix in matrices],
            lambda problems: [peer.ready(problem.distances()) for problem in problems],
        )

    peers = installed()
    if not peers:
        print(
            "no other solver is installed; pip install fast-tsp ortools pyvrp for their rows", file=sys.stderr
        )
    return [by(peer) for peer in peers]

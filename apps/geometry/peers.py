"""Solvers of other projects, each as one function from a matrix to a tour; none is a dependency.

`pip install fast-tsp ortools pyvrp` (MIT, Apache 2.0, MIT) makes their rows appear. elkai holds LKH, licensed for
academic and non-commercial use: it is run where you have it, and never asked for.

They want whole numbers, so distances are scaled up and rounded; what is told of a tour is its true length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import numpy as np

FINE = 1 << 24
"""Largest whole distance, where the solver puts no limit; 65,535 for fast-tsp."""


@dataclass(frozen=True)
class Peer:
    """name: with its settings. package: what must be installed. most: largest distance it takes.

    solve: (n, n) int64 symmetric distances -> (n,) nodes of a tour.
    """

    name: str
    package: str
    most: int
    solve: Callable[[np.ndarray], np.ndarray]

    def ready(self, matrix: np.ndarray) -> np.ndarray:
        """(n, n) int64: distances (n, n) as this solver takes them, unchanged where they are whole and small."""
        largest = float(matrix.max(initial=0.0))
        if largest <= self.most and bool((matrix == np.rint(matrix)).all()):
            return matrix.astype(np.int64)
        return np.rint(matrix * (self.most / largest)).astype(np.int64)


def installed() -> list[Peer]:
    """The peers that can be run here."""
    return [peer for peer in PEERS if find_spec(peer.package)]


def _fast_tsp(seconds: float) -> Callable[[np.ndarray], np.ndarray]:
    def solve(matrix: np.ndarray) -> np.ndarray:
        fast_tsp = import_module("fast_tsp")
        return np.array(fast_tsp.find_tour(matrix, duration_seconds=seconds))

    return solve


def _elkai(runs: int) -> Callable[[np.ndarray], np.ndarray]:
    def solve(matrix: np.ndarray) -> np.ndarray:
        elkai = import_module("elkai")
        return np.array(elkai.DistanceMatrix(matrix.tolist()).solve_tsp(runs=runs)[:-1])

    return solve


def _ortools(seconds: float | None) -> Callable[[np.ndarray], np.ndarray]:
    def solve(matrix: np.ndarray) -> np.ndarray:
        pywrapcp = import_module("ortools.constraint_solver.pywrapcp")
        enums = import_module("ortools.constraint_solver.routing_enums_pb2")
        n = len(matrix)
        manager = pywrapcp.RoutingIndexManager(n, 1, 0)
        routing = pywrapcp.RoutingModel(manager)
        routing.SetArcCostEvaluatorOfAllVehicles(routing.RegisterTransitMatrix(matrix.tolist()))
        parameters = pywrapcp.DefaultRoutingSearchParameters()
        parameters.first_solution_strategy = enums.FirstSolutionStrategy.PATH_CHEAPEST_ARC
        if seconds is not None:
            parameters.local_search_metaheuristic = enums.LocalSearchMetaheuristic.GUIDED_LOCAL_SEARCH
            parameters.time_limit.FromMilliseconds(int(1000 * seconds))
        found = routing.SolveWithParameters(parameters)
        tour, at = [], routing.Start(0)
        while not routing.IsEnd(at):
            tour.append(manager.IndexToNode(at))
            at = found.Value(routing.NextVar(at))
        return np.array(tour)

    return solve


def _pyvrp(seconds: float) -> Callable[[np.ndarray], np.ndarray]:
    def solve(matrix: np.ndarray) -> np.ndarray:
        pyvrp = import_module("pyvrp")
        data = pyvrp.ProblemData(
            [pyvrp.Location(0, 0) for _ in matrix],
            [pyvrp.Client(i) for i in range(1, len(matrix))],
            [pyvrp.Depot(0)],
            [pyvrp.VehicleType()],
            [matrix],
            [np.zeros_like(matrix)],
        )
        best = pyvrp.solve(data, pyvrp.stop.MaxRuntime(seconds), collect_stats=False).best
        return np.array([0, *(1 + visit.idx for visit in best.routes()[0] if visit.is_client())])

    return solve


PEERS = (  # imported by name where they are run: none of them need be there
    Peer("fast-tsp, 10 ms", "fast_tsp", 65_535, _fast_tsp(0.01)),
    Peer("fast-tsp, 50 ms", "fast_tsp", 65_535, _fast_tsp(0.05)),
    Peer("fast-tsp, 200 ms", "fast_tsp", 65_535, _fast_tsp(0.2)),
    Peer("OR-tools, defaults", "ortools", FINE, _ortools(None)),
    Peer("OR-tools, guided local search, 200 ms", "ortools", FINE, _ortools(0.2)),
    Peer("PyVRP, 200 ms", "pyvrp", FINE, _pyvrp(0.2)),
    Peer("elkai (LKH; non-commercial licence), 1 run", "elkai", FINE, _elkai(1)),
)
"""Limits are of wall time, the only one that most of them take; the table tells the CPU time that they got."""

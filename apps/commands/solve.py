"""`remem solve FILE`: a short tour by search, and a certificate of how far it can be from the shortest."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...data.geometry.tours import write_tour
from ...data.geometry.tsplib import Problem, read_tsp

SEARCHED = 0.8
"""Share of --seconds that the search may use; the rest is for the bound."""


def main(argv: Sequence[str]) -> int:
    """Solve one file and tell length, lower bound, gap and whether the tour is proved to be the shortest."""
    parser = argparse.ArgumentParser(
        prog="remem solve",
        description="A short tour through all places, or a path with --open: iterated local search, and the "
        "Held-Karp bound below which no tour goes. Needs neither torch nor a model.",
    )
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="FILE.tsp as in TSPLIB, or FILE.csv with columns x and y, or lat and lon in degrees (lengths in km)",
    )
    parser.add_argument("-o", "--out", type=Path, metavar="FILE.tour", help="write the tour here")
    parser.add_argument("--seconds", type=float, metavar="S", help="time limit; default: by number of places")
    parser.add_argument("--open", action="store_true", help="a path: do not come back to the first place")
    parser.add_argument("--start", type=int, metavar="I", help="first place, counted from 1")
    parser.add_argument("--end", type=int, metavar="J", help="last place of a path, counted from 1")
    parser.add_argument("--seed", type=int, default=0, help="of the kicks (default: 0)")
    parser.add_argument("--json", action="store_true", help="one JSON object, with the tour, counted from 1")
    options = parser.parse_args(argv)
    if options.file.suffix.lower() not in (".tsp", ".csv"):
        parser.error(f"{options.file}: end the name in .tsp or .csv")
    if options.seconds is not None and not 0 < options.seconds < math.inf:
        parser.error(f"--seconds {options.seconds:g}: give more than 0")
    if options.seed < 0:
        parser.error(f"--seed {options.seed}: give 0 or more")
    if options.end is not None and not options.open:
        parser.error("--end wants --open: a closed tour ends where it starts")

    problem = read_tsp(options.file) if options.file.suffix.lower() == ".tsp" else _read_csv(options.file)
    for note in problem.notes:
        print(f"{options.file}: {note}", file=sys.stderr)
    start, end = (_place(name, getattr(options, name), problem.n) for name in ("start", "end"))
    told, tour = _solve(problem, start, end, options)
    if options.out:
        write_tour(options.out, tour, f"{problem.name}.tour", f"length {told['length']:.15g}")
        print(f"tour in {options.out}", file=sys.stderr)
    if options.json:
        print(json.dumps(told | {"tour": (tour + 1).tolist()}))
        return 0
    shown = told | {"gap": "unknown" if told["gap"] is None else f"{told['gap']:.3%}"}
    shown["proved_optimal"] = "yes" if told["proved_optimal"] else "no"
    for name, value in shown.items():
        print(f"{name.replace('_', ' '):14} {f'{value:.10g}' if isinstance(value, float) else value}")
    return 0


def _solve(
    problem: Problem, start: int | None, end: int | None, options: argparse.Namespace
) -> tuple[dict[str, object], np.ndarray]:
    # numba costs half a second to import: not for --help
    from ...data.geometry.bound import certify  # noqa: PLC0415
    from ...data.geometry.costs import Costs  # noqa: PLC0415
    from ...data.geometry.search import search  # noqa: PLC0415

    began = time.perf_counter()
    costs, closed = Costs.of_problem(problem), not options.open
    limit = options.seconds and SEARCHED * options.seconds
    found = search(costs, closed=closed, start=start, end=end, seed=options.seed, seconds=limit)
    left = options.seconds and max(options.seconds - (time.perf_counter() - began), 0.0)
    sure = certify(costs, found.length, closed=closed, start=start, end=end, seconds=left)
    told: dict[str, object] = {
        "name": problem.name,
        "places": problem.n,
        "length": sure.length,
        "lower_bound": sure.lower_bound,
        "gap": sure.gap if math.isfinite(sure.gap) else None,
        "proved_optimal": sure.proved_optimal,
        "seconds": round(time.perf_counter() - began, 4),
    }
    return told, found.tour


def _place(name: str, given: int | None, n: int) -> int | None:
    if given is None:
        return None
    if not 1 <= given <= n:
        raise ValueError(f"--{name} is {given}; give a place from 1 to {n}")
    return given - 1


def _read_csv(path: Path) -> Problem:
    from ...data.geometry.tables import read_coordinates  # noqa: PLC0415  (polars; .tsp files do without)

    problems = read_coordinates(path)
    if len(problems) != 1:
        raise ValueError(
            f"{path}: holds {len(problems)} instances; wanted one, so give each a file of its own"
        )
    return problems[0]

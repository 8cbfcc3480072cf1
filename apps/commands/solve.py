"""`remem solve FILE`: a short tour, by search or by a network, and a certificate of how far from the shortest it can
be."""

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

SUFFIXES = (".tsp", ".csv", ".parquet", ".geojson", ".json")


def main(argv: Sequence[str]) -> int:
    """Solve one file and tell length, lower bound, gap and whether the tour is proved to be the shortest."""
    parser = argparse.ArgumentParser(
        prog="remem solve",
        description="A short tour through all places, or a path with --open: iterated local search, and the "
        "Held-Karp bound below which no tour goes. Needs neither torch nor, unless --method asks for it, a model.",
    )
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="FILE.tsp as in TSPLIB; FILE.csv or FILE.parquet with columns x and y, or lat and lon in degrees (lengths "
        "in km); FILE.geojson with points",
    )
    parser.add_argument(
        "-o", "--out", type=Path, metavar="OUT", help="write the tour here: TSPLIB's form, or OUT.geojson"
    )
    parser.add_argument(
        "--method",
        default="search",
        metavar="M",
        help="search, local, or by the network greedy, beam or x8, alone or with +local or +search (default: search)",
    )
    parser.add_argument("--bundle", default="tsp", help="the network's folder (default: the shipped one)")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the tour here (png, svg or pdf)")
    parser.add_argument("--seconds", type=float, metavar="S", help="time limit; default: by number of places")
    parser.add_argument("--open", action="store_true", help="a path: do not come back to the first place")
    parser.add_argument("--start", type=int, metavar="I", help="first place, counted from 1")
    parser.add_argument("--end", type=int, metavar="J", help="last place of a path, counted from 1")
    parser.add_argument("--seed", type=int, default=0, help="of the kicks (default: 0)")
    parser.add_argument("--json", action="store_true", help="one JSON object, with the tour, counted from 1")
    options = parser.parse_args(argv)
    if options.file.suffix.lower() not in SUFFIXES:
        parser.error(f"{options.file}: end the name in one of {', '.join(SUFFIXES)}")
    if options.plot and options.plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        parser.error(f"--plot {options.plot}: end the name in .png, .svg or .pdf")
    if options.seconds is not None and not 0 < options.seconds < math.inf:
        parser.error(f"--seconds {options.seconds:g}: give more than 0")
    if options.seed < 0:
        parser.error(f"--seed {options.seed}: give 0 or more")
    if options.end is not None and not options.open:
        parser.error("--end wants --open: a closed tour ends where it starts")

    problem = read_tsp(options.file) if options.file.suffix.lower() == ".tsp" else _read_table(options.file)
    for note in problem.notes:
        print(f"{options.file}: {note}", file=sys.stderr)
    start, end = (_place(name, getattr(options, name), problem.n) for name in ("start", "end"))
    told, tour = _solve(problem, start, end, options)
    if options.out:
        _write(options.out, problem, tour, told, closed=not options.open)
        print(f"tour in {options.out}", file=sys.stderr)
    if options.plot:
        _plot(options.plot, problem, tour, told, closed=not options.open)
        print(f"picture in {options.plot}", file=sys.stderr)
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
    from ...data.geometry.warm_up import warm_up  # noqa: PLC0415
    from ...serving.geometry.methods import Method  # noqa: PLC0415
    from ...serving.geometry.tours import TourPredictor, solve  # noqa: PLC0415

    warm_up(lambda text: print(text, file=sys.stderr))
    began = time.perf_counter()
    decodes = Method.named(options.method, "--method").graph is not None
    [found] = solve(
        [problem],
        options.method,
        TourPredictor(options.bundle).decoder if decodes else None,
        closed=not options.open,
        start=start,
        end=end,
        seconds=options.seconds,
        seed=options.seed,
    )
    told: dict[str, object] = {
        "name": problem.name,
        "places": problem.n,
        "length": found.length,
        "lower_bound": found.lower_bound,
        "gap": found.gap if found.gap is not None and math.isfinite(found.gap) else None,
        "proved_optimal": found.proved_optimal,
        "seconds": round(time.perf_counter() - began, 4),
    }
    return told, found.tour


def _write(path: Path, problem: Problem, tour: np.ndarray, told: dict[str, object], *, closed: bool) -> None:
    if path.suffix.lower() != ".geojson":
        write_tour(path, tour, f"{problem.name}.tour", f"length {told['length']:.15g}")
        return
    from ...data.geometry.geojson import write_geojson  # noqa: PLC0415

    if problem.kind != "haversine" or problem.xy is None:
        raise ValueError(f"{path}: GeoJSON wants latitude and longitude; end the name in .tour")
    places = problem.xy[np.append(tour, tour[:1]) if closed else tour]
    write_geojson(path, [(places, told | {"tour": (tour + 1).tolist()})])


def _plot(path: Path, problem: Problem, tour: np.ndarray, told: dict[str, object], *, closed: bool) -> None:
    from ..geometry.plots import plot_tour  # noqa: PLC0415  (matplotlib takes half a second)

    if problem.xy is None:
        raise ValueError(f"--plot {path}: {problem.name} has distances and no places; nothing to draw")
    sure = (
        "proved optimal"
        if told["proved_optimal"]
        else f"gap at most {told['gap']:.2%}"
        if told["gap"]
        else ""
    )
    title = f"{problem.name}: {told['length']:.10g}" + (f", {sure}" if sure else "")
    globe = problem.kind in ("haversine", "GEO")
    figure = plot_tour(problem.xy[:, :2], tour, closed=closed, title=title, globe=globe)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, bbox_inches="tight", pad_inches=0.15)


def _place(name: str, given: int | None, n: int) -> int | None:
    if given is None:
        return None
    if not 1 <= given <= n:
        raise ValueError(f"--{name} is {given}; give a place from 1 to {n}")
    return given - 1


def _read_table(path: Path) -> Problem:
    from ..geometry.files import read_instances  # noqa: PLC0415  (polars; .tsp files do without)

    problems = read_instances(path)
    if len(problems) != 1:
        raise ValueError(
            f"{path}: holds {len(problems)} instances; wanted one, so give each a file of its own, or take "
            "`remem predict tsp --method search`"
        )
    return problems[0]

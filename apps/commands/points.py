"""What `predict` and `evaluate` do with bundles of geometry: their options, answers and figures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from .inputs import open_problems
from .writing import flat, write

if TYPE_CHECKING:
    from ...data.geometry.tsplib import Problem
    from ...serving.bundle import Bundle

METHOD = "greedy+search"
"""Of tours, where none is asked for."""

_OWNERS = {name: "tsp" for name in ("method", "open", "start", "end", "seconds", "no_certificate", "plot")}
_OWNERS["flips"] = "delaunay"


def add_method(parser: argparse.ArgumentParser) -> None:
    """--method."""
    parser.add_argument(
        "--method",
        metavar="M",
        help="tours: greedy, beam or x8 (the best of 8 images), alone or with +local or +search behind it; local or "
        f"search alone do without the network (default: {METHOD})",
    )


def add_point_arguments(parser: argparse.ArgumentParser) -> None:
    """Of tours --method, --open, --start, --end, --seconds, --no-certificate; of triangulations --flips."""
    add_method(parser)
    parser.add_argument("--open", action="store_true", help="tours: paths, that do not come back")
    parser.add_argument("--start", type=int, metavar="I", help="tours: first point, counted from 0 as in OUT")
    parser.add_argument("--end", type=int, metavar="J", help="tours: last point of a path, counted from 0")
    parser.add_argument("--seconds", type=float, metavar="S", help="tours: limit of search and bound of each")
    parser.add_argument(
        "--no-certificate",
        action="store_true",
        help="tours: no lower bounds, which take longer than decoding",
    )
    parser.add_argument(
        "--flips", action="store_true", help="triangulations: flip edges until all are Delaunay"
    )


def refuse_options(parser: argparse.ArgumentParser, options: argparse.Namespace, bundle: Bundle) -> None:
    """Wrong usage, exit code 2, where an option belongs to bundles of another task."""
    task = bundle.task
    for name in ("method", "plot"):
        if bundle.kind == "routes" and getattr(options, name, None) is not None:
            parser.error(f"--{name} is for networks that decode; this bundle follows observed routes")
    for name, owner in _OWNERS.items():
        value = getattr(options, name, None)
        if value is not None and value is not False and task != owner:
            parser.error(
                f"--{name.replace('_', '-')} is for bundles of task '{owner}'; this one's is '{task}'"
            )


def predict_points(predictor: Any, options: argparse.Namespace) -> int:
    """Answers of all inputs, in their order, to OUT or stdout."""
    problems = open_problems(options)
    if predictor.bundle.task == "tsp":
        out = _tours(predictor, problems, options)
    else:
        out = _of_the_plane(predictor, problems, options)
    if options.out is None:
        sys.stdout.write(flat(out).write_csv())
        return 0
    if options.out.suffix == ".geojson":
        _write_map(options.out, out, problems, closed=not options.open)
    else:
        write(out, options.out)
    print(f"{out.height} answers in {options.out}", file=sys.stderr)
    return 0


def evaluate_points(predictor: Any, options: argparse.Namespace) -> tuple[str, list[dict[str, object]]]:
    """What the answers are compared with, and rows of figures; known answers are in INPUT, or beside it."""
    from ..geometry.evaluation import (  # noqa: PLC0415  (scipy costs others a third of a second)
        evaluate_hulls,
        evaluate_routes,
        evaluate_tours,
        evaluate_triangulations,
    )
    from ..geometry.files import read_instances, read_labels  # noqa: PLC0415

    column = predictor.bundle.manifest["output"][0]
    problems = open_problems(options)
    labels = []
    for path in options.inputs:
        own = read_instances(path, columns=options.columns)
        labels += read_labels(path, own, column, columns=options.columns)
    known = sum(label is not None for label in labels)
    if 0 < known < len(problems):
        print(f"{known} of {len(problems)} instances have a {column}: not used", file=sys.stderr)
    if predictor.bundle.kind == "routes":
        return evaluate_routes(predictor, problems, labels)
    if predictor.bundle.task == "tsp":
        return evaluate_tours(predictor, problems, labels, options.method or METHOD, options.plot)
    judge = evaluate_hulls if predictor.bundle.task == "hull" else evaluate_triangulations
    return judge(predictor, problems, labels)


def _tours(predictor: Any, problems: Sequence[Problem], options: argparse.Namespace) -> pl.DataFrame:
    from ...serving.geometry.tours import table  # noqa: PLC0415

    method = {} if predictor.bundle.kind == "routes" else {"method": options.method or METHOD}
    found = predictor.solve(
        problems,
        **method,
        closed=not options.open,
        start=options.start,
        end=options.end,
        seconds=options.seconds,
        certify=not options.no_certificate,
    )
    if not options.no_certificate:
        proved = sum(one.proved_optimal for one in found)
        print(f"{proved} of {len(found)} tours are proved to be the shortest", file=sys.stderr)
    return table(found)


def _of_the_plane(predictor: Any, problems: Sequence[Problem], options: argparse.Namespace) -> pl.DataFrame:
    from ...data.geometry.hull import polygon_area  # noqa: PLC0415
    from ..geometry.inputs import points_of  # noqa: PLC0415

    points = [problem.xy for problem in points_of(list(problems), "INPUT")[0]]
    if predictor.bundle.task == "delaunay":
        predictor.flips = options.flips
    answers = predictor.predict(points)
    columns = [pl.Series("instance", [problem.name for problem in problems], pl.String)]
    if predictor.bundle.task == "delaunay":
        columns.append(pl.Series("triangles", [t.ravel().tolist() for t in answers], pl.List(pl.Int64)))
    else:
        areas = [polygon_area(xy, hull) for xy, hull in zip(points, answers, strict=True)]
        columns.append(pl.Series("hull", [hull.tolist() for hull in answers], pl.List(pl.Int64)))
        columns.append(pl.Series("area", areas, pl.Float64))
    return pl.DataFrame(columns)


def _write_map(path: Path, out: pl.DataFrame, problems: Sequence[Problem], *, closed: bool) -> None:
    """Tours as lines of a GeoJSON file, lengths in km."""
    from ...data.geometry.geojson import write_geojson  # noqa: PLC0415

    if "tour" not in out.columns:
        raise ValueError(f"{path}: only tours are written as lines; end the name in .parquet or .csv")
    lines = []
    for problem, row in zip(problems, out.iter_rows(named=True), strict=True):
        if problem.kind != "haversine" or problem.xy is None:
            raise ValueError(
                f"{path}: instance {problem.name} is {problem.kind}; GeoJSON wants latitude and longitude: name the "
                "columns so (--columns), or end the name in .parquet or .csv"
            )
        tour = row.pop("tour")
        lines.append((problem.xy[[*tour, *tour[:1]] if closed else tour], {**row, "tour": tour}))
    write_geojson(path, lines)

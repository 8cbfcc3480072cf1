"""The geometry part of `remem demo`: points in, answers of the shipped bundles out, beside the classical ones."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl

from ...data.geometry.delaunay import delaunay_triangles, triangle_coverage
from ...data.geometry.hull import convex_hull, same_place
from ...data.geometry.instances import generate
from ...data.geometry.tsplib import Problem
from ...serving.geometry.hulls import HullPredictor
from ...serving.geometry.tours import TourPredictor
from ...serving.geometry.triangles import DelaunayPredictor
from ..report import Report
from .plots import plot_hull, plot_tours, plot_triangulation

PLACES = (("uniform", 50), ("clustered", 50), ("uniform", 100))
"""Kinds and sizes of what is solved."""
METHODS = ("local", "greedy", "x8", "x8+local", "search")


def showcase(out: Path) -> list[dict[str, object]]:
    """Solve a few instances with every method into the folder `out`; the rows of the comparison."""
    print("demo: geometry", file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    problems = [
        Problem(f"{kind} {n}", generate(kind, n, 100 + i), None, "euclidean")
        for i, (kind, n) in enumerate(PLACES)
    ]
    write_points(out / "places.parquet", problems)
    tours = TourPredictor("tsp", device="cpu")
    solved = {method: tours.solve(problems, method) for method in METHODS}
    best = [min(one.length for one in found) for found in zip(*solved.values(), strict=True)]
    rows: list[dict[str, object]] = [
        dict[str, object](method=method)
        | {one.name: f"{one.length / b - 1:+.2%}" for one, b in zip(found, best, strict=True)}
        for method, found in solved.items()
    ]
    page = Report("remem: tours, hulls and triangulations")
    page.add(
        "Tours",
        "Length beyond the best of all methods. The network (greedy, x8) has no search in it and is one ONNX graph; "
        "the search is classical and wins. Every answer has a lower bound: below it no tour can be.",
        rows=rows,
        figure=plot_tours(
            [
                (f"{one.name}, x8: {one.length:.3f}\nno tour below {one.lower_bound:.3f}", p.xy, one.tour)
                for one, p in zip(solved["x8"], problems, strict=True)
            ],
            others=[one.tour for one in solved["search"]],
        ),
    )
    xy = generate("uniform", 200, 7)
    [hull] = HullPredictor("hull", device="cpu").predict([xy])
    exact = "exact" if same_place(xy, hull, convex_hull(xy)) else "not exact"
    page.add("A convex hull", figure=plot_hull(xy, hull, truth=convex_hull(xy), title=f"200 points, {exact}"))
    [triangles] = DelaunayPredictor("delaunay", device="cpu").predict([xy])
    truth = delaunay_triangles(xy)
    covered = f"200 points, {triangle_coverage(triangles, truth):.1%} of the true triangles"
    page.add("A Delaunay triangulation", figure=plot_triangulation(xy, triangles, truth=truth, title=covered))
    page.write(out / "report.html")
    return rows


def write_points(path: Path, problems: list[Problem]) -> None:
    """A table `instance, n, x, y` of lists, as `remem predict` takes it."""
    places = [np.asarray(problem.xy) for problem in problems]
    pl.DataFrame(
        {
            "instance": [problem.name for problem in problems],
            "n": [len(xy) for xy in places],
            "x": [xy[:, 0].tolist() for xy in places],
            "y": [xy[:, 1].tolist() for xy in places],
        }
    ).write_parquet(path)

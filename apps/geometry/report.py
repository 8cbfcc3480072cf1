"""The page a geometry fit leaves: how it learned, how good it is, and some of its answers to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...data.geometry.costs import Costs
from ...data.geometry.delaunay import triangle_coverage
from ...data.geometry.hull import same_place
from ...serving.bundle import open_bundle
from ...serving.geometry.hulls import HullPredictor
from ...serving.geometry.tours import TourPredictor
from ...serving.geometry.triangles import DelaunayPredictor
from ..report import Report
from .data import GeometryData
from .plots import plot_hull, plot_tours, plot_triangulation

TITLES = {"tsp": "Tours", "hull": "Convex hulls", "delaunay": "Delaunay triangulations"}


def fit_report(
    bundle: Path,
    data: GeometryData,
    rows: Sequence[Mapping[str, object]],
    log: Sequence[Mapping[str, float]],
) -> Report:
    """Figures of the bundle, its learning curve, and an instance that was chosen on with its answer."""
    task = open_bundle(bundle).task
    page = Report(TITLES[task])
    page.add(
        "How good it is",
        f"Trained on {data.source}.",
        "A local frame, where the network sees the points in one, is an inductive bias: it holds no place, size or "
        "direction, so what is learned at one size is known at others.",
        rows=rows,
    )
    curve = _curve(log)
    if curve is not None:
        page.add("How it learned", figure=curve)
    if task != "delaunay" or "apex.onnx" in open_bundle(bundle).manifest["files"]:
        page.add("What it answers", figure=_answer(task, bundle, data))
    return page


def _curve(log: Sequence[Mapping[str, float]]) -> Figure | None:
    """Validation figures against CPU seconds; None where there are none."""
    names = sorted({name for row in log for name in row if name.startswith("val_")})
    if not names:
        return None
    figure = Figure(figsize=(7.5, 3.5), layout="constrained")
    axes = figure.subplots()
    for name in names:
        there = [row for row in log if name in row]
        axes.plot(
            [row["cpu_s"] for row in there],
            [row[name] for row in there],
            "o-",
            ms=3,
            label=name.removeprefix("val_"),
        )
    axes.set_xlabel("CPU seconds")
    axes.set_ylim(bottom=0)
    axes.grid(color="#d0d7de", lw=0.6)
    axes.legend(fontsize=8)
    return figure


def _answer(task: str, bundle: Path, data: GeometryData) -> Figure:
    n, pool = max(data.watched.items())
    xy, label = pool.x[0].astype(np.float64), pool.label[0][pool.label[0] >= 0]
    if task == "tsp":
        costs, tours = Costs.of_points(xy), []
        for method in ("greedy", "x8", "x8+local"):
            [tour] = TourPredictor(bundle, device="cpu").predict([xy], method)
            tours.append((f"{method}: {costs.length(tour) / costs.length(label) - 1:+.2%}", xy, tour))
        return plot_tours(tours, others=[label] * len(tours))
    if task == "hull":
        [hull] = HullPredictor(bundle, device="cpu").predict([xy])
        told = "exact" if same_place(xy, hull, label) else "not exact"
        return plot_hull(xy, hull, truth=label, title=f"{n} points, {told}")
    [triangles] = DelaunayPredictor(bundle, device="cpu").predict([xy])
    told = f"{triangle_coverage(triangles, label.reshape(-1, 3)):.1%} of the true triangles"
    return plot_triangulation(xy, triangles, truth=label.reshape(-1, 3), title=f"{n} points, {told}")

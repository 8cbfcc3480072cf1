"""What a bundle answers on instances that nothing was learned or chosen on, beside the simple ways to answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ...data.geometry.construct import farthest_insertion, nearest_neighbour
from ...data.geometry.costs import Costs
from ...data.geometry.delaunay import same_triangles, triangle_coverage
from ...data.geometry.hull import area_ratio, same_place
from ...data.geometry.search import search
from ...data.geometry.tables import read_coordinates
from ...serving.bundle import open_bundle
from ...serving.geometry.hulls import HullPredictor
from ...serving.geometry.tours import TourPredictor, table
from ...serving.geometry.triangles import DelaunayPredictor
from .data import GeometryData, Pool

METHODS = ("greedy", "x8", "x8+local")
REFERENCE = 20
"""Kicks for each node of the search against which tours are measured."""

Row = dict[str, object]


def judge(bundle: str | Path, data: GeometryData) -> list[Row]:
    """Rows of figures by size and model: on fresh uniform instances, or on those of your own that were kept."""
    opened = open_bundle(bundle)
    name = str(opened.manifest["training"].get("model", "model"))
    if opened.task == "delaunay" and "apex.onnx" not in opened.manifest["files"]:
        # answers written triangle by triangle have no predictor that mends them: torch's figures are all there are
        figures = opened.manifest["training"].get("metrics", {})
        chosen = {key.removeprefix("val_"): value for key, value in figures.items() if key.startswith("val_")}
        return [{"data": "chosen on", "model": name} | chosen]
    rows = _JUDGES[opened.task](bundle, data.judged)
    where = "kept of your own" if data.hparams.path else "fresh uniform"
    return [{"data": where} | row | ({} if "model" in row else {"model": name}) for row in rows]


def answers(bundle: str | Path, data: GeometryData) -> pl.DataFrame:
    """The bundle's answers for the instances of --data.path.

    Raises:
        ValueError: there is no path.
    """
    if data.hparams.path is None:
        raise ValueError("there is nothing to answer for; give --data.path FILE")
    paths = [data.hparams.path] if isinstance(data.hparams.path, str) else data.hparams.path
    problems = [p for path in paths for p in read_coordinates(path, columns=data.hparams.columns)]
    opened = open_bundle(bundle)
    if opened.task == "tsp":
        return table(TourPredictor(opened).solve(problems, "x8"))
    frame = pl.DataFrame(
        {
            "instance": [problem.name for problem in problems],
            "x": [problem.xy[:, 0].tolist() for problem in problems if problem.xy is not None],
            "y": [problem.xy[:, 1].tolist() for problem in problems if problem.xy is not None],
        }
    )
    predictor = HullPredictor(opened) if opened.task == "hull" else DelaunayPredictor(opened)
    return predictor.predict_frame(frame)


def _tours(bundle: str | Path, pools: dict[int, Pool]) -> list[Row]:
    predictor = TourPredictor(bundle, device="cpu", threads=1)
    rows: list[Row] = []
    for n, pool in pools.items():
        points = [xy.astype(np.float64) for xy in pool.x]
        costs = [Costs.of_points(xy) for xy in points]
        # the longer search may lose to any other: the best known of all is what lengths are measured by
        best = np.array([search(one, iterations=REFERENCE * n).length for one in costs])
        ways: dict[str, Callable[[], Sequence[np.ndarray]]] = {
            "nearest neighbour": lambda costs=costs: [nearest_neighbour(one) for one in costs],  # type: ignore[misc]
            "farthest insertion": lambda costs=costs: [farthest_insertion(one) for one in costs],  # type: ignore[misc]
        }
        for method in METHODS:
            ways[method] = lambda points=points, method=method: predictor.predict(points, method)  # type: ignore[misc]
        ways["search"] = lambda costs=costs: [search(one).tour for one in costs]  # type: ignore[misc]
        found = {name: _timed(way) for name, way in ways.items()}
        length = {
            name: np.array([one.length(tour) for one, tour in zip(costs, tours, strict=True)])
            for name, (tours, _) in found.items()
        }
        best = np.minimum(best, np.min(list(length.values()), axis=0))
        for name, (_, ms) in found.items():
            gap = float((length[name] / best - 1).mean())
            rows.append({"n": n, "model": name, "gap_%": 100 * gap, "cpu_ms": ms / len(points)})
    return rows


def _hulls(bundle: str | Path, pools: dict[int, Pool]) -> list[Row]:
    predictor = HullPredictor(bundle, device="cpu", threads=1)
    rows: list[Row] = []
    for n, pool in pools.items():
        found, ms = _timed(lambda pool=pool: predictor.answer(list(pool.x)))  # type: ignore[misc]
        truth = [label[label >= 0] for label in pool.label]
        three = list(zip(pool.x.astype(np.float64), (one.hull for one in found), truth, strict=True))
        rows.append(
            {
                "n": n,
                "exact_%": _percent(same_place(*one) for one in three),
                "area_%": 100 * float(np.mean([area_ratio(*one) for one in three])),
                "repaired_%": _percent(one.repaired for one in found),
                "cpu_ms": ms / len(found),
            }
        )
    return rows


def _triangulations(bundle: str | Path, pools: dict[int, Pool]) -> list[Row]:
    predictor = DelaunayPredictor(bundle, device="cpu", threads=1)
    rows: list[Row] = []
    for n, pool in pools.items():
        found, ms = _timed(lambda pool=pool: predictor.answer(list(pool.x)))  # type: ignore[misc]
        truth = [label[label >= 0].reshape(-1, 3) for label in pool.label]
        pairs = [(one.triangles, true) for one, true in zip(found, truth, strict=True)]
        rows.append(
            {
                "n": n,
                "exact_%": _percent(same_triangles(*pair) for pair in pairs),
                "coverage_%": 100 * float(np.mean([triangle_coverage(*pair) for pair in pairs])),
                "repaired_%": _percent(one.repaired for one in found),
                "cpu_ms": ms / len(found),
            }
        )
    return rows


_JUDGES: dict[str, Callable[[str | Path, dict[int, Pool]], list[Row]]] = {
    "tsp": _tours,
    "hull": _hulls,
    "delaunay": _triangulations,
}


def _timed(way: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the CPU ms it took."""
    began = time.process_time()
    found = way()
    return found, 1000 * (time.process_time() - began)


def _percent(hits: Iterable[bool]) -> float:
    return 100 * float(np.mean([bool(hit) for hit in hits]))

"""Pictures of tours, hulls, triangulations and of what methods cost. Every function returns a matplotlib Figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

_INK, _ACCENT, _LINE, _POINT = "#24292f", "#c2410c", "#0969da", "#57606a"
_GOOD, _PALE = "#1a7f37", "#d0d7de"
_MARKS, _COLOURS = "osX^Dv", (_LINE, _POINT, _ACCENT, "#8250df", _INK, _GOOD)
MOST_SHOWN = 12
"""Panels of one picture."""


def plot_tour(
    xy: Any,
    tour: Any,
    *,
    closed: bool = True,
    title: str = "",
    other: Any = None,
    globe: bool = False,
) -> Figure:
    """A tour through its points, the start marked.

    Args:
        xy: (n, 2) points; on the `globe` (latitude, longitude) in degrees.
        tour: (n,) nodes. closed: whether it comes back.
        title: above the picture, as "berlin52: 7542, proved optimal".
        other: a tour (n,) to compare with: its own edges are drawn pale, and the tour's own in another colour.
    """
    return plot_tours([(title, xy, tour)], closed=closed, others=[other], globe=globe)


def plot_tours(
    tours: Sequence[tuple[str, Any, Any]],
    *,
    closed: bool = True,
    others: Sequence[Any] | None = None,
    globe: bool = False,
) -> Figure:
    """Several tours side by side.

    Args:
        tours: title, points and nodes of each; the first `MOST_SHOWN` are drawn.
        closed, globe: as `plot_tour`. others: of each, a tour to compare with, or None.

    Raises:
        ValueError: no tours.
    """
    figure, panels = _panels(len(tours), "plot_tours")
    shown = zip(panels, tours, others or [None] * len(tours), strict=False)
    for axes, (title, xy, tour), other in shown:
        places = _places(xy, globe, axes)
        nodes = np.asarray(tour, np.int64)
        edges = _steps(nodes, closed)
        if other is not None:
            theirs = _steps(np.asarray(other, np.int64), closed)
            same = _among(edges, theirs)
            _draw(axes, places, theirs[~_among(theirs, edges)], _PALE, 3.0)
            _draw(axes, places, edges[same], _LINE, 1.3)
            _draw(axes, places, edges[~same], _ACCENT, 1.3)
        else:
            _draw(axes, places, edges, _LINE, 1.3)
        _dots(axes, places)
        if len(nodes):
            axes.plot(*places[nodes[0]], "o", ms=7, mfc="none", mec=_ACCENT, mew=1.6, zorder=4)
        axes.set_title(title, fontsize=10, color=_INK)
    return figure


def plot_hull(xy: Any, hull: Any, *, truth: Any = None, title: str = "") -> Figure:
    """A polygon round points (n, 2); with the true hull, edges that are not its own in another colour."""
    figure, (axes, *_) = _panels(1, "plot_hull")
    places = _places(xy, False, axes)
    corners = np.asarray(hull, np.int64)
    edges = _steps(corners, True)
    right = np.ones(len(edges), bool)
    if truth is not None:
        exact = _steps(np.asarray(truth, np.int64), True)
        right = _among(edges, exact)
        _draw(axes, places, exact[~_among(exact, edges)], _PALE, 3.0)
    axes.fill(*places[corners].T, color=_LINE, alpha=0.07, lw=0)
    _draw(axes, places, edges[right], _LINE, 1.5)
    _draw(axes, places, edges[~right], _ACCENT, 1.5)
    _dots(axes, places)
    axes.plot(*places[corners].T, "o", ms=5, color=_LINE, zorder=4)
    axes.set_title(title, fontsize=10, color=_INK)
    return figure


def plot_triangulation(xy: Any, triangles: Any, *, truth: Any = None, title: str = "") -> Figure:
    """Triangles (m, 3) of points (n, 2); with the true ones, edges that are not theirs in another colour, and what is
    missing pale."""
    figure, (axes, *_) = _panels(1, "plot_triangulation")
    places = _places(xy, False, axes)
    edges = _sides(triangles)
    right = np.ones(len(edges), bool)
    if truth is not None:
        exact = _sides(truth)
        right = _among(edges, exact)
        _draw(axes, places, exact[~_among(exact, edges)], _PALE, 3.0)
    _draw(axes, places, edges[right], _LINE, 1.0)
    _draw(axes, places, edges[~right], _ACCENT, 1.4)
    _dots(axes, places)
    axes.set_title(title, fontsize=10, color=_INK)
    return figure


def plot_gaps(gaps: Mapping[str, Sequence[float]], *, title: str = "") -> Figure:
    """How far each method's answers are from the best known: a dot for every instance, a bar at the mean.

    Args:
        gaps: by method, length / best - 1 of every instance.

    Raises:
        ValueError: no methods, or one without instances.
    """
    if not gaps or not all(len(values) for values in gaps.values()):
        raise ValueError(
            f"plot_gaps: got { ({k: len(v) for k, v in gaps.items()}) }; wanted some gaps of each method"
        )
    figure, axes = _axes(7.5, 1.2 + 0.38 * len(gaps))
    rng = np.random.default_rng(0)  # dots side by side, the same ones every time
    for row, values in enumerate(gaps.values()):
        x = np.asarray(values, float)
        axes.plot(x, row + rng.uniform(-0.24, 0.24, len(x)), "o", ms=3, color=_LINE, alpha=0.35, mew=0)
        axes.plot([x.mean()] * 2, [row - 0.34, row + 0.34], color=_ACCENT, lw=2.2)
        axes.annotate(
            f"{x.mean():.2%}",
            (1.01, row),
            xycoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=9,
            color=_ACCENT,
        )
    axes.set_yticks(range(len(gaps)), list(gaps))
    axes.set_ylim(len(gaps) - 0.5, -0.5)
    axes.set_xlim(min(0.0, *map(min, gaps.values())) - 0.002)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("gap to the best known; mean at the right")
    axes.grid(axis="x", color=_PALE, lw=0.6)
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=10, color=_INK)
    return figure


def plot_pareto(rows: Sequence[Mapping[str, Any]], *, title: str = "") -> Figure:
    """Mean gap against CPU time, both on log scales; a line joins what nothing else beats in both.

    Args:
        rows: `solver, gap_pct, cpu_ms` of each, as the benches give them, and `kind`, which chooses the mark; a gap of
            0 is drawn at the bottom.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("plot_pareto: got no rows; wanted solver, gap_pct and cpu_ms of at least one")
    cost = np.array([max(float(row["cpu_ms"]), 1e-3) for row in rows])
    gap = np.array([float(row["gap_pct"]) for row in rows])
    floor = 10 ** math.floor(math.log10(min(gap[gap > 0], default=0.01)))
    y = np.maximum(gap, floor)
    # in order of cost, and of two as fast the better first
    best = [i for i in np.lexsort((gap, cost)) if not ((cost <= cost[i]) & (gap < gap[i])).any()]
    figure, axes = _axes(9.0, 6.0)
    axes.step(cost[best], y[best], where="post", color=_GOOD, lw=1.2, alpha=0.6, zorder=1)
    kinds = list(dict.fromkeys(str(row.get("kind", "")) for row in rows))
    for kind, mark, colour in zip(kinds, cycle(_MARKS), cycle(_COLOURS)):
        own = [i for i, row in enumerate(rows) if str(row.get("kind", "")) == kind]
        axes.plot(cost[own], y[own], mark, ms=6, color=colour, zorder=2, label=kind)
    if len(kinds) > 1:
        axes.legend(fontsize=8.5, loc="upper right", frameon=False)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(cost.min() / 6, cost.max() * 12)  # room for the names
    axes.set_ylim(floor * 0.6, y.max() * 2)
    axes.set_xlabel("CPU ms of an instance")
    axes.set_ylabel("mean gap, %")
    axes.grid(color=_PALE, lw=0.6)
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=10, color=_INK)
    names = [f"{row['solver']} (0 %)" if gap[i] <= 0 else str(row["solver"]) for i, row in enumerate(rows)]
    _label(figure, axes, np.stack([cost, y], axis=1), names, {int(i) for i in best})
    return figure


def _label(figure: Figure, axes: Axes, at: np.ndarray, names: Sequence[str], bold: set[int]) -> None:
    """Names beside their marks (n, 2), each at the nearest place where it covers no mark and no other name."""
    figure.draw_without_rendering()
    spots = axes.transData.transform(at) * 72 / figure.dpi  # in points, as offsets are
    size = 8.0
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in spots]
    for i, name in enumerate(names):
        width = 0.58 * size * len(name)
        ring = [(dx, dy) for dy in (2, -9, 12, -19, 22, -29, 32, -39, 42) for dx in (7, -width - 7)]
        for dx, dy in ring:
            x, y = spots[i] + (dx, dy)
            box = (x, y - 1, x + width, y + size)
            if not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
                break
        taken.append(box)
        near = abs(dy) < 10
        axes.annotate(
            name,
            at[i],
            (dx, dy),
            textcoords="offset points",
            fontsize=size,
            color=_GOOD if i in bold else _POINT,
            arrowprops=None if near else {"arrowstyle": "-", "lw": 0.5, "color": _PALE, "shrinkB": 3},
        )


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _panels(number: int, place: str) -> tuple[Figure, list[Axes]]:
    if number < 1:
        raise ValueError(f"{place}: nothing to draw; wanted at least one")
    number = min(number, MOST_SHOWN)
    columns = min(number, 4)
    rows = -(-number // columns)
    side = 5.0 if number == 1 else 3.4
    figure = Figure(figsize=(side * columns, (side + 0.3) * rows), layout="constrained")
    panels = list(np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel())
    for axes in panels:
        axes.set_axis_off()
        axes.set_aspect("equal")
    return figure, panels[:number]


def _places(xy: Any, globe: bool, axes: Axes) -> np.ndarray:
    places = np.asarray(xy, np.float64)
    if not globe:
        return places
    middle = np.radians(places[:, 0].mean())
    axes.set_aspect(1 / max(math.cos(middle), 0.05))  # a degree of longitude is as wide as it is there
    return places[:, ::-1]


def _dots(axes: Axes, places: np.ndarray) -> None:
    size = 3.5 if len(places) <= 200 else 2.0
    axes.plot(*places.T, "o", ms=size, color=_INK, mew=0, zorder=3)


def _draw(axes: Axes, places: np.ndarray, edges: np.ndarray, colour: str, width: float) -> None:
    axes.add_collection(LineCollection(places[edges], colors=colour, linewidths=width, capstyle="round"))


def _steps(nodes: np.ndarray, closed: bool) -> np.ndarray:
    """(e, 2) edges of a tour or polygon."""
    edges = np.stack([nodes, np.roll(nodes, -1)], axis=1)
    return edges if closed else edges[:-1]


def _sides(triangles: Any) -> np.ndarray:
    corners = np.asarray(triangles, np.int64).reshape(-1, 3)
    both = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    return np.unique(np.sort(both, axis=1), axis=0)


def _among(edges: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(e,) whether each edge is among the others, in either direction."""
    there = set(map(tuple, np.sort(others, axis=1).tolist()))
    return np.array([tuple(edge) in there for edge in np.sort(edges, axis=1).tolist()], bool)

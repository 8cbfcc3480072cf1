"""Pictures of routes: several orders of the same places side by side, and the map of slowness that a fit has drawn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.figure import Figure

from ...core.route_cost import RouteCost

_INK, _ACCENT, _PALE = "#24292f", "#c2410c", "#d0d7de"


def routes_side_by_side(
    xy: np.ndarray,
    tours: Mapping[str, np.ndarray],
    *,
    observed: np.ndarray | None = None,
    closed: bool = True,
) -> Figure:
    """Routes through the same places, each with the steps that the observed one has not in another colour.

    Args:
        xy: (n, 2) places.
        tours: title -> (n,) order.
        observed: (n,) what was driven. None: the first of `tours`.

    Raises:
        ValueError: no tours.
    """
    if not tours:
        raise ValueError("routes_side_by_side: no tours; wanted at least one")
    truth = next(iter(tours.values())) if observed is None else observed
    known = _steps(truth, closed)
    figure = Figure(figsize=(4.2 * len(tours), 4.4), layout="constrained")
    every = figure.subplots(1, len(tours), squeeze=False)[0]
    for axes, (title, tour) in zip(every, tours.items(), strict=True):
        steps = _steps(tour, closed)
        for i, j in steps:
            shared = (i, j) in known or (j, i) in known
            axes.annotate(
                "",
                xy[j],
                xy[i],
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": _INK if shared else _ACCENT,
                    "lw": 1.2,
                    "shrinkA": 1,
                    "shrinkB": 2,
                },
            )
        axes.scatter(*xy.T, s=14, color=_INK, zorder=3)
        axes.scatter(*xy[tour[0]], s=70, marker="s", color=_INK, zorder=3)
        share = sum((i, j) in known or (j, i) in known for i, j in steps) / max(len(steps), 1)
        axes.set_title(f"{title}: {100 * share:.0f} % of the steps driven", fontsize=10)
        axes.set_aspect("equal")
        axes.tick_params(labelsize=7, colors=_INK)
        axes.spines[:].set_color(_PALE)
    return figure


def slowness_map(cost: RouteCost, *, cells: int = 100) -> Figure:
    """How much slower than the map says every place is, driven in each of the four directions of the sky.

    Args:
        cells: a side of the picture.
    """
    reach = 1.8 * float(cost.spread)
    x, y = (float(centre) + np.linspace(-reach, reach, cells) for centre in cost.centre)
    places = torch.tensor(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2), dtype=torch.float32)
    figure = Figure(figsize=(13, 3.4), layout="constrained")
    every = figure.subplots(1, 4)
    image = None
    for axes, (title, way) in zip(every, _WAYS.items(), strict=True):
        with torch.no_grad():
            slow = cost.slowness(places, torch.tensor([way]).expand(len(places), 2)).view(cells, cells)
        image = axes.imshow(
            slow.log2().numpy(),
            origin="lower",
            extent=(x[0], x[-1], y[0], y[-1]),
            cmap="RdYlBu_r",
            vmin=-2,
            vmax=2,
        )
        axes.set_title(f"driving {title}", fontsize=10)
        axes.tick_params(labelsize=7)
    if image is not None:
        figure.colorbar(image, ax=every, label="times as slow, in powers of two")
    return figure


_WAYS = {"east": (1.0, 0.0), "north": (0.0, 1.0), "west": (-1.0, 0.0), "south": (0.0, -1.0)}


def _steps(tour: np.ndarray, closed: bool) -> set[tuple[int, int]]:
    pairs = np.stack([tour, np.roll(tour, -1)], 1)[: None if closed else -1]
    return {(int(i), int(j)) for i, j in pairs}

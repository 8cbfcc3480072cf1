"""Routes as observed drivers would drive them: the learned cost by onnxruntime, the order by our own search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...data.geometry.directed import MAX_NODES, directed_search
from ...data.geometry.instances import check_points
from ..bundle import Bundle, open_bundle
from ..session import Device


class Routes(NamedTuple):
    """tours: (n,) int64 each. costs: of each, as learned: for comparing tours of the same places only."""

    tours: list[np.ndarray]
    costs: list[float]


class RoutePredictor:
    """From a bundle of task "tsp" and kind "routes".

    Args:
        bundle: a folder, or an opened bundle.
        device, threads: as `serving.session.open_session`.

    Raises:
        ValueError: the bundle is incomplete, changed, or of another task or kind.
    """

    def __init__(self, bundle: str | Path | Bundle, *, device: Device = "cpu", threads: int = 1) -> None:
        self.bundle = open_bundle(bundle)
        if (self.bundle.task, self.bundle.kind) != ("tsp", "routes"):
            raise ValueError(
                f"{self.bundle.path}: a bundle of task '{self.bundle.task}' and kind '{self.bundle.kind}'; wanted "
                "'tsp' and 'routes', as a fit on observed routes writes it"
            )
        self._session = self.bundle.session("cost.onnx", device=device, threads=threads)

    def cost(self, xy: Any) -> np.ndarray:
        """(n, n) float64 learned cost of going from the row's place to the column's, 0 on the diagonal.

        Args:
            xy: (n, 2) places in the coordinates that the routes had.

        Raises:
            ValueError: as `check_points`; more than `MAX_NODES` places.
        """
        places = check_points(xy, "RoutePredictor")
        if len(places) > MAX_NODES:
            raise ValueError(f"RoutePredictor: {len(places)} places; wanted at most {MAX_NODES} in a route")
        (cost_1NN,) = self._session.run(["cost"], {"xy": places[None].astype(np.float32)})
        cost = cost_1NN[0].astype(np.float64)
        np.fill_diagonal(cost, 0.0)
        return cost

    def predict(
        self,
        places: Sequence[Any],
        *,
        start: int | None = None,
        end: int | None = None,
        closed: bool = True,
        seed: int = 0,
    ) -> Routes:
        """A route through each (n, 2) of `places`, in the driver's direction.

        Args:
            start, end: the nodes where every route starts, and one that is not closed ends. None: node 0 of a closed
                route, the best of an open one.
            closed: whether routes come back to where they began.
            seed: of the search.

        Raises:
            ValueError: as `cost`; ends that are no nodes, or do not fit.
        """
        found = [
            directed_search(self.cost(xy), closed=closed, start=start, end=end, seed=seed) for xy in places
        ]
        return Routes([tour for tour, _ in found], [cost for _, cost in found])

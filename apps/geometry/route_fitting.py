"""From observed routes to a learned cost: checks, batches, the fit, what is known of it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from torch.utils.data import DataLoader, IterableDataset

from ...data.geometry.costs import Costs
from ...data.geometry.instances import check_points, check_tour
from ...data.geometry.routes import edge_agreement
from ...data.geometry.search import search
from ..module import Batch
from ..tracing.keep_best import KeepBest
from ..training import quiet
from .route_module import PADDING, RouteModule

FEWEST = 20
"""Routes that a fit takes, at least."""
FEWEST_PLACES = 4
"""Shorter routes have one tour, or one in either direction."""
BATCH = 16
STEPS = 1500
"""Steps of a fit where no number of epochs is given."""
MOST_WATCHED = 200
"""Routes that are chosen on, at most."""


def fit_routes(
    coords: Sequence[Any],
    tours: Sequence[Any],
    *,
    closed: bool = True,
    valid_share: float = 0.2,
    max_epochs: int | None = None,
    d_model: int = 64,
    seed: int = 0,
    verbose: bool = False,
) -> tuple[RouteModule, dict[str, Any]]:
    """Learn what observed routes cost their drivers.

    Args:
        coords: (n, 2) places of each route in a plane, all in one system of coordinates; n may differ.
        tours: (n,) the order in which they were driven.
        closed: whether the routes went back to where they began.
        valid_share: of the routes, kept to choose the best epoch on; never trained on.
        max_epochs: None: as many as make `STEPS` steps, 10 to 25.
        d_model: width of the network.
        seed: of everything drawn.
        verbose: whether progress is shown on stderr.

    Returns:
        The module, and its record: "training" with routes, epochs, CPU seconds and the edge agreement on the routes
        that were kept, and "baselines" with that of the shortest tours.

    Raises:
        ValueError: as many tours as coords are wanted, at least `FEWEST`; places that are no numbers; a tour that is no
            permutation; a share or a number out of its range.
    """
    routes = check_routes(coords, tours)
    if not 0 < valid_share < 1:
        raise ValueError(f"fit_routes: valid_share is {valid_share}; wanted more than 0 and less than 1")
    if max_epochs is not None and max_epochs < 1:
        raise ValueError(f"fit_routes: max_epochs is {max_epochs}; wanted 1 or more")
    began = time.process_time()
    order = np.random.default_rng(seed).permutation(len(routes))
    kept = max(1, round(valid_share * len(routes)))
    valid = [routes[i] for i in order[:kept]]
    train = [route for i in order[kept:] if len((route := routes[i])[1]) >= FEWEST_PLACES]
    if not train:
        raise ValueError(f"fit_routes: no route of {FEWEST_PLACES} places or more is left to learn from")
    if max_epochs is None:
        max_epochs = int(np.clip(STEPS * BATCH / len(train), 10, 25))
    quiet()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seed_everything(seed, verbose=False)
    module = RouteModule(d_model=d_model, closed=closed)
    module.cost.fit_units(
        torch.as_tensor(np.concatenate([xy for xy, _ in train]), dtype=torch.float32),
        float(np.mean([_step(xy, tour) for xy, tour in train])),
    )
    best = KeepBest("val_agreement", patience=max_epochs)
    trainer = Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=verbose,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
        callbacks=[best],
    )
    trainer.fit(module, datamodule=_RouteData(train, valid[:MOST_WATCHED], seed))
    module.eval()
    shortest = [shortest_tour(xy, closed) for xy, _ in valid]
    record = {
        "training": {
            "data": "observed routes",
            "routes": len(train),
            "valid_routes": len(valid),
            "closed": closed,
            "epochs": max_epochs,
            "seed": seed,
            "cpu_seconds": round(time.process_time() - began, 1),
            "valid_agreement": round(best.best, 4),
        },
        "baselines": {
            "shortest_tour_agreement": round(
                float(
                    np.mean(
                        [
                            edge_agreement(found, tour, closed=closed)
                            for found, (_, tour) in zip(shortest, valid, strict=True)
                        ]
                    )
                ),
                4,
            )
        },
    }
    module.record = record
    return module, record


def check_routes(coords: Sequence[Any], tours: Sequence[Any]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(n, 2) float64 places and (n,) int64 order of each route.

    Raises:
        ValueError: as `fit_routes`.
    """
    if len(coords) != len(tours):
        raise ValueError(
            f"fit_routes: {len(coords)} sets of places and {len(tours)} tours; wanted one for each"
        )
    if len(coords) < FEWEST:
        raise ValueError(
            f"fit_routes: got {len(coords)} routes; wanted {FEWEST} or more, better some hundred"
        )
    routes = []
    for i, (xy, tour) in enumerate(zip(coords, tours, strict=True)):
        places = check_points(xy, f"fit_routes: coords[{i}]")
        routes.append((places, check_tour(tour, len(places), f"fit_routes: tours[{i}]")))
    return routes


def shortest_tour(xy: np.ndarray, closed: bool = True) -> np.ndarray:
    """(n,) what a planner would drive who only knows the map."""
    return search(Costs.of_points(xy), closed=closed).tour


def _step(xy: np.ndarray, tour: np.ndarray) -> float:
    return float(np.hypot(*np.diff(xy[tour], axis=0).T).mean())


class _Batches(IterableDataset[Batch]):
    """Routes of about the same size a batch, drawn anew in every epoch where they are for training."""

    def __init__(self, routes: Sequence[tuple[np.ndarray, np.ndarray]], seed: int | None) -> None:
        self.routes = routes
        self.rng = None if seed is None else np.random.default_rng(seed)
        self.sizes = np.array([len(tour) for _, tour in routes])

    def __len__(self) -> int:
        return max(1, round(len(self.routes) / BATCH))

    def __iter__(self) -> Iterator[Batch]:
        jitter = 0.0 if self.rng is None else self.rng.random(len(self.routes)) * 3
        groups = np.array_split(np.argsort(self.sizes + jitter, kind="stable"), len(self))
        for k in range(len(groups)) if self.rng is None else self.rng.permutation(len(groups)):
            yield _batch([self.routes[i] for i in groups[k]])


def _batch(routes: Sequence[tuple[np.ndarray, np.ndarray]]) -> Batch:
    n = max(len(tour) for _, tour in routes)
    x_BN2 = np.zeros((len(routes), n, 2), np.float32)
    label_BN = np.full((len(routes), n), PADDING, np.int64)
    for row, (xy, tour) in enumerate(routes):
        x_BN2[row, : len(tour)], label_BN[row, : len(tour)] = xy, tour
    return {"x": torch.from_numpy(x_BN2), "label": torch.from_numpy(label_BN)}


class _RouteData(LightningDataModule):
    def __init__(
        self,
        train: Sequence[tuple[np.ndarray, np.ndarray]],
        valid: Sequence[tuple[np.ndarray, np.ndarray]],
        seed: int,
    ) -> None:
        super().__init__()
        self.train, self.valid = _Batches(train, seed), _Batches(valid, None)

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.train, batch_size=None)

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.valid, batch_size=None)

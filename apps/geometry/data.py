"""Instances with their answers as Lightning batches: made from a seed, or your own coordinates.

The answers are exact hulls and triangulations, and tours of our own search. They are made once, before training, and
kept in memory: a tour costs more than a training step on it, and one tour gives as many states as it has nodes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset

from ...data.geometry.costs import Costs
from ...data.geometry.delaunay import delaunay_triangles
from ...data.geometry.hull import convex_hull
from ...data.geometry.instances import KINDS, check_points, generate
from ...data.geometry.search import search
from ...data.geometry.tables import read_coordinates
from ..module import Batch

Task = Literal["tsp", "hull", "delaunay"]

VALID, TEST = 1, 2
"""Streams of instances beside that for training, 0: what is chosen on, and what only judges."""

JUDGED = 64
"""Fresh instances of each size, and instances of a batch that is only looked at."""
MOST_SIZES = 4
"""Sizes that are judged one by one; of more, the ends and the middle."""

TOLD = 2000
"""Instances between two words on how far labelling is."""


class Pool(NamedTuple):
    """Instances of one size and their answers: x (count, n, 2) float32, label (count, L) int64, -1 behind the end."""

    x: np.ndarray
    label: np.ndarray


class GeometryData(LightningDataModule):
    """Points and answers, one size a batch.

    Args:
        task: tsp, hull or delaunay.
        path: your own coordinates, files as `remem predict` takes them, instead of generated ones; a tenth of the
            instances is kept to choose on.
        columns: other names of their columns, old: new.
        kinds: kinds of generated instances and their shares, as in {uniform: 0.8, clustered: 0.2}.
        sizes: numbers of points n of generated instances; or [first, last] with `every`.
        every: all numbers from the first to the last of `sizes`.
        shares: share of the batches that each of `sizes` has; null: all the same.
        instances: generated for training, shared out as the batches are.
        batch_size: instances of a step.
        steps: steps of an epoch.
        curriculum: share of the training in which the larger sizes come in one after the other.
        valid_sizes: numbers of points of what is chosen on; null takes `sizes`.
        valid_instances: instances of each of them.
        seed: of instances and the order of batches.
    """

    def __init__(
        self,
        task: Task,
        path: str | list[str] | None = None,
        columns: dict[str, str] | None = None,
        kinds: dict[str, float] | None = None,
        sizes: list[int] | None = None,
        every: bool = False,
        shares: list[float] | None = None,
        instances: int = 10_000,
        batch_size: int = 64,
        steps: int = 200,
        curriculum: float = 0.0,
        valid_sizes: list[int] | None = None,
        valid_instances: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if task not in get_args(Task):
            raise ValueError(f"--data.task is {task!r}; wanted one of {', '.join(get_args(Task))}")
        self.kinds = kinds or {"uniform": 1.0}
        if unknown := sorted(set(self.kinds) - set(KINDS)):
            raise ValueError(f"--data.kinds: no kind {unknown[0]!r}; wanted some of {', '.join(KINDS)}")
        sizes = sizes or [20]
        if every:
            if len(sizes) != 2 or sizes[0] > sizes[1]:
                raise ValueError(f"--data.sizes is {sizes}; with --data.every, wanted [first, last]")
            sizes = list(range(sizes[0], sizes[1] + 1))
        if (
            min(sizes) < 3
            or min(batch_size, steps, instances, valid_instances) < 1
            or not 0 <= curriculum < 1
        ):
            raise ValueError(
                f"--data: sizes {sizes}, batch_size {batch_size}, steps {steps}, instances {instances}, "
                f"valid_instances {valid_instances}, curriculum {curriculum}; wanted sizes of 3 or more, counts of 1 "
                "or more, a curriculum of 0 <= share < 1"
            )
        weights = np.array(shares or [1.0] * len(sizes), float)
        if len(weights) != len(sizes) or (weights <= 0).any():
            raise ValueError(
                f"--data.shares is {shares}; wanted a positive share for each of {len(sizes)} sizes"
            )
        self.shares = dict(zip(sizes, weights / weights.sum(), strict=True))
        self.source = "generated " + " and ".join(f"{share:g} {kind}" for kind, share in self.kinds.items())
        self._training: dict[int, Pool] = {}
        self._watched: dict[int, Pool] = {}

    @property
    def watched(self) -> dict[int, Pool]:
        """By size, what is chosen on."""
        if not self._watched:
            self._make()
        return self._watched

    @property
    def training(self) -> dict[int, Pool]:
        """By size, what is trained on."""
        if not self._training:
            self._make()
        return self._training

    @cached_property
    def judged(self) -> dict[int, Pool]:
        """By size, fresh uniform instances, on which nothing is learned or chosen; of your own, those kept apart."""
        sizes = sorted(self.watched)
        if len(sizes) > MOST_SIZES:
            sizes = [sizes[0], sizes[len(sizes) // 2], sizes[-1]]
        return {n: self.watched[n] if self.hparams.path else self.fresh(n, JUDGED) for n in sizes}

    def fresh(self, n: int, count: int) -> Pool:
        """Uniform instances that only judge."""
        points = [
            generate("uniform", n, np.random.default_rng([self.hparams.seed, TEST, n, i]))
            for i in range(count)
        ]
        return labelled(self.hparams.task, points)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(_Batches(self), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return _looked_at(self.watched)

    def test_dataloader(self) -> DataLoader:
        return _looked_at(self.judged)

    def _make(self) -> None:
        hp = self.hparams
        if hp.path is not None:
            self._read()
            return
        for n, share in self.shares.items():
            self._training[n] = self._generated(n, max(1, round(hp.instances * share)), 0)
        for n in hp.valid_sizes or list(self.shares):
            self._watched[n] = self._generated(n, hp.valid_instances, VALID)

    def _generated(self, n: int, count: int, stream: int) -> Pool:
        names, weights = list(self.kinds), np.array(list(self.kinds.values()), float)
        points = []
        for i in range(count):
            rng = np.random.default_rng([self.hparams.seed, stream, n, i])
            points.append(generate(names[rng.choice(len(names), p=weights / weights.sum())], n, rng))
        return labelled(self.hparams.task, points)

    def _read(self) -> None:
        paths = [self.hparams.path] if isinstance(self.hparams.path, str) else self.hparams.path
        problems = [p for path in paths for p in read_coordinates(path, columns=self.hparams.columns)]
        points = [to_unit(check_points(problem.xy, problem.name)) for problem in problems]
        order = np.random.default_rng(self.hparams.seed).permutation(len(points))
        kept = max(1, len(points) // 10)
        for part, pools in ((order[kept:], self._training), (order[:kept], self._watched)):
            by_size: dict[int, list[np.ndarray]] = {}
            for i in part:
                if len(points[i]) >= 5:
                    by_size.setdefault(len(points[i]), []).append(points[i])
            pools.update({n: labelled(self.hparams.task, some) for n, some in sorted(by_size.items())})
        if not self._training or not self._watched:
            raise ValueError(
                f"--data.path {self.hparams.path}: {len(points)} instances; wanted several of 5 points or more, one to "
                "train on and one to choose on at least"
            )
        total = sum(len(pool.x) for pool in self._training.values())
        self.shares = {n: len(pool.x) / total for n, pool in self._training.items()}
        self.source = f"{', '.join(map(str, paths))}: {len(points)} instances"


class _Batches(IterableDataset):
    """The batches of an epoch, from the data's seed and the number of the epoch alone: a fit can go on where it was."""

    def __init__(self, data: GeometryData) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Batch]:
        data, hp = self.data, self.data.hparams
        epoch, epochs = data.trainer.current_epoch, data.trainer.max_epochs or 1
        rng = np.random.default_rng([hp.seed, 3, epoch])
        sizes, shares = np.array(list(data.training)), np.array([data.shares[n] for n in data.training])
        for step in range(hp.steps):
            done = (epoch + step / hp.steps) / epochs
            grown = done / hp.curriculum if hp.curriculum else 1.0
            there = np.arange(len(sizes)) <= grown * len(sizes)
            n = rng.choice(sizes[there], p=shares[there] / shares[there].sum())
            pool = data.training[int(n)]
            yield _batch(pool, rng.integers(len(pool.x), size=hp.batch_size))

    def __len__(self) -> int:
        return int(self.data.hparams.steps)


def labelled(task: str, points: list[np.ndarray]) -> Pool:
    """The answers of instances (n, 2) of one size."""
    labels: list[np.ndarray] = []
    for i, xy in enumerate(points):
        labels.append(_LABELS[task](xy))
        if (i + 1) % TOLD == 0:
            print(
                f"{task}: {i + 1} of {len(points)} instances of n = {len(xy)} have their answer",
                file=sys.stderr,
            )
    longest = max(map(len, labels))
    label = np.full((len(labels), longest), -1, np.int64)
    for i, answer in enumerate(labels):
        label[i, : len(answer)] = answer
    return Pool(np.stack(points).astype(np.float32), label)


def to_unit(xy: np.ndarray) -> np.ndarray:
    """(n, 2) moved and scaled into the unit square, both axes alike."""
    low, span = xy.min(0), float(np.ptp(xy, axis=0).max())
    return (xy - low) / (span or 1.0)


def _tour(xy: np.ndarray) -> np.ndarray:
    return search(Costs.of_points(xy)).tour


_LABELS: dict[str, Any] = {
    "tsp": _tour,
    "hull": convex_hull,
    "delaunay": lambda xy: delaunay_triangles(xy).ravel(),
}


def _looked_at(pools: dict[int, Pool]) -> DataLoader:
    """Every instance once."""
    batches = [
        _batch(pool, np.arange(at, min(at + JUDGED, len(pool.x))))
        for pool in pools.values()
        for at in range(0, len(pool.x), JUDGED)
    ]
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


def _batch(pool: Pool, rows: np.ndarray) -> Batch:
    return {"x": torch.from_numpy(pool.x[rows]), "label": torch.from_numpy(pool.label[rows])}

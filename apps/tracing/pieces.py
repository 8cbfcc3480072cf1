"""Batches for training and for looking: pieces of histories beside the features of each of their answers.

The features of an answer hold the student's whole past, so a history may be cut into pieces: only what the network
remembers by itself starts afresh with each piece.

Shape legend: n answers, S students, P pieces, B batch, T time, F columns of an answer, Z features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from ...data.tracing.answers import CORRECT, MINUTES
from ..module import Batch

POOL = 20
"""Batches among which pieces are sorted by length: little padding, and still a random order."""


@dataclass(frozen=True)
class Featured:
    """Answers and their features: x (n, F), z (n, Z), students one after the other from offsets (S + 1,)."""

    x: np.ndarray
    z: np.ndarray
    offsets: np.ndarray

    def pieces(self, length: int | None) -> np.ndarray:
        """(P, 2) first row and end of each piece of at most `length` answers; None leaves histories whole."""
        if length is None:
            bounds = np.stack([self.offsets[:-1], self.offsets[1:]], axis=1)
            return bounds[bounds[:, 1] > bounds[:, 0]]
        parts = []
        for start, stop in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            first = np.arange(start, stop, length)
            parts.append(np.stack([first, np.minimum(first + length, stop)], axis=1))
        return np.concatenate(parts)

    def batch(self, bounds: np.ndarray) -> Batch:
        """{"x" (B,T,F), "z" (B,T,Z), "mask" (B,T)} of these pieces, padded on the right."""
        steps = np.arange(int((bounds[:, 1] - bounds[:, 0]).max(initial=0)))
        at = bounds[:, :1] + steps
        mask = at < bounds[:, 1:]
        at = np.where(mask, at, 0)
        x, z = self.x[at], self.z[at]
        x[~mask] = 0
        x[..., [CORRECT, MINUTES]] = np.where(mask[..., None], x[..., [CORRECT, MINUTES]], np.nan)
        z[~mask] = 0
        return {"x": torch.from_numpy(x), "z": torch.from_numpy(z), "mask": torch.from_numpy(mask)}


class ByLength(Sampler[list[int]]):
    """Batches of pieces of similar length, in a new random order every epoch.

    Args:
        length: (P,) of each piece.
        batch_size: pieces of a batch.
        seed: of the order.
    """

    def __init__(self, length: np.ndarray, *, batch_size: int, seed: int) -> None:
        self.length, self.batch_size = length, batch_size
        self.random = np.random.default_rng(seed)

    def __len__(self) -> int:
        return math.ceil(len(self.length) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = self.random.permutation(len(self.length))
        pool = POOL * self.batch_size
        batches = []
        for start in range(0, len(order), pool):
            some = order[start : start + pool]
            some = some[np.argsort(self.length[some], kind="stable")]
            batches += [some[i : i + self.batch_size] for i in range(0, len(some), self.batch_size)]
        for i in self.random.permutation(len(batches)):
            yield batches[i].tolist()


def training_loader(rows: Featured, *, batch_size: int, length: int, seed: int) -> DataLoader:
    """Pieces of at most `length` answers in random batches."""
    bounds = rows.pieces(length)
    sampler = ByLength(bounds[:, 1] - bounds[:, 0], batch_size=batch_size, seed=seed)
    return DataLoader(
        range(len(bounds)),  # type: ignore[arg-type]
        batch_sampler=sampler,
        collate_fn=lambda index: rows.batch(bounds[index]),
    )


def whole_batches(rows: Featured, *, cells: int) -> list[tuple[np.ndarray, Batch]]:
    """Whole histories, short ones together: (row of each real answer, batch) with about `cells` answers each."""
    bounds = rows.pieces(None)
    bounds = bounds[np.argsort(bounds[:, 1] - bounds[:, 0], kind="stable")]
    out, start = [], 0
    while start < len(bounds):
        stop = start + 1
        while stop < len(bounds) and (stop + 1 - start) * (bounds[stop, 1] - bounds[stop, 0]) <= cells:
            stop += 1
        some = bounds[start:stop]
        place = np.concatenate([np.arange(first, end) for first, end in some])
        out.append((place, rows.batch(some)))
        start = stop
    return out

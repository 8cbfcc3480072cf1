"""Batches for training and for looking: pieces of histories beside the features of each of their answers.

The features of an answer hold the student's whole past, so a history may be cut into pieces: only what the network
remembers by itself starts afresh with each piece.

Shape legend: n answers, S students, P pieces, B batch, T time, F columns of an answer, Z features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from ...data.tracing.answers import CORRECT, MINUTES
from ..module import Batch

BLUR = 0.15
"""By how much of its own a piece's length is blurred before sorting: little padding, and still a random company."""


@dataclass(frozen=True)
class Featured:
    """Answers and their features: x (n, F), z (n, Z), students one after the other from offsets (S + 1,).

    row (n,): the row of the log that each answer came from.
    """

    x: np.ndarray
    z: np.ndarray
    offsets: np.ndarray
    row: np.ndarray

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
    """Batches of pieces of similar length, others in every epoch.

    Args:
        length: (P,) of each piece.
        cells: about how many answers a batch holds, padding included.
        seed: of the order.
    """

    def __init__(self, length: np.ndarray, *, cells: int, seed: int) -> None:
        self.length = length
        self.random = np.random.default_rng(seed)
        # how many pieces each batch takes is the same in every epoch: the length of an epoch is known
        self.bounds = [0]
        ordered = np.sort(length)
        while self.bounds[-1] < len(length):
            self.bounds.append(_cut(ordered, self.bounds[-1], cells))

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __iter__(self) -> Iterator[list[int]]:
        order = np.argsort(self.length * (1 + self.random.uniform(-BLUR, BLUR, len(self.length))))
        for i in self.random.permutation(len(self)):
            yield order[self.bounds[i] : self.bounds[i + 1]].tolist()


def training_loader(rows: Featured, *, cells: int, length: int, seed: int) -> DataLoader:
    """Pieces of at most `length` answers in random batches of about `cells` answers."""
    bounds = rows.pieces(length)
    sampler = ByLength(bounds[:, 1] - bounds[:, 0], cells=cells, seed=seed)
    return DataLoader(
        range(len(bounds)),  # type: ignore[arg-type]
        batch_sampler=sampler,
        collate_fn=lambda index: rows.batch(bounds[index]),
    )


def whole_batches(rows: Featured, *, cells: int) -> list[tuple[np.ndarray, Batch]]:
    """Whole histories, short ones together: (row of each real answer, batch) with about `cells` answers each."""
    bounds = rows.pieces(None)
    length = bounds[:, 1] - bounds[:, 0]
    bounds, length = bounds[np.argsort(length, kind="stable")], np.sort(length)
    out, start = [], 0
    while start < len(bounds):
        stop = _cut(length, start, cells)
        some = bounds[start:stop]
        out.append((np.concatenate([np.arange(first, end) for first, end in some]), rows.batch(some)))
        start = stop
    return out


def _cut(rising: np.ndarray, start: int, cells: int) -> int:
    """End of a batch that begins at `start`: as many pieces of these lengths, the last the longest, as `cells` hold."""
    padded = np.arange(1, len(rising) - start + 1) * rising[start:]
    return start + max(int(np.searchsorted(padded, cells, side="right")), 1)

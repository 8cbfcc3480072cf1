"""Sequences of unequal length as one padded batch: the shape in which every app hands data to a model.

Shape legend: N sequences, T longest length, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Sequences:
    """N sequences, right-padded to the longest.

    ids: (N,) names of the sequences (cells, students, instances).
    x: (N, T, F) float32; NaN where a value is missing inside a sequence, 0 in the padding.
    mask: (N, T) bool, True on real steps.
    position: (N, T) int64, the step's own number (cycle, answer); gaps are allowed, order is not.
    names: F feature names, in the order of the last axis.
    y: (N, T) or (N,) float32 target, or None where there are no labels.
    groups: (N,) what must stay on one side of a split, where several sequences come from one cell or student; each
        sequence is its own group where it is None.
    """

    ids: tuple[str, ...]
    x: np.ndarray
    mask: np.ndarray
    position: np.ndarray
    names: tuple[str, ...]
    y: np.ndarray | None = None
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        n, t, f = self.x.shape
        if self.mask.shape != (n, t) or self.position.shape != (n, t):
            raise ValueError(
                f"Sequences: x is {self.x.shape}, so mask and position must be {(n, t)}; "
                f"got {self.mask.shape} and {self.position.shape}"
            )
        if len(self.names) != f or len(self.ids) != n:
            raise ValueError(
                f"Sequences: x is {self.x.shape}; got {len(self.ids)} ids and {len(self.names)} feature names"
            )
        if self.y is not None and self.y.shape not in ((n,), (n, t)):
            raise ValueError(f"Sequences: y must be {(n,)} or {(n, t)}; got {self.y.shape}")
        if self.groups is not None and len(self.groups) != n:
            raise ValueError(f"Sequences: {n} sequences want as many groups; got {len(self.groups)}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) number of real steps of each sequence."""
        return self.mask.sum(axis=1)

    def take(self, index: np.ndarray | list[int]) -> Sequences:
        """The sequences at `index` (integers), padding trimmed to their own longest."""
        index = np.asarray(index, dtype=np.int64)
        t = int(self.lengths[index].max(initial=0))
        y = self.y
        if y is not None:
            y = y[index] if y.ndim == 1 else y[index, :t]
        return Sequences(
            tuple(self.ids[i] for i in index),
            self.x[index, :t],
            self.mask[index, :t],
            self.position[index, :t],
            self.names,
            y,
            None if self.groups is None else tuple(self.groups[i] for i in index),
        )


def pad_sequences(
    frame: pl.DataFrame, *, by: str, position: str, features: list[str], target: str | None = None
) -> Sequences:
    """Group a long table into `Sequences`.

    Args:
        frame: one row per sequence and step, sorted by `position` inside each sequence.
        by: column that names the sequence; sequences keep their order of first appearance.
        position: integer column, strictly increasing inside a sequence.
        features: numeric columns, in the order of the last axis of `x`. Nulls become NaN.
        target: numeric column of per-step labels, if any.

    Raises:
        ValueError: where a column is missing, the table is empty or `position` does not increase.
    """
    wanted = [by, position, *features] + ([target] if target else [])
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise ValueError(f"table lacks columns {missing}; it has {frame.columns}")
    if frame.height == 0:
        raise ValueError("table has no rows; nothing to make sequences from")
    parts = frame.partition_by(by, maintain_order=True)
    lengths = [part.height for part in parts]
    n, t, f = len(parts), max(lengths), len(features)
    x = np.zeros((n, t, f), np.float32)
    mask = np.zeros((n, t), bool)
    steps = np.zeros((n, t), np.int64)
    y = np.zeros((n, t), np.float32) if target else None
    for i, part in enumerate(parts):
        at = part[position].to_numpy()
        if (np.diff(at) <= 0).any():
            bad = int(np.flatnonzero(np.diff(at) <= 0)[0])
            raise ValueError(
                f"{by} {part[by][0]}: {position} goes from {at[bad]} to {at[bad + 1]}; sort the table by "
                f"{by} and {position} and drop repeated rows"
            )
        k = part.height
        columns = [part[name].cast(pl.Float32).fill_null(float("nan")).to_numpy() for name in features]
        x[i, :k] = np.stack(columns, axis=-1)
        mask[i, :k] = True
        steps[i, :k] = at
        if y is not None and target is not None:
            y[i, :k] = part[target].cast(pl.Float32).fill_null(float("nan")).to_numpy()
    return Sequences(tuple(str(part[by][0]) for part in parts), x, mask, steps, tuple(features), y)

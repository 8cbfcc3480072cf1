"""From padded sequences to Lightning batches, the same way in every app."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import DataLoader

from ..data.windows import Sequences
from .module import Batch


def to_batch(sequences: Sequences) -> Batch:
    """{"x" (B,T,F), "mask" (B,T), "position" (B,T), "y" (B,) or (B,T)}; y is NaN where there is no label."""
    y = np.full(len(sequences), np.nan, np.float32) if sequences.y is None else sequences.y
    return {
        "x": torch.from_numpy(np.ascontiguousarray(sequences.x)),
        "mask": torch.from_numpy(np.ascontiguousarray(sequences.mask)),
        "position": torch.from_numpy(np.ascontiguousarray(sequences.position)),
        "y": torch.from_numpy(np.ascontiguousarray(y)),
    }


def sequence_loader(
    sequences: Sequences, *, batch_size: int, shuffle: bool = False, seed: int = 0
) -> DataLoader:
    """Batches of whole sequences, padded no further than the longest of the batch."""

    def collate(index: list[int]) -> Batch:
        return to_batch(sequences.take(index))

    return DataLoader(
        range(len(sequences)),  # type: ignore[arg-type]
        batch_size=batch_size,
        shuffle=shuffle,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(seed),
    )

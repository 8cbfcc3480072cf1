"""Honest forecasts of training cells: every cell judged by a network that was trained without it."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Trainer

from ...data.split import group_folds
from ...data.windows import Sequences
from ..module import TaskModule


def cross_fit(
    module: TaskModule,
    initial: dict[str, Any],
    sequences: Sequences,
    *,
    folds: int,
    seed: int,
    trainer: Trainer,
) -> Iterator[tuple[Sequences, TaskModule]]:
    """Train a copy of `module` from its `initial` weights without each fold in turn.

    Args:
        module: offers `prepare(sequences)` and `loader(sequences, seed)`.
        initial: state dict from before training, so that no copy has seen the cells it is asked about.
        trainer: the one that trained `module`; copies are trained as long as it was allowed to.

    Yields:
        (cells left out, the network trained without them), fold by fold.
    """
    folds = min(folds, len(sequences))
    for k, (train, held) in enumerate(group_folds(sequences.ids, folds, seed=seed)):
        print(f"calibration: fold {k + 1} of {folds}", file=sys.stderr)
        twin = copy.deepcopy(module)
        twin.load_state_dict(initial)
        twin.train()
        kept = sequences.take(train)
        twin.prepare(kept)
        fold_trainer = Trainer(
            max_epochs=trainer.max_epochs,
            max_steps=trainer.max_steps,
            gradient_clip_val=trainer.gradient_clip_val,
            accelerator="cpu" if module.device.type == "cpu" else "auto",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        torch.manual_seed(seed + k)
        fold_trainer.fit(twin, twin.loader(kept, seed=seed + k))
        yield sequences.take(held), twin.cpu().eval()

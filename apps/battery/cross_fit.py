"""Honest forecasts of training cells: every cell judged by a network that was trained without it."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Trainer

from ...core.calibration import ConformalInterval
from ...data.split import group_folds
from ...data.windows import Sequences
from ..module import TaskModule
from .judge import LATE, Verdict


class LeftOut(NamedTuple):
    """Forecasts of one fold by a network that had not seen it. All arrays (n,), in cycles."""

    cell: np.ndarray
    cycle: np.ndarray
    truth: np.ndarray
    point: np.ndarray


def silent_trainer(
    *,
    max_epochs: int | None,
    max_steps: int = -1,
    gradient_clip_val: float | None = None,
    accelerator: str = "cpu",
) -> Trainer:
    """A trainer for one fit among many: it validates nothing, says nothing and leaves nothing behind."""
    return Trainer(
        max_epochs=max_epochs,
        max_steps=max_steps,
        gradient_clip_val=gradient_clip_val,
        accelerator=accelerator,
        devices=1,
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def cross_fit(
    module: TaskModule,
    initial: dict[str, Any],
    sequences: Sequences,
    *,
    cells: Sequence[str],
    folds: int,
    seed: int,
    trainer: Trainer,
) -> Iterator[tuple[Sequences, TaskModule]]:
    """Train a copy of `module` from its `initial` weights without each fold in turn.

    Args:
        module: offers `prepare(sequences)` and `loader(sequences, seed)`, both of encoded sequences.
        initial: state dict from before training, so that no copy has seen the cells it is asked about.
        cells: those that are left out in turn, because their life is known; the others are always trained on.
        trainer: the one that trained `module`; copies are trained as long as it was allowed to.

    Yields:
        (cells left out, the network trained without them), fold by fold.
    """
    group_of = np.array(sequences.groups or sequences.ids)
    folds = min(folds, len(cells))
    for k, (_, left_out) in enumerate(group_folds(cells, folds, seed=seed)):
        held = np.isin(group_of, np.asarray(cells)[left_out])
        print(f"calibration: fold {k + 1} of {folds}", file=sys.stderr)
        twin = copy.deepcopy(module)
        twin.load_state_dict(initial)
        twin.train()
        kept = sequences.take(np.flatnonzero(~held))
        twin.prepare(kept)
        again = silent_trainer(
            max_epochs=trainer.max_epochs,
            max_steps=trainer.max_steps,
            gradient_clip_val=trainer.gradient_clip_val,
            accelerator="cpu" if module.device.type == "cpu" else "auto",
        )
        torch.manual_seed(seed + k)
        again.fit(twin, twin.loader(kept, seed=seed + k))
        yield sequences.take(np.flatnonzero(held)), twin.cpu().eval()


def not_late(parts: Sequence[LeftOut]) -> np.ndarray:
    """(n,) which forecasts of remaining life are made in the share `LATE` of a life that is judged."""
    return np.concatenate([part.cycle <= LATE * (part.cycle + part.truth) for part in parts])


def calibrated(
    calibration: ConformalInterval, parts: Sequence[LeftOut], *, judged: np.ndarray | None = None
) -> Verdict:
    """Fit `calibration` on all forecasts of cells left out, and judge them with intervals fitted on the other folds.

    Args:
        judged: (n,) which of the forecasts are judged, all where it is None; calibration takes all.
    """
    every = LeftOut(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    fold = np.repeat(np.arange(len(parts)), [len(part.cell) for part in parts])
    log_point, truth = torch.from_numpy(np.log(every.point)), torch.from_numpy(every.truth)
    bounds = np.empty((len(fold), 3))
    for k in range(len(parts)):
        own = torch.from_numpy(fold == k)
        calibration.fit(log_point[~own], truth[~own])
        bounds[fold == k] = calibration(log_point[own, None]).numpy()
    calibration.fit(log_point, truth)
    keep = np.ones(len(fold), bool) if judged is None else judged
    columns = (every.cell, every.cycle, every.truth, every.point, bounds[:, 1], bounds[:, 2])
    return Verdict(f"{len(parts)} folds of training cells, left out", *(column[keep] for column in columns))

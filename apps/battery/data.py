"""Battery cells as Lightning batches: a table of features per cell, or one padded sequence per cell."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from ...data.battery.early import EarlyFeatures, early_features
from ...data.battery.early_sequence import early_sequences
from ...data.battery.online import Labels, floors, online_sequences
from ...data.battery.raised import raised_lives
from ...data.split import group_folds
from ...data.windows import Sequences
from ..datamodule import sequence_loader
from ..module import Batch, TaskModule
from .gaussian import INPUTS
from .sets import Cells, load_cells

View = Literal["table", "sequence"]


class BatteryData(LightningDataModule):
    """Cells for one task, split by cell.

    Args:
        task: "early" (cycle life from the first cycles) or "online" (remaining life after every cycle).
        set: severson (early), hust, xjtu or tongji (online), or generated; null is severson or hust.
        view: "table" hands over features of whole cells, "sequence" one step per cycle. Online is always a sequence.
        root: folder of the real sets; null looks at REMEM_DATA and the download cache, then generates cells.
        path: your own training cells (one or more files) instead of a named set.
        test_path: your own cells to judge the result on, instead of the set's.
        max_cycle: early: last cycle that may be looked at, 5..100.
        nominal_capacity_ah: capacity of a new cell; null takes that of the named set.
        eol_fraction: share of it at which a life ends.
        raised: online: by how much of the nominal capacity the end of life is raised to learn from more lives.
        valid_fold: fold of training cells (of n_folds) kept for `validate`; null trains on all, since every fit
            also leaves cells out in turn to calibrate its interval.
        n_folds: number of folds by cell.
        batch_size: cells per step.
        seed: of the folds, the generated cells and the order of batches.
    """

    def __init__(
        self,
        task: Literal["early", "online"] = "early",
        set: str | None = None,
        view: View = "table",
        root: str | None = None,
        path: str | list[str] | None = None,
        test_path: str | list[str] | None = None,
        max_cycle: int = 100,
        nominal_capacity_ah: float | None = None,
        eol_fraction: float = 0.8,
        raised: Sequence[float] = (0.0, 0.05, 0.1),
        valid_fold: int | None = None,
        n_folds: int = 5,
        batch_size: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if task == "online" and view == "table":
            raise ValueError("--data.task online takes --data.view sequence: one step per cycle")
        if valid_fold is not None and not 0 <= valid_fold < n_folds:
            raise ValueError(
                f"--data.valid_fold is {valid_fold}; with --data.n_folds {n_folds} take 0..{n_folds - 1}"
            )

    @cached_property
    def cells(self) -> Cells:
        """The tables, read on first use."""
        hp = self.hparams
        cells = load_cells(
            hp.task,
            name=hp.set,
            root=hp.root,
            paths=_several(hp.path),
            test_paths=_several(hp.test_path),
            nominal_capacity_ah=hp.nominal_capacity_ah,
            eol_fraction=hp.eol_fraction,
            seed=hp.seed,
        )
        print(f"data: {cells.source}", file=sys.stderr)
        return cells

    def fold_of_cells(self) -> tuple[list[str], list[str]]:
        """Training cells, and those kept for validation and calibration."""
        names = self.cells.train["cell_id"].unique(maintain_order=True).to_list()
        if self.hparams.valid_fold is None:
            return names, []
        folds = list(group_folds(names, self.hparams.n_folds, seed=self.hparams.seed))
        train, held = folds[self.hparams.valid_fold]
        return [names[i] for i in train], [names[i] for i in held]

    def sequences(self, frame: pl.DataFrame) -> Sequences:
        """The task's sequences of a table, with labels where the table has them."""
        if self.hparams.task == "early":
            return early_sequences(frame, max_cycle=self.hparams.max_cycle)
        return online_sequences(frame)

    def labelled_cells(self) -> list[str]:
        """Training cells whose life is known: online those that reach their end of life, early all."""
        names, ends = self.fold_of_cells()[0], self.cells.ends
        if ends is None:
            return names
        known = ends.filter(pl.col("eol_cycle").is_not_null())["cell_id"].to_list()
        return [name for name in names if name in set(known)]

    def frame_of(self, names: Sequence[str]) -> pl.DataFrame:
        """Rows of these training cells."""
        return self.cells.train.filter(pl.col("cell_id").is_in(list(names)))

    @cached_property
    def train_features(self) -> EarlyFeatures:
        """Early features of the training cells, made on first use."""
        return early_features(self.frame_of(self.fold_of_cells()[0]), max_cycle=self.hparams.max_cycle)

    def floors(self) -> dict[str, dict[str, object]]:
        """The simple forecasts that stand beside the model in every table, fitted on the training cells."""
        names = self.fold_of_cells()[0]
        if self.cells.ends is not None:
            return floors(
                Labels(self.frame_of(names), self.cells.ends.filter(pl.col("cell_id").is_in(names)))
            )
        cells = self.train_features
        life = np.log10(cells.lives)
        slope, intercept = np.polyfit(cells.columns(("dq_log_var",))[:, 0], life, 1)
        weights = {"features": ["dq_log_var"], "weights": [float(slope)], "intercept": float(intercept)}
        return {
            "mean log life": {"kind": "constant", "value": float(10 ** life.mean())},
            "variance model": {"kind": "log10_linear", **weights},
        }

    def train_sequences(self) -> Sequences:
        """Sequences of the training cells; online, once for each raised level of the end of life."""
        frame = self.frame_of(self.fold_of_cells()[0])
        if self.hparams.task == "early":
            return self.sequences(frame)
        lives = raised_lives(
            frame,
            nominal_capacity_ah=self.cells.nominal_capacity_ah,
            eol_fraction=self.hparams.eol_fraction,
            levels=self.hparams.raised,
        )
        names = lives.select("cell_id", "source").unique(maintain_order=True)
        return replace(self.sequences(lives), groups=tuple(names["source"].to_list()))

    def encode_for(self, network: TaskModule) -> None:
        """Turn the training cells into what this network learns from, once, and let it fit what has a closed form."""
        self.training = network.encode(self.train_sequences())
        network.prepare(self.training)

    def train_dataloader(self) -> DataLoader:
        if self.hparams.view == "table":
            return _whole(_table(self.train_features))
        # how a network wants its cells cut and batched is its own business
        return self.trainer.lightning_module.loader(self.training, seed=self.hparams.seed)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        _, held = self.fold_of_cells()
        return self._loader(self.frame_of(held)) if held else []

    def test_dataloader(self) -> list[DataLoader]:
        if not self.cells.tests:
            raise ValueError("there are no test cells; give some with --data.test_path FILE")
        return [self._loader(frame) for frame in self.cells.tests.values()]

    def predict_dataloader(self) -> list[DataLoader]:
        return self.test_dataloader()

    def _loader(self, frame: pl.DataFrame) -> DataLoader:
        if self.hparams.view == "table":
            return _whole(_table(early_features(frame, max_cycle=self.hparams.max_cycle)))
        return sequence_loader(self.sequences(frame), batch_size=self.hparams.batch_size)


def _table(cells: EarlyFeatures) -> Batch:
    return {"x": torch.from_numpy(cells.columns(INPUTS)), "y": torch.from_numpy(cells.lives)}


def _whole(batch: Batch) -> DataLoader:
    """One batch that is everything: a closed-form fit sees all cells at once."""
    return DataLoader([batch], batch_size=None)  # type: ignore[arg-type]


def _several(paths: str | list[str] | None) -> list[str]:
    return [paths] if isinstance(paths, str) else list(paths or [])

"""Battery cells as Lightning batches: a table of features per cell, or one padded sequence per cell."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from ...data.battery.early_sequence import early_sequences
from ...data.split import group_folds
from ...data.windows import Sequences
from ..datamodule import sequence_loader
from .sets import Cells, load_cells

View = Literal["table", "sequence"]


class BatteryData(LightningDataModule):
    """Cells for one task, split by cell.

    Args:
        task: "early" (cycle life from the first cycles) or "online" (remaining life after every cycle).
        set: severson (early), hust, xjtu or tongji (online); null takes the task's own default.
        view: "table" hands over features of whole cells, "sequence" one step per cycle. Online is always a sequence.
        root: folder of the real sets; null looks at REMEM_DATA and the download cache, then generates cells.
        path: your own training cells (one or more files) instead of a named set.
        test_path: your own cells to judge the result on.
        max_cycle: early: cycles that may be looked at, 5..100.
        valid_fold: fold of training cells (of n_folds) kept for validation and calibration.
        n_folds: number of folds by cell.
        batch_size: cells per step.
        seed: of the folds, the generated cells and the order of batches.
    """

    def __init__(
        self,
        task: Literal["early", "online"] = "early",
        set: str | None = None,  # noqa: A002  (the word users type)
        view: View = "table",
        root: str | None = None,
        path: Sequence[str] = (),
        test_path: Sequence[str] = (),
        max_cycle: int = 100,
        valid_fold: int = 0,
        n_folds: int = 5,
        batch_size: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.task, self.view, self.max_cycle = task, view, max_cycle
        self._cells: Cells | None = None

    @property
    def cells(self) -> Cells:
        """The tables, read on first use."""
        if self._cells is None:
            hp = self.hparams
            self._cells = load_cells(
                hp.task, name=hp.set, root=hp.root, paths=hp.path, test_paths=hp.test_path, seed=hp.seed
            )
            print(f"data: {self._cells.source}", file=sys.stderr)
        return self._cells

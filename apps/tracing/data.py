"""Logs of answers as Lightning batches: who is trained on, who is chosen on, who only judges."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cached_property

import polars as pl
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from ...data.tracing.findings import Findings
from ...data.tracing.opening import open_log
from ..module import TaskModule
from .pieces import Featured, training_loader, whole_batches
from .sets import Splits, load_log, read_folds, refuse_shared, split_by_fold

CELLS = 8_192
"""Answers of one batch that is only looked at."""
STEPS = 40
"""Training steps that an epoch has at least, but where batches would be tiny."""


class TracingData(LightningDataModule):
    """Students for training, for choosing and calibrating, and for judging; never one student in two of these.

    Args:
        set: assistments2009, assistments2015, assistments2017, synthetic5 or simulated; null is the first.
        root: folder of the real sets; null looks at REMEM_DATA and the download cache, then simulates students.
        path: your own log (one or more files of any known format) instead of a named set.
        columns: other names of its columns, old: new.
        valid_path: your own log to choose and calibrate on; null takes students of `path` by fold.
        test_path: your own log to judge the result on.
        train_folds: folds to train on, as in 0,2,3,4. A log without a column `fold` has folds 0..4 by a hash of the
            student's id.
        valid_folds: folds to choose and calibrate on.
        test_folds: folds to judge the result on.
        batch_cells: answers of a training step, padding included; null takes a fortieth of the training answers,
            but 256 to 4096.
        chunk: most answers of a piece; what a network remembers by itself starts afresh with each piece, the
            per-concept memory does not.
        seed: of simulated students, the hash and the order of batches.
    """

    def __init__(
        self,
        set: str | None = None,
        root: str | None = None,
        path: str | list[str] | None = None,
        columns: dict[str, str] | None = None,
        valid_path: str | list[str] | None = None,
        test_path: str | list[str] | None = None,
        train_folds: str | int | list[int] = "0,2,3,4",
        valid_folds: str | int | list[int] = "1",
        test_folds: str | int | list[int] | None = None,
        batch_cells: int | None = None,
        chunk: int = 200,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self._training: Featured | None = None
        self._watched: Featured | None = None
        if valid_path is not None and path is None:
            raise ValueError("--data.valid_path goes with --data.path: a named set is split by fold")
        if valid_path is not None and read_folds(test_folds):
            raise ValueError(
                f"--data.test_folds {test_folds} goes without --data.valid_path, with which all of --data.path is "
                "trained on; give --data.test_path FILE"
            )
        if (batch_cells is not None and batch_cells < 1) or chunk < 2:
            raise ValueError(
                f"--data.batch_cells is {batch_cells}, --data.chunk {chunk}; wanted at least 1 and 2"
            )

    @cached_property
    def splits(self) -> Splits:
        """The logs, read on first use."""
        hp = self.hparams
        answered = load_log(
            name=hp.set, root=hp.root, paths=several(hp.path), columns=hp.columns, seed=hp.seed
        )
        _tell(f"data: {answered.source}", answered.report)
        tests = {file: self._other_log([file]) for file in several(hp.test_path)}
        if hp.valid_path is None:
            splits = split_by_fold(
                answered,
                train=read_folds(hp.train_folds),
                valid=read_folds(hp.valid_folds),
                test=read_folds(hp.test_folds),
                seed=hp.seed,
            )
            refuse_shared({"training": splits.train, "validation": splits.valid} | tests)
            return replace(splits, tests=dict(splits.tests) | tests)
        valid = self._other_log(several(hp.valid_path))
        refuse_shared({"--data.path": answered.frame, "--data.valid_path": valid} | tests)
        return Splits(
            answered.frame, valid, tests, answered.source, f"chosen on {', '.join(several(hp.valid_path))}"
        )

    def _other_log(self, files: list[str]) -> pl.DataFrame:
        """The log in files beside that which is trained on."""
        log = open_log(files, columns=self.hparams.columns)
        _tell(f"data: {', '.join(files)}, {log.frame.height} answers", log.report)
        return log.frame

    @property
    def valid_label(self) -> str:
        """What the students that are chosen on are called in tables."""
        hp = self.hparams
        if hp.valid_path is not None:
            return "validation"
        return f"fold {', '.join(map(str, read_folds(hp.valid_folds)))}"

    def encode_for(self, network: TaskModule) -> None:
        """Turn the logs into what this network learns from, once: features out of fold, then those of validation."""
        self._training = network.prepare(self.splits.train, seed=self.hparams.seed)
        self._watched = network.featured(self.splits.valid)

    @property
    def training(self) -> Featured:
        """The answers that are trained on; see `encode_for`."""
        if self._training is None:
            raise ValueError("the answers to train on are not encoded yet: call encode_for(network)")
        return self._training

    @property
    def watched(self) -> Featured:
        """The answers that are chosen on; see `encode_for`."""
        if self._watched is None:  # a checkpoint is judged: its vocabulary came with it
            self._watched = self.trainer.lightning_module.featured(self.splits.valid)
        return self._watched

    def train_dataloader(self) -> DataLoader:
        hp = self.hparams
        cells = hp.batch_cells or min(max(len(self.training.x) // STEPS, 256), 4096)
        return training_loader(self.training, cells=cells, length=hp.chunk, seed=hp.seed)

    def val_dataloader(self) -> DataLoader:
        return _looked_at(self.watched)

    def test_dataloader(self) -> list[DataLoader]:
        return [_looked_at(self.trainer.lightning_module.featured(frame)) for frame in self.judged()]

    def predict_dataloader(self) -> list[DataLoader]:
        return self.test_dataloader()

    def judged(self) -> list[pl.DataFrame]:
        """The logs that only judge.

        Raises:
            ValueError: there are none.
        """
        if not self.splits.tests:
            raise ValueError(
                "there are no students to judge on; give --data.test_folds 3 or --data.test_path FILE"
            )
        return list(self.splits.tests.values())


def _tell(source: str, report: Findings) -> None:
    """Where a log comes from, and what reading it repaired or merged, for people."""
    print("\n".join([source, *([str(report)] if len(report) else [])]), file=sys.stderr)


def _looked_at(rows: Featured) -> DataLoader:
    return DataLoader([batch for _, batch in whole_batches(rows, cells=CELLS)], batch_size=None)  # type: ignore[arg-type]


def several(paths: str | list[str] | None) -> list[str]:
    """None, one path or many, as a list."""
    return [paths] if isinstance(paths, str) else list(paths or [])

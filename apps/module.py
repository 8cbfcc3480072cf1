"""The one training step of every app, and the door from a checkpoint to a bundle.

A task module owns its model, its loss and its metrics; Lightning owns the loop; a bundle is what production gets.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

Batch = dict[str, Tensor]

_RECORD = "remem"  # key of the training record inside a checkpoint


class TaskModule(LightningModule):
    """Base of the apps' Lightning modules: subclasses give `loss`, `metrics` and `write_bundle`.

    `record` holds plain numbers and strings that the bundle's manifest needs and the weights do not hold (data,
    split, seeds, metrics, simple baselines). It travels inside the checkpoint, so a bundle can be made from it later.
    """

    def __init__(self) -> None:
        super().__init__()
        self.record: dict[str, Any] = {}

    @property
    @abstractmethod
    def title(self) -> str:
        """The model's name in tables."""

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Scalar training loss of one batch."""

    @abstractmethod
    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """Scalar validation figures of one batch."""

    @abstractmethod
    def write_bundle(self, folder: Path) -> None:
        """Export graphs and manifest into `folder`; parity with torch is checked before a file appears."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        loss = self.loss(batch)
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch["x"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._log_metrics(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._log_metrics(batch, "test")

    def _log_metrics(self, batch: Batch, stage: str) -> None:
        figures = {f"{stage}_{name}": value for name, value in self.metrics(batch).items()}
        self.log_dict(figures, prog_bar=True, batch_size=len(batch["x"]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[_RECORD] = self.record

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.record = checkpoint.get(_RECORD, {})


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint written by `remem ... fit` holds; only plain data is read, nothing is unpickled.

    Raises:
        ValueError: where the file is missing, or is no checkpoint of a `fit` command.
    """
    target = Path(path)
    if not target.is_file():
        raise ValueError(f"{target}: no such checkpoint; `remem APP fit --out DIR` writes DIR/model.ckpt")
    try:
        content = torch.load(target, map_location="cpu", weights_only=True)
        content["hyper_parameters"]["_class_path"]
    except Exception as error:
        raise ValueError(f"{target}: not a checkpoint of a `fit` command ({error})") from error
    return dict(content)


def load_checkpoint(path: str | Path) -> TaskModule:
    """The module of a checkpoint, ready to forecast.

    Raises:
        ValueError: as `read_checkpoint`; or where the module's class is not imported.
    """
    target = Path(path)
    name = read_checkpoint(target)["hyper_parameters"]["_class_path"]
    known = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in TaskModule.__subclasses__()}
    if name not in known:
        raise ValueError(
            f"{target}: made by {name}, which is not among {sorted(known)}; import that module first"
        )
    module = known[name].load_from_checkpoint(str(target), map_location="cpu", weights_only=True)
    return module.eval()


def export_checkpoint(checkpoint: str | Path, out: str | Path) -> Path:
    """Turn a checkpoint into a bundle folder and return it.

    Raises:
        ValueError: as `load_checkpoint`; or where a graph does not reproduce torch's numbers.
    """
    folder = Path(out)
    with torch.no_grad():
        load_checkpoint(checkpoint).write_bundle(folder)
    return folder

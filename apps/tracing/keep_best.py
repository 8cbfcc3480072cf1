"""Early stopping that ends with the best weights: they are kept in memory, no file is written."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class KeepBest(Callback):
    """Stops where a validation figure has not risen for some epochs, and gives the best weights back.

    Its memory travels in checkpoints, so a fit that goes on from one stops where it would have stopped.

    Args:
        monitor: name of the logged figure, higher is better.
        patience: epochs without a better figure before the fit stops.
    """

    def __init__(self, monitor: str = "val_auc", patience: int = 2) -> None:
        self.monitor, self.patience = monitor, patience
        self.best, self.waited = float("-inf"), 0
        self.weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        figure = float(trainer.callback_metrics[self.monitor])
        if figure > self.best or not self.weights:  # the first weights are kept even where the figure is NaN
            self.best, self.waited = float("-inf") if math.isnan(figure) else figure, 0
            self.weights = {name: value.detach().clone() for name, value in pl_module.state_dict().items()}
            return
        self.waited += 1
        if self.waited >= self.patience:
            trainer.should_stop = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.weights:
            pl_module.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.waited = state_dict["best"], state_dict["waited"]
        self.weights = state_dict["weights"]

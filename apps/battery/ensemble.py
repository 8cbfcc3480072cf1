"""The default early model under Lightning: a closed-form ensemble whose one training step is the fit itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.battery.metrics import life_metrics
from ..module import Batch, TaskModule
from .bundle import Contract, write_battery_bundle
from .data import BatteryData
from .gaussian import INPUTS, EarlyEnsemble
from .judge import Verdict


class EnsembleModule(TaskModule):
    """Cycle life from one row of features per cell, as `EarlyEnsemble`.

    One batch holds all training cells and one epoch is all there is: scikit-learn finds the numbers, torch buffers
    keep them, so checkpoint, validation, test and export work as for any network.

    Args:
        max_cycle: last cycle that may be looked at, 5..100.
        confidence: of the interval.
        nominal_capacity_ah, eol_fraction: end of life, for the cap on cells that already fade.
    """

    def __init__(
        self,
        max_cycle: int = 100,
        confidence: float = 0.9,
        nominal_capacity_ah: float = 1.1,
        eol_fraction: float = 0.8,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.model = EarlyEnsemble()
        self.register_buffer("example", torch.zeros(0, len(INPUTS)))

    @property
    def title(self) -> str:
        return "ensemble"

    def configure_optimizers(self) -> None:
        """None: nothing is descended."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, y = (batch[name].double().cpu().numpy() for name in ("x", "y"))
        self.model = EarlyEnsemble.fit(
            x,
            y,
            INPUTS,
            confidence=self.hparams.confidence,
            eol_ah=self.hparams.nominal_capacity_ah * self.hparams.eol_fraction,
        )
        self.example = batch["x"][:8].float()

    def calibrate(self, data: BatteryData) -> Verdict:
        """The fit left every cell out in turn and calibrated itself; those forecasts are the honest ones."""
        batch = next(iter(data.train_dataloader()))
        cell = np.array(data.fold_of_cells()[0])
        cycle = batch["x"][:, INPUTS.index("last_cycle")].numpy()
        point = self.model.left_out(batch["x"]).numpy()
        return Verdict("training cells, left out", cell, cycle, batch["y"].numpy(), point, None, None)

    def loss(self, batch: Batch) -> Tensor:
        point_B = self(batch["x"])[:, 0]
        return (point_B.log() - batch["y"].log()).abs().mean()

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        y_B3 = self(batch["x"]).double().cpu().numpy()
        figures = life_metrics(batch["y"].double().cpu().numpy(), *np.moveaxis(y_B3, -1, 0))
        return {name: torch.tensor(value) for name, value in figures.items() if name != "n"}

    def forward(self, x_BF: Tensor) -> Tensor:
        """(B, 3): cycle life, lower and upper bound, in cycles; columns of x as in `INPUTS`."""
        return self.model(x_BF)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self(batch["x"])

    def write_bundle(self, folder: Path) -> None:
        hp = self.hparams
        contract = Contract(
            "early_tabular", INPUTS, hp.max_cycle, hp.nominal_capacity_ah, hp.eol_fraction, hp.confidence
        )
        write_battery_bundle(folder, self.model, self.example, contract, self.record)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # the number of rows is known only after the fit
        self.example = torch.zeros_like(state_dict[f"{prefix}example"])
        super()._load_from_state_dict(state_dict, prefix, *args)

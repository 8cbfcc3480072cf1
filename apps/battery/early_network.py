"""Cycle life from the first cycles, read as a sequence by any memory layer, under Lightning.

Some tens of cells allow no free network. A ridge read-out of the last step, fitted in closed form, says what a linear
model can; the layer learns the rest, held back by weight decay, mixed and noisy cells, thinned cycles and averaged
weights. Every step is trained to forecast, late ones most, so the step graph answers after any cycle.

Shape legend: B cells, T cycles, F features, N cells of the training set.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ...core.calibration import ConformalInterval, least_rows
from ...core.layers.aaren import Aaren
from ...core.model import SequenceModel
from ...core.preprocess import Standardize
from ...core.state import SequenceLayer
from ...data.battery.early_sequence import UNITS
from ...data.windows import Sequences
from ..datamodule import sequence_loader
from ..module import Batch, TaskModule
from .bundle import Contract, write_battery_bundle
from .cross_fit import LeftOut, calibrated, cross_fit
from .data import BatteryData
from .judge import Verdict

NAMES = tuple(UNITS)
CLOCK = "log_cycle"  # says where in the sequence a step is; neither noise nor mixing may touch it
SETTLED = 90  # features are standardised as they are at the end of what is read
EXAMPLE = 40  # cycles of the input that exports are checked with
FIRST = 10  # cycles before this one are not asked


class EarlyNetwork(TaskModule):
    """A memory layer beside a linear read-out, in log life, with a conformal interval.

    Args:
        layer: makes the layer of a given width; any class path that obeys the state protocol.
        d_model, num_layers, ff_mult, dropout: of the network.
        lr, weight_decay: of AdamW under a cosine schedule.
        noise, offset: standard deviation of noise on each step and of a shift of the whole cell, in units of a
            feature's spread over cells.
        mix: parameter of the Beta distribution by which pairs of cells are mixed; 0 mixes none.
        keep: least share of the cycles a training step sees.
        late: exponent by which later steps weigh more.
        ridge: penalty of the linear read-out.
        average: decay of the averaged weights.
        max_cycle, nominal_capacity_ah, eol_fraction, confidence: what is asked for.
        calibration_folds: networks trained without a fold of cells each, for the interval and for honest figures.
    """

    def __init__(
        self,
        layer: Callable[[int], SequenceLayer] = Aaren,
        d_model: int = 16,
        num_layers: int = 1,
        ff_mult: int = 2,
        dropout: float = 0.2,
        lr: float = 1e-2,
        weight_decay: float = 1.0,
        noise: float = 0.05,
        offset: float = 0.05,
        mix: float = 0.5,
        keep: float = 0.4,
        late: float = 6.0,
        ridge: float = 0.02,
        clip: float = 5.0,
        average: float = 0.98,
        max_cycle: int = 100,
        nominal_capacity_ah: float = 1.1,
        eol_fraction: float = 0.8,
        confidence: float = 0.9,
        calibration_folds: int = 10,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = SequenceModel(
            len(NAMES),
            1,
            layer=layer,
            d_model=d_model,
            num_layers=num_layers,
            ff_mult=ff_mult,
            dropout=dropout,
            linear_skip=True,
            preprocess=Standardize(NAMES, flags=False, clip=clip),
            calibration=ConformalInterval(confidence=confidence),
        )
        self.centre: Tensor
        self.spread: Tensor
        self.example: Tensor
        self.register_buffer("centre", torch.zeros(()))  # of log life over the training cells
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("example", torch.zeros(2, EXAMPLE, len(NAMES)))
        self.initial: dict[str, Tensor] = {}

    @property
    def standardize(self) -> Standardize:
        """The model's preprocessing."""
        return cast(Standardize, self.model.preprocess)

    @property
    def interval(self) -> ConformalInterval:
        """The model's calibration."""
        return cast(ConformalInterval, self.model.calibration)

    @property
    def title(self) -> str:
        return type(self.model.blocks[0].layer).__name__ if len(self.model.blocks) else "linear read-out"

    def encode(self, sequences: Sequences) -> Sequences:
        """The sequences as they are: `early_sequences` has done all the work.

        Raises:
            ValueError: where the cells are too few for the interval; better now than after the training.
        """
        cells, folds = len(sequences), self.hparams.calibration_folds
        kept, needed = cells - math.ceil(cells / folds), least_rows(self.hparams.confidence)
        if kept < needed:
            raise ValueError(
                f"{cells} training cells in {folds} folds leave {kept} for an interval at confidence "
                f"{self.hparams.confidence}, which needs {needed}; give more cells, or a lower --model.confidence"
            )
        return sequences

    def prepare(self, sequences: Sequences) -> None:
        """Fit what has a closed form: standardisation, and the linear read-out of late steps."""
        x_NTF, mask_NT = torch.from_numpy(sequences.x), torch.from_numpy(sequences.mask)
        cycle_NT, life_N = torch.from_numpy(sequences.position), _lives(sequences)
        preprocess = self.standardize
        last = int(min(SETTLED, 0.9 * sequences.position.max()))
        preprocess.fit(x_NTF, mask_NT & (cycle_NT >= last))
        clock = NAMES.index(CLOCK)
        preprocess.mean_F[clock], preprocess.std_F[clock] = 1.5, 0.4
        self.centre, self.spread = life_N.log().mean(), life_N.log().std()
        target_N = (life_N.log() - self.centre) / self.spread
        weight_NT = self._weights(cycle_NT, mask_NT).double() / len(life_N)
        z_NTF = torch.nn.functional.pad(preprocess(x_NTF), (0, 1), value=1.0).double()
        penalty = self.hparams.ridge * torch.eye(z_NTF.shape[-1], dtype=torch.float64)
        penalty[-1, -1] = 0.0
        normal = torch.einsum("nt,ntf,ntg->fg", weight_NT, z_NTF, z_NTF) + penalty
        solved = torch.linalg.solve(
            normal, torch.einsum("nt,ntf,n->f", weight_NT, z_NTF, target_N.double())
        ).float()
        weight, bias = self._scaled()[0]
        with torch.no_grad():
            weight.copy_(solved[None, :-1])
            bias.copy_(solved[-1:])
        weight.requires_grad_(False)
        bias.requires_grad_(False)
        shown = x_NTF[:2, : self.example.shape[1]]
        self.example[: len(shown), : shown.shape[1]] = shown
        self.initial = {name: value.clone() for name, value in self.state_dict().items()}

    def loader(self, sequences: Sequences, *, seed: int) -> DataLoader:
        """All cells in one batch: with so few of them a step may well see them all."""
        return sequence_loader(sequences, batch_size=len(sequences), shuffle=True, seed=seed)

    def configure_callbacks(self) -> list[Callback]:
        return [EMAWeightAveraging(decay=self.hparams.average, use_buffers=False)]

    def configure_optimizers(self) -> dict[str, object]:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.hparams.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.hparams.lr, betas=(0.9, 0.98))
        steps = max(int(self.trainer.estimated_stepping_batches), 1)

        def rate(step: int) -> float:
            return min(1.0, (step + 1) / (0.1 * steps)) * (
                0.5 + 0.5 * math.cos(math.pi * min(step / steps, 1.0))
            )

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def loss(self, batch: Batch) -> Tensor:
        """Squared error of the standardised log life over mixed, noisy and thinned cells, late steps most."""
        hp = self.hparams
        target_B = (batch["y"].log() - self.centre) / self.spread
        kept = self._thinned(batch["x"].shape[1])
        x_BTF, mask_BT, cycle_BT = (batch[name][:, kept] for name in ("x", "mask", "position"))
        if hp.mix > 0:
            share_B = torch.distributions.Beta(hp.mix, hp.mix).sample((len(x_BTF),)).to(x_BTF)
            other = torch.randperm(len(x_BTF), device=x_BTF.device)
            mask_BT = mask_BT & mask_BT[other]
            mixed_BTF = torch.lerp(x_BTF[other], x_BTF, share_B[:, None, None])
            clock = NAMES.index(CLOCK)
            mixed_BTF[..., clock] = x_BTF[..., clock]
            x_BTF, target_B = mixed_BTF, torch.lerp(target_B[other], target_B, share_B)
        spread_F = self.standardize.std_F.clone()
        spread_F[NAMES.index(CLOCK)] = 0.0
        shift_B1F = torch.randn_like(x_BTF[:, :1]) * hp.offset
        x_BTF = x_BTF + spread_F * (shift_B1F + torch.randn_like(x_BTF) * hp.noise)
        error_BT = self._standard(x_BTF, mask_BT) - target_B[:, None]
        return (error_BT.square() * self._weights(cycle_BT, mask_BT)).sum(1).mean()

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """Error of the last step's forecast."""
        life_B, point_B = batch["y"], self._last(self(batch["x"], batch["mask"]), batch["mask"])[:, 0]
        return {
            "mape": ((point_B - life_B).abs() / life_B).mean(),
            "rmse": (point_B - life_B).square().mean().sqrt(),
        }

    def forward(self, x_BTF: Tensor, mask_BT: Tensor) -> Tensor:
        """(B, T, 3): life, lower and upper bound, in cycles, as forecast after each cycle."""
        return self.model(x_BTF, mask_BT=mask_BT)[0]

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._last(self(batch["x"], batch["mask"]), batch["mask"])

    @torch.no_grad()
    def on_train_end(self) -> None:
        """From standardised to log life: the last linear maps take over the scale."""
        for weight, bias in self._scaled():
            weight.mul_(self.spread)
            bias.mul_(self.spread)
        self._scaled()[0][1].add_(self.centre)

    def calibrate(self, data: BatteryData) -> Verdict:
        """Fit the interval on forecasts of cells left out, and return those forecasts."""
        parts = []
        twins = cross_fit(
            self,
            self.initial,
            data.training,
            cells=data.labelled_cells(),
            folds=self.hparams.calibration_folds,
            seed=data.hparams.seed,
            trainer=self.trainer,
        )
        for held, twin in twins:
            x_BTF, mask_BT = torch.from_numpy(held.x), torch.from_numpy(held.mask)
            with torch.no_grad():
                point_B = self._last(twin(x_BTF, mask_BT), mask_BT)[:, 0]
            cell, cycle = np.array(held.ids), held.position.max(axis=1)
            parts.append(LeftOut(cell, cycle, _lives(held).numpy(), point_B.numpy()))
        return calibrated(self.interval, parts)

    def write_bundle(self, folder: Path) -> None:
        hp = self.hparams
        contract = Contract(
            "early_sequence", NAMES, hp.max_cycle, hp.nominal_capacity_ah, hp.eol_fraction, hp.confidence
        )
        write_battery_bundle(folder, self.model, self.example, contract, self.record)

    def _scaled(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Weight and bias of the linear read-out and of the head's last layer, whose sum is the forecast."""
        parts = [self.model.skip, self.model.head[-1]]
        return [
            (cast(nn.Parameter, part.weight), cast(nn.Parameter, part.bias))
            for part in parts
            if part is not None
        ]

    def _standard(self, x_BTF: Tensor, mask_BT: Tensor) -> Tensor:
        """(B, T) standardised log life while training (the calibration's exponential undone)."""
        return self(x_BTF, mask_BT)[..., 0].log()

    def _weights(self, cycle_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """(B, T) weights of the steps, one in all for each cell."""
        limit = self.hparams.max_cycle
        raw_BT = (cycle_BT / limit) ** self.hparams.late * (mask_BT & (cycle_BT >= min(FIRST, limit // 2)))
        return raw_BT / raw_BT.sum(1, keepdim=True).clamp(min=1e-9)

    def _thinned(self, length: int) -> Tensor:
        """Sorted places of the cycles that this training step sees."""
        share = float(torch.empty(()).uniform_(self.hparams.keep, 1.0))
        return torch.randperm(length)[: max(8, int(share * length))].sort().values

    def _last(self, y_BT3: Tensor, mask_BT: Tensor) -> Tensor:
        """(B, 3) at each cell's last real step."""
        last_B = mask_BT.shape[1] - 1 - mask_BT.flip(1).long().argmax(1)
        return y_BT3[torch.arange(len(y_BT3)), last_B]


def _lives(sequences: Sequences) -> Tensor:
    if sequences.y is None or not (np.isfinite(sequences.y) & (sequences.y > 0)).all():
        raise ValueError(
            "training cells need a positive cycle_life each; add the column or drop cells without one"
        )
    return torch.from_numpy(np.asarray(sequences.y, np.float32))

"""Remaining life after every cycle, in constant memory, under Lightning.

Running features (averages and slopes at several time scales, see `RunningFeatures`) remember a cell's past in a state
of fixed size; a network reads remaining life off them, with or without further memory layers. The running features have
no parameters, so they are computed once; training sees their rows.

Shape legend: B batch, T steps, F raw columns, Z running features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ...core.calibration import ConformalInterval
from ...core.layers.aaren import Aaren
from ...core.layers.running import RunningFeatures
from ...core.model import SequenceModel
from ...core.preprocess import Standardize
from ...core.state import SequenceLayer
from ...data.battery.schema import CHARGE_FEATURES
from ...data.windows import Sequences
from ..datamodule import sequence_loader
from ..module import Batch, TaskModule
from .bundle import Contract, write_battery_bundle
from .cross_fit import LeftOut, calibrated, cross_fit, not_late
from .data import BatteryData
from .judge import LATE, Verdict

COLUMNS = ("cycle", "capacity_ah", *CHARGE_FEATURES)
TIME_CONSTANTS = (1.0, 10.0, 30.0, 100.0, 300.0, -100.0, -10.0)
SLOPES = ((10.0, 30.0), (30.0, 100.0), (100.0, 300.0), (1.0, -100.0), (10.0, -10.0))


class OnlineNetwork(TaskModule):
    """Running features, a network on top, log remaining life, a conformal interval.

    Args:
        nominal_capacity_ah: capacity of a new cell, by `group` where the cells differ.
        columns: raw columns of a cycles table, `cycle` and `capacity_ah` among them.
        layer: makes a memory layer of a given width, one for each of `num_layers`.
        d_model, num_layers, ff_mult, dropout: of the network; with no layers it reads each row by itself.
        lr, weight_decay: of AdamW under a one-cycle schedule.
        batch_size: rows per step (cells per step where there are layers).
        stride: every how many cycles a row is trained on.
        last: share of a life after which rows are not trained on: relative errors there say nothing.
        raised_weight: weight of lives that end at a raised level (see `remem.data.battery.raised`).
        clip: bound on standardised features.
        bins: of the interval, by the size of the forecast.
        eol_fraction, confidence: what is asked for.
        calibration_folds: networks trained without a fold of cells each, for the interval and for honest figures.
    """

    def __init__(
        self,
        nominal_capacity_ah: float | dict[str, float] = 1.1,
        columns: Sequence[str] = COLUMNS,
        layer: Callable[[int], SequenceLayer] = Aaren,
        d_model: int = 64,
        num_layers: int = 0,
        ff_mult: int = 2,
        dropout: float = 0.0,
        lr: float = 3e-3,
        weight_decay: float = 0.05,
        batch_size: int = 256,
        stride: int = 3,
        last: float = 0.97,
        raised_weight: float = 0.5,
        clip: float = 10.0,
        bins: int = 3,
        eol_fraction: float = 0.8,
        confidence: float = 0.9,
        calibration_folds: int = 5,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.running = RunningFeatures(
            columns,
            position="cycle",
            time_constants=TIME_CONSTANTS,
            slopes=SLOPES,
            levels={"capacity_ah": _levels(nominal_capacity_ah, eol_fraction)},
        )
        names = self.running.out_names
        self.model = SequenceModel(
            len(names),
            1,
            layer=layer,
            d_model=d_model,
            num_layers=num_layers,
            ff_mult=ff_mult,
            dropout=dropout,
            preprocess=Standardize(names, flags=False, clip=clip, compress=True),
            calibration=ConformalInterval(confidence=confidence, num_bins=bins),
        )
        self.example: Tensor
        self.register_buffer("example", torch.zeros(2, 64, len(columns)))
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
        layers = [type(block.layer).__name__ for block in self.model.blocks]
        return " + ".join(["running features", *layers])

    @torch.no_grad()
    def encode(self, sequences: Sequences) -> Sequences:
        """Sequences of running features, every `stride`-th step of them; y stays."""
        missing = [name for name in self.hparams.columns if name not in sequences.names]
        if missing:
            raise ValueError(
                f"the cycles table lacks columns {missing}; it has {list(sequences.names)}; add them, or say which "
                "there are with --model.columns=[cycle,capacity_ah,...]"
            )
        rul_NT = labels_of(sequences)
        cells, length, _ = self.example.shape
        at = [sequences.names.index(name) for name in self.hparams.columns]
        long = np.flatnonzero(sequences.lengths >= length)[:cells]
        if len(long) == cells:
            self.example = torch.from_numpy(sequences.x[long][:, :length, at])
        stride, rows = self.hparams.stride, []
        for x_TF, mask_T in zip(sequences.x[..., at], sequences.mask, strict=True):
            z_1TZ, _ = self.running(torch.from_numpy(x_TF[mask_T])[None])
            rows.append(z_1TZ[0, ::stride].numpy())
        steps = max(len(z) for z in rows)
        z_NTZ = np.zeros((len(rows), steps, self.running.out_features), np.float32)
        for i, z in enumerate(rows):
            z_NTZ[i, : len(z)] = z
        mask, position, y = (a[:, ::stride][:, :steps] for a in (sequences.mask, sequences.position, rul_NT))
        return replace(sequences, x=z_NTZ, mask=mask, position=position, y=y, names=self.running.out_names)

    def prepare(self, sequences: Sequences) -> None:
        """Fit the standardisation on encoded sequences and start from the median life."""
        use = self.trained_on(sequences)
        self.standardize.fit(torch.from_numpy(sequences.x[use]))
        with torch.no_grad():
            last = self.model.head[-1].get_parameter("bias")
            last.fill_(float(np.log(np.median(labels_of(sequences)[use]))))
        self.initial = {name: value.clone() for name, value in self.state_dict().items()}

    def loader(self, sequences: Sequences, *, seed: int) -> DataLoader:
        """Rows in any order where the network has no layers, whole cells otherwise; of encoded sequences."""
        use = self.trained_on(sequences)
        if len(self.model.blocks):
            hidden = replace(sequences, y=np.where(use, labels_of(sequences), np.nan).astype(np.float32))
            return sequence_loader(hidden, batch_size=self.hparams.batch_size, shuffle=True, seed=seed)
        cell, step = np.nonzero(use)
        weight = np.array(
            [
                1.0 if i == g else self.hparams.raised_weight
                for i, g in zip(sequences.ids, _groups(sequences), strict=True)
            ]
        )
        x_RZ, y_R = (
            torch.from_numpy(sequences.x[cell, step]),
            torch.from_numpy(labels_of(sequences)[cell, step]),
        )
        weight_R = torch.from_numpy(weight[cell].astype(np.float32))

        def collate(rows: list[int]) -> Batch:
            ones_R1 = torch.ones(len(rows), 1, dtype=torch.bool)
            return {
                "x": x_RZ[rows][:, None],
                "mask": ones_R1,
                "y": y_R[rows][:, None],
                "weight": weight_R[rows][:, None],
            }

        return DataLoader(
            range(len(y_R)),  # type: ignore[arg-type]
            batch_size=self.hparams.batch_size,
            shuffle=True,
            collate_fn=collate,
            generator=torch.Generator().manual_seed(seed),
        )

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay
        )
        steps = max(int(self.trainer.estimated_stepping_batches), 2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.hparams.lr, total_steps=steps, pct_start=0.1
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def loss(self, batch: Batch) -> Tensor:
        """Absolute error of log remaining life, near to the relative error that is judged."""
        point_BT = self.model(batch["x"], mask_BT=batch["mask"])[0][..., 0]
        known_BT = batch["mask"] & torch.isfinite(batch["y"])
        error_BT = (point_BT.log() - batch["y"].clamp(min=1.0).log()).abs() * batch.get("weight", 1.0)
        return error_BT[known_BT].mean()

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """Relative error over the rows up to 90 % of each life; the batch holds raw columns."""
        point_BT, rul_BT, cycle_BT = self(batch["x"], batch["mask"])[..., 0], batch["y"], batch["position"]
        judged_BT = batch["mask"] & (rul_BT > 0) & (cycle_BT <= LATE * (cycle_BT + rul_BT))
        return {"mape": ((point_BT - rul_BT).abs() / rul_BT)[judged_BT].mean()}

    def forward(self, x_BTF: Tensor, mask_BT: Tensor) -> Tensor:
        """(B, T, 3): remaining life, lower and upper bound, in cycles, from raw columns."""
        z_BTZ, _ = self.running(x_BTF, mask_BT=mask_BT)
        return self.model(z_BTZ, mask_BT=mask_BT)[0]

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self(batch["x"], batch["mask"])

    def calibrate(self, data: BatteryData) -> Verdict:
        """Fit the interval on forecasts of cells left out, and return those forecasts."""
        cells, parts = data.labelled_cells(), []
        twins = cross_fit(
            self,
            self.initial,
            data.training,
            cells=cells,
            folds=self.hparams.calibration_folds,
            seed=data.hparams.seed,
            trainer=self.trainer,
        )
        for fold, twin in twins:
            own = fold.take([i for i, name in enumerate(fold.ids) if name in cells])
            with torch.no_grad():
                y_NT3, _ = twin.model(torch.from_numpy(own.x), mask_BT=torch.from_numpy(own.mask))
            rul_NT = labels_of(own)
            use = own.mask & (rul_NT > 0)
            cell = np.repeat(np.array(own.ids), use.sum(axis=1))
            parts.append(LeftOut(cell, own.position[use], rul_NT[use], y_NT3[..., 0].numpy()[use]))
        return calibrated(self.interval, parts, judged=not_late(parts))

    def whole(self) -> SequenceModel:
        """The deployed model: running features and network in one, from raw columns."""
        whole = copy.deepcopy(self.model).eval()
        whole.features, whole.num_features = self.running, len(self.hparams.columns)
        return whole

    def write_bundle(self, folder: Path) -> None:
        hp = self.hparams
        contract = Contract(
            "online_sequence", hp.columns, None, hp.nominal_capacity_ah, hp.eol_fraction, hp.confidence
        )
        write_battery_bundle(folder, self.whole(), self.example, contract, self.record)

    def trained_on(self, sequences: Sequences) -> np.ndarray:
        """(N, T) steps that are trained on: labelled, and not in the last few per cent of a life."""
        rul = labels_of(sequences)
        life = rul + sequences.position
        with np.errstate(invalid="ignore"):
            return sequences.mask & (rul > np.maximum((1 - self.hparams.last) * life, 0))


def _levels(nominal_capacity_ah: float | dict[str, float], eol_fraction: float) -> list[float]:
    """Capacities at end of life, in Ah, the largest first."""
    some = nominal_capacity_ah.values() if isinstance(nominal_capacity_ah, dict) else [nominal_capacity_ah]
    return sorted({round(eol_fraction * nominal, 6) for nominal in some}, reverse=True)


def _groups(sequences: Sequences) -> tuple[str, ...]:
    return sequences.groups or sequences.ids


def labels_of(sequences: Sequences) -> np.ndarray:
    """(N, T) remaining life of each step.

    Raises:
        ValueError: where there is none.
    """
    if sequences.y is None:
        raise ValueError("these cycles have no labels; cells need a record down to their end of life")
    return sequences.y

"""LightningCLI for battery models, and what follows a fit: calibration, checkpoint, bundle, verdict, report."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from ...serving.predictor import Predictor
from ..module import TaskModule
from ..report import Report, text_table
from .data import BatteryData
from .judge import Verdict, judge_early, judge_online
from .report import early_report, online_report
from .sets import OUTLIERS

LINKED = ("task", "max_cycle", "eol_fraction")
"""Said once, for the data; the model hears them too."""


class BatteryCLI(LightningCLI):
    """fit, validate, test, predict; `--out DIR` is where all of a run goes."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--out", type=str, default="out/battery", help="folder for all that a run leaves behind"
        )
        for name in LINKED:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}")

    @property
    def out(self) -> Path:
        return Path(self._get(self.config, "out"))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        return super().instantiate_trainer(default_root_dir=str(self.out), **kwargs)

    def before_fit(self) -> None:
        self.started = time.monotonic()
        if self.datamodule.hparams.view == "sequence":
            self.model.prepare(self.datamodule.train_sequences())

    def after_fit(self) -> None:
        seconds = time.monotonic() - self.started
        self.rows = finish(self.model, self.datamodule, self.trainer, self.out, seconds=seconds)


def run(arguments: Sequence[str]) -> str:
    """One subcommand of `remem battery`; the table to print, or nothing."""
    cli = BatteryCLI(
        TaskModule,
        BatteryData,
        args=list(arguments),
        subclass_mode_model=True,
        save_config_kwargs={"overwrite": True},
        seed_everything_default=0,
    )
    return text_table(getattr(cli, "rows", []))


def finish(
    module: TaskModule, data: BatteryData, trainer: Trainer, out: Path, *, seconds: float
) -> list[dict[str, object]]:
    """Calibrate, then leave `model.ckpt`, `bundle/`, `metrics.json` and `report.html` in `out`; the verdict's rows."""
    module = module.cpu().eval()
    module.calibrate(data)
    hp = data.hparams
    module.record = {
        "training": {
            "data": data.cells.source,
            "split": "all cells"
            if hp.valid_fold is None
            else f"fold {hp.valid_fold} of {hp.n_folds} kept for calibration",
            "seed": hp.seed,
            "cells": len(data.fold_of_cells()[0]),
            "rows": data.cells.train.height,
            "seconds": round(seconds, 1),
            "metrics": module.held_out,
        },
        "baselines": data.floors(),
    }
    out.mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(out / "model.ckpt", weights_only=True)
    module.write_bundle(out / "bundle")
    verdicts = judge(Predictor(out / "bundle", device="cpu"), data)
    rows = [row for verdict in verdicts for row in verdict.rows(model=module.title)]
    text = json.dumps({**module.record["training"], "task": hp.task, "rows": rows}, indent=1)
    (out / "metrics.json").write_text(text + "\n", encoding="utf-8")
    _report(data, verdicts, rows, module).write(out / "report.html")
    return rows


def judge(predictor: Predictor, data: BatteryData) -> list[Verdict]:
    """Verdicts on all test tables; online, also on the cells that were kept from training.

    Those kept cells calibrated the interval, so their coverage is by construction and only their errors say something.
    """
    judged = judge_early if data.hparams.task == "early" else judge_online
    verdicts = []
    if data.hparams.valid_fold is not None:
        verdicts.append(
            judged(predictor, data.frame_of(data.fold_of_cells()[1]), f"fold {data.hparams.valid_fold}")
        )
    for label, frame in data.cells.tests.items():
        verdict = judged(predictor, frame, label)
        verdicts.append(verdict)
        outliers = [cell for cell in OUTLIERS if cell in verdict.cell]
        if outliers:
            verdicts.append(verdict.without(outliers, f"{label} without {', '.join(outliers)}"))
    return verdicts


def _report(
    data: BatteryData, verdicts: Sequence[Verdict], rows: list[dict[str, object]], module: TaskModule
) -> Report:
    hp, cells = data.hparams, data.cells
    confidence = module.hparams.confidence
    if hp.task == "early":
        return early_report("Cycle life", cells.source, cells.train, verdicts, rows, confidence=confidence)
    nominal = cells.nominal_capacity_ah
    eol_ah = hp.eol_fraction * (nominal if isinstance(nominal, float) else max(nominal.values()))
    frame = pl.concat([cells.train, *cells.tests.values()], how="diagonal")
    return online_report(
        "Remaining life", cells.source, frame, verdicts[0], rows, confidence=confidence, eol_ah=eol_ah
    )

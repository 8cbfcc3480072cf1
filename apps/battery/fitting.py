"""LightningCLI for battery models, and what follows: calibration, checkpoint, bundle, verdict, report, predictions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from ...serving.battery.predictor import Predictor
from ..module import TaskModule, load_checkpoint
from ..report import Report, text_table
from ..training import TrainingCLI, launch_cli
from .data import BatteryData
from .judge import Verdict, judge_early, judge_online
from .report import early_report, online_report
from .sets import OUTLIERS, nominal_of

LINKED = ("task", "max_cycle", "eol_fraction")
"""Said once, for the data; the model hears them too."""


class BatteryCLI(TrainingCLI):
    """The battery app's subcommands; see `TrainingCLI`."""

    fitted: Fitted | None = None

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        for name in LINKED:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}")
        parser.link_arguments(
            ("data.task", "data.set", "data.nominal_capacity_ah"),
            "model.init_args.nominal_capacity_ah",
            compute_fn=nominal_of,
        )

    def before_fit(self) -> None:
        self.started = time.monotonic()
        if self.datamodule.hparams.view == "sequence":
            self.datamodule.encode_for(self.model)

    def after_fit(self) -> None:
        seconds = time.monotonic() - self.started
        self.fitted = finish(self.model, self.datamodule, self.trainer, self.out, seconds=seconds)
        self.told = (
            f"{text_table(self.fitted.rows)}\n\n{self.out}: bundle/  model.ckpt  metrics.json  report.html"
        )

    def before_validate(self) -> None:
        data = self.datamodule
        if data.hparams.valid_fold is None:
            raise ValueError(
                "there is no fold to validate on: this fit was trained on all cells; take `test`"
            )
        trained = load_checkpoint(self.checkpoint).record["training"]
        if (trained["split"], trained["seed"]) != (split(data), data.hparams.seed):
            raise ValueError(
                f"{self.checkpoint}: trained on {trained['split']} (seed {trained['seed']}), so fold "
                f"{data.hparams.valid_fold} would not be new to it; fit with --data.valid_fold"
            )
        self.trainer.limit_val_batches = 1.0  # the presets have none while they fit

    def after_validate(self) -> None:
        with self._production() as predictor:
            self._tell(judge_fold(predictor, self.datamodule))

    def after_test(self) -> None:
        with self._production() as predictor:
            self._tell(judge_tests(predictor, self.datamodule))

    def predict(self, **_: object) -> None:
        """Forecasts of the test cells, labelled or not, as OUT/predictions.parquet."""
        if not self.datamodule.cells.tests:
            raise ValueError("there are no cells to predict; give some with --data.test_path FILE")
        with self._production() as predictor:
            out = pl.concat([predictor.predict(frame) for frame in self.datamodule.cells.tests.values()])
        target = self.out / "predictions.parquet"
        self.out.mkdir(parents=True, exist_ok=True)
        out.write_parquet(target)
        self.told = f"{target}: {out.height} forecasts"

    @contextmanager
    def _production(self) -> Iterator[Predictor]:
        with self.exported() as bundle:
            yield Predictor(bundle, device="cpu")

    def _tell(self, verdicts: Sequence[Verdict]) -> None:
        title = self.model.title
        self.told = text_table([row for verdict in verdicts for row in verdict.rows(model=title)])


@dataclass(frozen=True)
class Fitted:
    """What a fit left behind: its folder, its verdicts and their rows, the cells it was fitted on, its report."""

    out: Path
    verdicts: list[Verdict]
    rows: list[dict[str, object]]
    data: BatteryData
    page: Report


def run(arguments: Sequence[str]) -> Fitted | None:
    """One subcommand of `remem battery`; what a fit left, None of the others."""
    return launch(arguments).fitted


def launch(arguments: Sequence[str]) -> BatteryCLI:
    """One subcommand of `remem battery`, done."""
    return launch_cli(BatteryCLI, BatteryData, arguments)


def finish(module: TaskModule, data: BatteryData, trainer: Trainer, out: Path, *, seconds: float) -> Fitted:
    """Calibrate, then leave `model.ckpt`, `bundle/`, `metrics.json` and `report.html` in `out`."""
    module = module.cpu().eval()
    left_out = module.calibrate(data)
    hp = data.hparams
    module.record = {
        "training": {
            "data": data.cells.source,
            "split": split(data),
            "seed": hp.seed,
            "cells": len(data.fold_of_cells()[0]),
            "rows": data.cells.train.height,
            "seconds": round(seconds, 1),
            "metrics": {left_out.label: left_out.rows(model=module.title)[0]},
        },
        "baselines": data.floors(),
    }
    out.mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(out / "model.ckpt", weights_only=True)
    module.write_bundle(out / "bundle")
    predictor = Predictor(out / "bundle", device="cpu")
    left_out = left_out.beside(predictor, data.frame_of(data.fold_of_cells()[0]))
    verdicts = [left_out, *_reaching(left_out, data), *judge_fold(predictor, data)]
    verdicts += judge_tests(predictor, data)
    rows = [row for verdict in verdicts for row in verdict.rows(model=module.title)]
    text = json.dumps({**module.record["training"], "task": hp.task, "rows": rows}, indent=1)
    (out / "metrics.json").write_text(text + "\n", encoding="utf-8")
    page = _report(data, verdicts, rows, module)
    page.write(out / "report.html")
    return Fitted(out, verdicts, rows, data, page)


def _reaching(left_out: Verdict, data: BatteryData) -> list[Verdict]:
    """Online, the same without cells whose record stops just above their end of life, if there are any others."""
    if data.cells.ends is None:
        return []
    short = data.cells.ends.filter(pl.col("end") != "reached")["cell_id"].to_list()
    reaching = left_out.without(short, f"{left_out.label}, end of life recorded")
    return [reaching] if len(reaching.cell) else []


def split(data: BatteryData) -> str:
    """Which of the cells are trained on, in words."""
    hp = data.hparams
    return "all cells" if hp.valid_fold is None else f"all but fold {hp.valid_fold} of {hp.n_folds}"


def judge_fold(predictor: Predictor, data: BatteryData) -> list[Verdict]:
    """The verdict on the fold that was kept from training, if there is one."""
    if data.hparams.valid_fold is None:
        return []
    judged = judge_early if data.hparams.task == "early" else judge_online
    return [judged(predictor, data.frame_of(data.fold_of_cells()[1]), f"fold {data.hparams.valid_fold}")]


def judge_tests(predictor: Predictor, data: BatteryData) -> list[Verdict]:
    """Verdicts on all test tables, with and without the outliers."""
    judged = judge_early if data.hparams.task == "early" else judge_online
    verdicts = []
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

"""LightningCLI for tracing models, and what follows: stack, bands, checkpoint, bundle, verdict, report, predictions."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from lightning.pytorch import Trainer

from ...data.tracing.answers import CORRECT
from ...data.tracing.metrics import answer_metrics
from ...data.tracing.opening import open_log
from ...data.tracing.schema import conform
from ...serving.tracing.predictor import TracingPredictor
from ..module import load_checkpoint
from ..report import Report, text_table
from ..training import TrainingCLI, launch_cli
from .bands import band_table
from .data import TracingData, several
from .floors import fit_floors
from .judge import Verdict, judge_log
from .module import TracingModule
from .report import fit_report

CHOSEN_ON = "chosen on"
"""Said of the students that stopping and calibration have seen: their figures are a little too good."""


class TracingCLI(TrainingCLI):
    """The tracing app's subcommands; see `TrainingCLI`."""

    fitted: Fitted | None = None

    def before_fit(self) -> None:
        self.started = time.monotonic()
        self.datamodule.encode_for(self.model)

    def after_fit(self) -> None:
        seconds = time.monotonic() - self.started
        self.fitted = finish(self.model, self.datamodule, self.trainer, self.out, seconds=seconds)
        self.told = (
            f"{text_table(self.fitted.rows)}\n\n{self.out}: bundle/  model.ckpt  metrics.json  report.html"
        )

    def before_validate(self) -> None:
        data = self.datamodule
        trained = load_checkpoint(self.checkpoint).record["training"]
        if (trained["split"], trained["seed"]) != (data.splits.words, data.hparams.seed):
            raise ValueError(
                f"{self.checkpoint}: made with {trained['split']} (seed {trained['seed']}), asked for is "
                f"{data.splits.words} (seed {data.hparams.seed}); judge other students with `test`"
            )

    def after_validate(self) -> None:
        with self._production() as predictor:
            self._tell([judge_valid(predictor, self.datamodule)])

    def before_test(self) -> None:
        self.datamodule.judged()

    def after_test(self) -> None:
        with self._production() as predictor:
            self._tell(judge_tests(predictor, self.datamodule))

    def predict(self, **_: object) -> None:
        """Forecasts of the rows of --data.test_path, or of the test folds, as OUT/predictions.parquet."""
        hp = self.datamodule.hparams
        files = several(hp.test_path)
        with self._production() as predictor:
            if files:
                out = predictor.predict(open_log(files, columns=hp.columns))
            else:
                out = pl.concat([predictor.predict(frame) for frame in self.datamodule.judged()])
        target = self.out / "predictions.parquet"
        self.out.mkdir(parents=True, exist_ok=True)
        out.write_parquet(target)
        self.told = f"{target}: {out.height} forecasts"

    @contextmanager
    def _production(self) -> Iterator[TracingPredictor]:
        with self.exported() as bundle:
            yield TracingPredictor(bundle, device="cpu")

    def _tell(self, judged: Sequence[Judged]) -> None:
        self.told = text_table([row for one in judged for row in one.rows(model=self.model.title)])


@dataclass(frozen=True)
class Judged:
    """A verdict and the log it is about."""

    label: str
    frame: pl.DataFrame
    verdict: Verdict

    def rows(self, *, model: str) -> list[dict[str, object]]:
        """`split, model, n, auc, ...`: the model, its members, and the simple baselines."""
        names = {"bundle": model}
        return [
            {"split": self.label} | row | {"model": names.get(str(row["model"]), row["model"])}
            for row in self.verdict.rows()
        ]


@dataclass(frozen=True)
class Fitted:
    """What a fit left behind: its folder, its verdicts and their rows, its data, its report."""

    out: Path
    judged: list[Judged]
    rows: list[dict[str, object]]
    data: TracingData
    page: Report


def run(arguments: Sequence[str]) -> Fitted | None:
    """One subcommand of `remem tracing`; what a fit left, None of the others."""
    return launch(arguments).fitted


def launch(arguments: Sequence[str]) -> TracingCLI:
    """One subcommand of `remem tracing`, done."""
    return launch_cli(TracingCLI, TracingData, arguments)


def finish(
    module: TracingModule, data: TracingData, trainer: Trainer, out: Path, *, seconds: float
) -> Fitted:
    """Boost, stack and calibrate, then leave `model.ckpt`, `bundle/`, `metrics.json` and `report.html` in `out`."""
    started = time.monotonic()
    module = module.cpu().eval()
    hp = data.hparams
    module.calibrate(data.training, data.watched, seed=hp.seed)
    splits = data.splits
    training: dict[str, Any] = {
        "data": splits.source,
        "split": splits.words,
        "seed": hp.seed,
        "students": splits.train["student_id"].n_unique(),
        "answers": splits.train.height,
        "epochs": trainer.current_epoch,
        "seconds": round(seconds + time.monotonic() - started, 1),
    }
    module.record = {
        "training": training,
        "baselines": fit_floors(data.training, module.model.memory.out_names),
        "spread": band_table(module.model, module.vocabulary, splits.valid, seed=hp.seed),
    }
    training["metrics"] = _figures(module, data)
    out.mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(out / "model.ckpt", weights_only=True)
    print("fit: exporting the bundle and checking it against torch", file=sys.stderr)
    module.write_bundle(out / "bundle")
    predictor = TracingPredictor(out / "bundle", device="cpu")
    judged = [judge_valid(predictor, data), *judge_tests(predictor, data)]
    rows = [row for one in judged for row in one.rows(model=module.title)]
    text = json.dumps({**training, "rows": rows, "slices": _slices(judged)}, indent=1)
    (out / "metrics.json").write_text(text + "\n", encoding="utf-8")
    page = fit_report(splits, judged, rows, predictor)
    page.write(out / "report.html")
    return Fitted(out, judged, rows, data, page)


def judge_valid(predictor: TracingPredictor, data: TracingData) -> Judged:
    """The verdict on the students that were chosen on."""
    return _judge(predictor, data.splits.valid, _chosen_on(data))


def judge_tests(predictor: TracingPredictor, data: TracingData) -> list[Judged]:
    """Verdicts on all logs that nothing was chosen on."""
    return [_judge(predictor, frame, label) for label, frame in data.splits.tests.items()]


def _chosen_on(data: TracingData) -> str:
    return f"{data.valid_label} ({CHOSEN_ON})"


def _figures(module: TracingModule, data: TracingData) -> dict[str, dict[str, float]]:
    """Figures of the model itself by split, for the manifest, which is written before the bundle can be asked."""
    parts = {_chosen_on(data): data.watched} | {
        label: module.featured(frame) for label, frame in data.splits.tests.items()
    }
    told = {}
    for label, rows in parts.items():
        y_R = rows.x[:, CORRECT]
        given_R = np.isfinite(y_R)
        p_R = module.forecasts(rows)[:, 0]
        told[label] = answer_metrics(y_R[given_R], p_R[given_R])
    return told


def _judge(predictor: TracingPredictor, frame: pl.DataFrame, label: str) -> Judged:
    return Judged(label, frame, judge_log(predictor, conform(frame, source=label)))


def _slices(judged: Sequence[Judged]) -> dict[str, list[dict[str, object]]]:
    return {one.label: one.verdict.slices() for one in judged}

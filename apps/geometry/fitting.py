"""LightningCLI for geometry models, and what follows: checkpoint, bundle, verdict, report, predictions."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from ..module import TaskModule
from ..report import Report, text_table
from ..training import TrainingCLI, launch_cli
from .data import GeometryData


class GeometryCLI(TrainingCLI):
    """The geometry apps' subcommands; see `TrainingCLI`."""

    fitted: Fitted | None = None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer = super().instantiate_trainer(**kwargs)
        self.log = EpochLog()
        trainer.callbacks.append(self.log)
        return trainer

    def before_fit(self) -> None:
        self.started = time.process_time()

    def after_fit(self) -> None:
        seconds = time.process_time() - self.started
        self.fitted = finish(
            self.model, self.datamodule, self.trainer, self.out, self.log.rows, seconds=seconds
        )
        self.told = (
            f"{text_table(self.fitted.rows)}\n\n{self.out}: bundle/  model.ckpt  metrics.json  report.html"
        )

    def after_validate(self) -> None:
        self.after_test()

    def after_test(self) -> None:
        from .judge import judge  # noqa: PLC0415

        with self.exported() as bundle:
            self.told = text_table(judge(bundle, self.datamodule))

    def predict(self, **_: object) -> None:
        """Answers for the instances of --data.path, as OUT/predictions.parquet."""
        from .judge import answers  # noqa: PLC0415

        with self.exported() as bundle:
            out = answers(bundle, self.datamodule)
        target = self.out / "predictions.parquet"
        self.out.mkdir(parents=True, exist_ok=True)
        out.write_parquet(target)
        self.told = f"{target}: {out.height} answers"


class EpochLog(Callback):
    """What was measured after every epoch, and the CPU seconds it took so far."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.started = time.process_time()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        figures = {name: round(float(value), 5) for name, value in trainer.callback_metrics.items()}
        row = {
            "epoch": trainer.current_epoch + 1,
            "cpu_s": round(time.process_time() - self.started, 1),
        } | figures
        self.rows.append(row)
        print(json.dumps(row), file=sys.stderr)


@dataclass(frozen=True)
class Fitted:
    """What a fit left behind: its folder, the rows of its verdict, its report."""

    out: Path
    rows: list[dict[str, object]]
    page: Report


def run(arguments: Sequence[str]) -> Fitted | None:
    """One subcommand; what a fit left, None of the others."""
    return launch(arguments).fitted


def launch(arguments: Sequence[str]) -> GeometryCLI:
    """One subcommand, done."""
    return launch_cli(GeometryCLI, GeometryData, arguments)


def finish(
    module: TaskModule,
    data: GeometryData,
    trainer: Trainer,
    out: Path,
    log: list[dict[str, float]],
    *,
    seconds: float,
) -> Fitted:
    """Leave `model.ckpt`, `bundle/`, `log.jsonl`, `metrics.json` and `report.html` in `out`."""
    module = module.cpu().eval()
    hp = data.hparams
    training: dict[str, Any] = {
        "model": module.title,
        "data": data.source,
        "split": f"sizes {min(data.shares)} to {max(data.shares)}, chosen on other instances of the same kinds",
        "seed": hp.seed,
        "instances": sum(len(pool.x) for pool in data.training.values()),
        "epochs": trainer.current_epoch,
        "cpu_seconds": round(seconds, 1),
        "metrics": {name: value for name, value in (log[-1] if log else {}).items() if name != "epoch"},
    }
    module.record = {"training": training, "baselines": {}}
    out.mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(out / "model.ckpt", weights_only=True)
    (out / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log), encoding="utf-8")
    print("fit: exporting the bundle and checking it against torch", file=sys.stderr)
    module.write_bundle(out / "bundle")
    from .judge import judge  # noqa: PLC0415
    from .report import fit_report  # noqa: PLC0415  (matplotlib)

    rows = judge(out / "bundle", data)
    (out / "metrics.json").write_text(
        json.dumps({**training, "rows": rows}, indent=1) + "\n", encoding="utf-8"
    )
    page = fit_report(out / "bundle", data, rows, log)
    page.write(out / "report.html")
    return Fitted(out, rows, page)

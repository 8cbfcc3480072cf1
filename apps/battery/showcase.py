"""What `remem demo` runs: three models on generated cells, judged beside the field, exported, run, shown."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...data.battery.early import GROUPS, early_features
from ...data.battery.simulate import simulate_curves, simulate_cycles
from ...serving.battery.predictor import Predictor
from ...serving.battery.stream import StreamSession
from ..report import Report
from .baselines import LogLife
from .cli import with_config
from .fitting import Fitted, run
from .judge import Verdict

BESIDE = ("ridge", "random_forest", "xgboost", "gaussian_process")
"""Regressors of the field that stand beside ours; `remem bench battery-table` has them all."""


def showcase(out: Path) -> list[dict[str, object]]:
    """Run it all into the folder `out`; the rows of the comparison."""
    early = _fit(out, "early")
    network = _fit(
        out,
        "network",
        "--model.layer=remem.core.Aaren",
        "--trainer.max_epochs=100",
        "--model.calibration_folds=3",
    )
    online = _fit(
        out, "online", "--data.task=online", "--data.raised=[0,0.05]", "--trainer.max_epochs=2",
        "--model.d_model=32", "--model.calibration_folds=3",
    )  # fmt: skip
    judged = [fitted.verdicts[-1] for fitted in (early, network, online)]
    rows = [*judged[0].rows(model="ensemble (default)"), judged[1].rows(model="Aaren")[0], *_field(early)]
    streamed = replace(judged[2], label=f"{judged[2].label}, after every cycle").rows(
        model="running features"
    )
    rows = sorted(rows, key=lambda row: float(str(row["mape"]))) + streamed
    page = Report("remem: battery life on generated cells").add("All models", _ALL, rows=rows)
    page.add("Production, without torch", rows=_production(out)).add("One cell, streamed", rows=_stream(out))
    for fitted in (early, network, online):
        page.extend(fitted.page)
    page.write(out / "report.html")
    return rows


def _fit(out: Path, name: str, *words: str) -> Fitted:
    print(f"demo: {name}", file=sys.stderr)
    fitted = run(
        with_config(
            [
                "fit",
                "--data.set=generated",
                f"--out={out / name}",
                "--trainer.enable_progress_bar=false",
                *words,
            ]
        )
    )
    if fitted is None:
        raise ValueError(f"demo: fitting {name} left nothing")
    return fitted


def _field(early: Fitted) -> list[dict[str, object]]:
    """The regressors of the field on the same features and cells."""
    frame = next(iter(early.data.cells.tests.values()))
    train, test = early_features(early.data.cells.train), early_features(frame)
    columns, cells, rows = GROUPS["full"], np.array(test.cell_id), []
    for name in BESIDE:
        model = LogLife(name).fit(train.columns(columns), train.lives)
        point = model.predict(test.columns(columns))
        verdict = Verdict("generated test", cells, test.last_cycle, test.lives, point, None, None)
        rows += verdict.rows(model=name)
    return rows


def _production(out: Path) -> list[dict[str, object]]:
    """New cells through the bundle, as `remem predict` does it; the input and the answer stay in `out`."""
    cells = simulate_curves(6, seed=77).drop("cycle_life")
    cells.write_parquet(out / "new_cells.parquet")
    lives = Predictor(out / "early" / "bundle", device="cpu").predict(cells)
    lives.write_parquet(out / "lives.parquet")
    return lives.to_dicts()


def _stream(out: Path) -> list[dict[str, object]]:
    """One cell, one cycle at a time, as `remem stream` does it; its cycles stay in `out` as JSON lines."""
    cycles = simulate_cycles(1, seed=78, missing=0.1)
    session = StreamSession(out / "online" / "bundle")
    answers = []
    with (out / "cycles.jsonl").open("w", encoding="utf-8") as file:
        for row in cycles.iter_rows(named=True):
            file.write(json.dumps(row) + "\n")
            answers.append(session.update(row["cell_id"], row))
    shown = np.linspace(0, len(answers) - 1, 8).astype(int)
    return [
        answers[i] | {"flags": ";".join(answers[i]["flags"]), "state_bytes": session.state_bytes}
        for i in shown
    ]


_ALL = (
    "Cells nobody trained on. rmse and mae in cycles, mape and the rest as fractions; sorted by mape, so whoever wins "
    "stands first. The last block is another task: remaining life after every cycle, up to 90 % of each life."
)

"""The tracing part of `remem demo`: simulated students, a model beside the field, its bundle at work, pictures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl

from ...data.tracing.metrics import answer_metrics
from ...data.tracing.simulate import simulate_log
from ...serving.tracing.session import TracingSession
from ..report import Report
from .baselines import fit_baseline
from .cli import with_config
from .fitting import Fitted, run

BESIDE = ("pfa", "bkt", "hist_gradient_boosting")
"""Models of the field that stand beside ours; `remem bench tracing-table` has them all."""


def showcase(out: Path) -> list[dict[str, object]]:
    """Run it all into the folder `out`; the rows of the comparison."""
    print("demo: tracing", file=sys.stderr)
    truth = simulate_log(260, 150, 12, seed=5, answers=(20, 80))
    out.mkdir(parents=True, exist_ok=True)
    for name, folds in (("train", [0, 2, 3]), ("valid", [1]), ("test", [4])):
        part = truth.filter(pl.col("fold").is_in(folds)).drop("p_true", "fold")
        part.write_parquet(out / f"{name}.parquet")
    paths = [f"--data.{key}path={out / name}.parquet" for key, name in _PATHS]
    fitted = run(with_config(["fit", *paths, f"--out={out}", "--trainer.enable_progress_bar=false"]))
    if fitted is None:
        raise ValueError("demo: fitting the tracing model left nothing")
    rows = [*fitted.judged[-1].rows(model="stack (default)"), *_field(fitted, truth)]
    rows = [{name: row.get(name) for name in _SHOWN} for row in rows]
    rows = sorted(rows, key=lambda row: -float(str(row["auc"])))
    page = Report("remem: knowledge tracing on simulated students").add("All models", _ALL, rows=rows)
    page.add("One student, streamed", rows=_stream(out)).extend(fitted.page)
    page.write(out / "report.html")
    return rows


def _field(fitted: Fitted, truth: pl.DataFrame) -> list[dict[str, object]]:
    """The field on the same students, and the true probability, which nobody can beat."""
    splits, test = fitted.data.splits, fitted.judged[-1]
    rows: list[dict[str, object]] = []
    correct = test.frame["correct"].to_numpy().astype(float)
    for name in BESIDE:
        p = fit_baseline(name, splits.train, splits.valid).predict(test.frame)
        rows.append({"model": name, **answer_metrics(correct, p)})
    told = truth.filter(pl.col("fold") == 4)
    p_true = told["p_true"].to_numpy()
    figures = answer_metrics(told["correct"].to_numpy().astype(float), p_true)
    return [*rows, {"model": "true probability", **figures}]


def _stream(out: Path) -> list[dict[str, object]]:
    """A new student, one answer at a time, as `remem stream` does it; the answers stay in `out` as JSON lines."""
    log = simulate_log(1, 150, 12, seed=5, answers=(24, 24)).drop("p_true", "fold")
    session = TracingSession(out / "bundle")
    told: list[dict[str, object]] = []
    with (out / "answers.jsonl").open("w", encoding="utf-8") as file:
        for row in log.iter_rows(named=True):
            file.write(json.dumps(row | {"timestamp": row["timestamp"].isoformat()}) + "\n")
            answer = session.update(**row)
            mastery = ", ".join(f"{name} {p:.0%}" for name, p in answer["mastery"].items())
            told.append(
                {
                    "question": row["question_id"],
                    "p_correct": answer["p_correct"],
                    "correct": row["correct"],
                    "mastery after": mastery,
                    "state_bytes": session.state_bytes,
                }
            )
    return told[::4]


_PATHS = (("", "train"), ("valid_", "valid"), ("test_", "test"))
_SHOWN = ("model", "n", "auc", "nll", "accuracy", "brier", "ece")
_ALL = (
    "Answers of students that nothing was fitted or chosen on, sorted by AUC, so whoever wins stands first. The true "
    "probability is known because the students are simulated: no forecast can beat it."
)

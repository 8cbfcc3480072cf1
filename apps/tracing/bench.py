"""`remem bench tracing-table`: every tracing model and baseline, cross-validated by student.

Fold k of 1 to 4 is judged, the next one is chosen and calibrated on, all others are trained on. Differences are paired
with the gradient-boosted trees of the field (`hist_gradient_boosting`), which look back on the whole history; the
bootstrap redraws students.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl
import torch
from lightning.pytorch import Trainer, seed_everything
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ...core.layers.lstm import LSTM
from ...core.layers.lstm_attention import LSTMAttention
from ...data.tracing.protocols import compare, evaluate, prepare
from ..training import quiet
from .baselines import fit_baseline
from .bench_baselines import FOLDS, crossed
from .data import TracingData
from .module import TracingModule
from .sets import Splits, load_log

SETS = ("assistments2009", "assistments2015", "assistments2017")
TREE = "hist_gradient_boosting"
EPOCHS = 8
DRAWS = 500
STACK = {"p_correct": "stack (default)", "p_network": "Aaren", "p_trees": "boosted trees that export"}
VARIANTS: dict[str, Mapping[str, object]] = {
    "LSTM": {"layer": LSTM},
    "LSTM + attention": {"layer": LSTMAttention},
    "attention": {"recall": "attention"},
}
"""Single networks of other memories; the first set only."""
BASELINES = ("question_mean", "bkt", "bkt_forgetting", "pfa", "best_lr", TREE)
FIGURES = ("auc", "nll", "accuracy", "ece", "core")
PARTS = (
    *("first_answer", "answers_2_5", "unseen_question", "rare_question"),
    *("long_history", "several_concepts"),
)


def tracing_table(*, seeds: int = 1, root: str | None = None, quick: bool = False) -> list[dict[str, object]]:
    """The whole table.

    Args:
        seeds: of every network; their figures are averaged.
        root: folder of the real sets; see `load_log`.
        quick: one fold of the first set, the default and two baselines, to try the road.

    Returns:
        Rows `set, model, answers`, means over folds (and seeds) of `FIGURES`, `auc_sd` over them, `vs_tree` with
        `vs_tree_lo` and `vs_tree_hi` (95 %, paired, mean over folds), the AUC of each part, and
        CPU `seconds` of a fit.
    """
    quiet()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):  # networks are too small to share between threads
            names = SETS[:1] if quick else SETS
            return [row for name in names for row in _rows(name, seeds, root, quick)]
    finally:
        torch.set_num_threads(threads)


def _rows(name: str, seeds: int, root: str | None, quick: bool) -> list[dict[str, object]]:
    answered = load_log(name=name, root=root)
    print(f"data: {answered.source}", file=sys.stderr)
    found: dict[str, list[dict[str, float]]] = {}
    for splits in crossed(answered, FOLDS[:1] if quick else FOLDS):
        ((label, test),) = splits.tests.items()
        trial = prepare(test)
        forecasts: dict[str, list[tuple[np.ndarray, float]]] = {}
        for model, p, seconds in _forecasts(name, splits, trial.log, seeds, quick=quick):
            forecasts.setdefault(model, []).append((p, seconds))
            print(
                f"{name}, {label}, {model}: {evaluate(trial, p)[0]['auc']:.4f}, {seconds:.0f} s",
                file=sys.stderr,
            )
        tree = forecasts[TREE][0][0]
        for model, several in forecasts.items():
            for p, seconds in several:
                figures = _figures(evaluate(trial, p, train=splits.train))
                if model != TREE:
                    (against,) = compare(trial, p, {TREE: tree}, draws=DRAWS)
                    figures |= {
                        "vs_tree": float(str(against["difference"])),
                        "lo": float(str(against["lo"])),
                        "hi": float(str(against["hi"])),
                    }
                found.setdefault(model, []).append(figures | {"seconds": seconds})
    return [{"set": name, "model": model} | _mean(parts) for model, parts in found.items()]


def _forecasts(
    name: str, splits: Splits, log: pl.DataFrame, seeds: int, *, quick: bool
) -> Iterator[tuple[str, np.ndarray, float]]:
    """Name, (rows,) forecast and seconds of every model and baseline on one split; the tree comes first."""
    whole = name == SETS[0] and not quick
    for baseline in sorted(BASELINES if whole else ("question_mean", TREE), key=lambda b: b != TREE):
        fitted = fit_baseline(baseline, splits.train, splits.valid)
        yield baseline, fitted.predict(log), fitted.seconds
    for seed in range(seeds):
        y_RO, seconds = fit_and_ask(splits, log, {}, seed=seed)
        for model, column in zip(STACK.values(), y_RO.T, strict=True):
            yield model, column, seconds
        for model, words in VARIANTS.items() if whole else ():
            y_RO, seconds = fit_and_ask(splits, log, {**words, "trees": False}, seed=seed)
            yield model, y_RO[:, 0], seconds


def fit_and_ask(
    splits: Splits, log: pl.DataFrame, words: Mapping[str, object], *, seed: int
) -> tuple[np.ndarray, float]:
    """(rows, O) outputs for a log, of a module fitted and calibrated as `remem tracing fit` does it, and CPU seconds.

    Args:
        words: hyper-parameters of `TracingModule`.
    """
    seed_everything(seed, verbose=False)
    start = time.process_time()
    data = TracingData(seed=seed)
    data.splits = splits
    module = TracingModule(**words)  # type: ignore[arg-type]
    data.encode_for(module)
    trainer = Trainer(
        max_epochs=EPOCHS,
        gradient_clip_val=1.0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=data)
    module.eval()
    module.calibrate(data.training, data.watched, seed=seed)
    answers = module.featured(log)
    y_RO = module.forecasts(answers)
    out = np.empty_like(y_RO)
    out[answers.row] = y_RO
    return out, time.process_time() - start


def _figures(rows: list[dict[str, object]]) -> dict[str, float]:
    """The headline's figures and the AUC of each part."""
    whole, *parts = rows
    auc_of = {row["part"]: row["auc"] for row in parts}
    own = {name: whole[name] for name in FIGURES} | {"n": whole["n"]}
    return {
        name: float(str(value))
        for name, value in {**own, **{p: auc_of.get(p, np.nan) for p in PARTS}}.items()
    }


def _mean(parts: list[dict[str, float]]) -> dict[str, object]:
    """One row: means over folds and seeds."""

    def mean(name: str) -> float | None:
        values = [part[name] for part in parts if np.isfinite(part.get(name, np.nan))]
        return round(float(np.mean(values)), 4) if values else None

    row: dict[str, object] = {"answers": int(sum(part["n"] for part in parts))}
    row |= {name: mean(name) for name in FIGURES}
    row["auc_sd"] = round(float(np.std([part["auc"] for part in parts])), 4)
    row |= {"vs_tree": mean("vs_tree"), "vs_tree_lo": mean("lo"), "vs_tree_hi": mean("hi")}
    return row | {name: mean(name) for name in PARTS} | {"seconds": mean("seconds")}

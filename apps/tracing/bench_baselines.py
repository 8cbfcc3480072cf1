"""`remem bench tracing-baselines` and `tracing-features`: what a model is held against, and what its inputs cost.

Folds are by student, as in the data: fold k is judged, the next one of 1 to 4 chooses penalties and stops trees, all
others train, with fold 0, whose few students are always in training.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from ...data.tracing.features import HistoryFeatures
from ...data.tracing.protocols import evaluate, prepare
from .baselines import BASELINES, fit_baseline
from .sets import Answered, Splits, load_log, split_by_fold, with_folds

FOLDS = (1, 2, 3, 4)
FIGURES = ("auc", "nll", "accuracy", "ece", "core")


def tracing_baselines(
    *, seeds: int = 1, root: str | None = None, quick: bool = False
) -> list[dict[str, object]]:
    """Every baseline on ASSISTments 2009, cross-validated over folds 1 to 4, scored by the honest protocol.

    Args:
        seeds: not looked at: the folds are those of the data, and no baseline is drawn again.
        root: folder of the real sets; see `load_log`.
        quick: two baselines on one fold, to try the road.

    Returns:
        Rows `model, answers`, the mean over folds of `FIGURES`, `worst_auc` of a fold, and mean `seconds` of a fit.
    """
    answered = load_log(root=root)
    timed = answered.frame["timestamp"].null_count() < answered.frame.height
    names = ["question_mean", "bkt"] if quick else [name for name in BASELINES if timed or name != "das3h"]
    folds = FOLDS[:1] if quick else FOLDS
    rows: list[dict[str, object]] = []
    splits = list(crossed(answered, folds))
    for name in names:
        found, seconds = [], []
        for split in splits:
            (test,) = split.tests.values()
            trial, fitted = prepare(test), fit_baseline(name, split.train, split.valid)
            found.append(evaluate(trial, fitted.predict(trial.log))[0])
            seconds.append(fitted.seconds)
            print(
                f"{name}, {next(iter(split.tests))}: AUC {found[-1]['auc']:.4f}, {seconds[-1]:.1f} s",
                file=sys.stderr,
            )
        table = pl.DataFrame(found)
        means: dict[str, object] = {f: round(float(table[f].to_numpy().mean()), 4) for f in FIGURES}
        worst = {"worst_auc": round(float(table["auc"].to_numpy().min()), 4)}
        row: dict[str, object] = {"model": name, "answers": int(table["n"].sum())}
        rows.append(row | means | worst | {"seconds": round(float(np.mean(seconds)), 1)})
    return rows


def crossed(answered: Answered, folds: Sequence[int] = FOLDS) -> Iterator[Splits]:
    """For each fold: it to judge, the next of `FOLDS` to choose on, and all others to train on."""
    there = sorted(with_folds(answered.frame)["fold"].unique().to_list())
    for fold in folds:
        valid = fold % len(FOLDS) + 1
        train = [other for other in there if other not in (fold, valid)]
        yield split_by_fold(answered, train=train, valid=[valid], test=[fold])


def tracing_features(
    *, seeds: int = 3, root: str | None = None, quick: bool = False
) -> list[dict[str, object]]:
    """Seconds for the features of every answer of a set, the tables of difficulty included.

    Args:
        seeds: runs; the fastest counts.
        root: folder of the real sets; see `load_log`.
        quick: ASSISTments 2009 only.

    Returns:
        Rows `set, answers, columns, seconds, answers_per_second`.
    """
    rows: list[dict[str, object]] = []
    for name in ("assistments2009",) if quick else ("assistments2009", "assistments2015", "assistments2017"):
        frame = load_log(name=name, root=root).frame
        taken = []
        for _ in range(seeds):
            start = time.perf_counter()
            columns = HistoryFeatures.fit(frame).transform(frame).width
            taken.append(time.perf_counter() - start)
        least = min(taken)
        rows.append(
            {
                "set": name,
                "answers": frame.height,
                "columns": columns,
                "seconds": round(least, 2),
                "answers_per_second": round(frame.height / least),
            }
        )
    return rows

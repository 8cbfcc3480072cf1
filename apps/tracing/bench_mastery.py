"""`remem bench tracing-mastery`: what monotone mode costs, what bands hold, what recommendations lead to.

Monotone mode and recommendations are tried on ASSISTments 2009, on students that nothing was trained on; the true
probabilities that bands and half-lives are about are known of simulated students alone.

Shape legend: n answers, W windows of N questions, A asked rows, C copies of students.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from ...data.tracing.answers import CORRECT, SLOT_1
from ...data.tracing.metrics import auc
from ...serving.tracing.predictor import TracingPredictor
from ...serving.tracing.recommend import nearest
from ...serving.tracing.session import TracingSession
from .bench import EPOCHS
from .bench_baselines import FOLDS, crossed
from .bench_truth import STUDENTS, TRUTHS, Row, judged_by_truth, simulated
from .estimator import KnowledgeTracer
from .sets import Splits, load_log, split_by_fold

TARGETS = (0.5, 0.6, 0.7, 0.8, 0.9)
NEXT = 5
"""Answers among which a replayed recommendation chooses."""
NEAR = 0.05
"""A recommendation counts where a forecast is so near to the target."""
CANDIDATES, CALLS = 10_000, 30
DEFINITIONS = {
    "monotone: AUC lost": "AUC of all forecasts without monotone mode (`beside`) minus with it, one row per question",
    "monotone: violations": "answers times their concepts after which the reported mastery fell although the answer "
    "was right, or rose although it was wrong; `beside` is their number without the mode",
    "recommend: right": f"held-back students in windows of their next {NEXT} answers, all forecast from before the "
    "first; the question with the forecast nearest to the target is recommended, and its real outcome counts where "
    f"the forecast is within {NEAR} of the target; `beside` is the mean forecast. 'At once': where it really was "
    "the next; otherwise up to four answers lie between, and students learn from them",
    "recommend: ms": f"median wall milliseconds of recommend(k=5, target=.7) of {CANDIDATES:,} questions, one thread",
}


def tracing_mastery(*, seeds: int = 1, root: str | None = None, quick: bool = False) -> list[Row]:
    """Monotone mode and recommendations on ASSISTments 2009, bands and half-lives on simulated students.

    Args:
        seeds: of the simulated students.
        root: folder of the real sets; see `load_log`.
        quick: few simulated students in place of both, to try the road.

    Returns:
        Rows `measure, on, part, n, value, beside, wanted`; stderr says how each measure is defined.
    """
    for name, text in (DEFINITIONS | TRUTHS).items():
        print(f"{name}: {text}", file=sys.stderr)
    rows: list[Row] = []
    for label, splits, judged in () if quick else _deals(root):
        with tempfile.TemporaryDirectory() as folder:
            bundle = _fitted(splits.train, splits.valid, Path(folder), seed=0, quick=quick)
            rows += [{"measure": name, "on": label} | row for name, row in _served(bundle, judged)]
    for seed in range(1 if quick else seeds):
        log = simulated(seed, students=100 if quick else STUDENTS)
        fold, told = log["fold"], log.drop("p_true")
        train, valid, judged = (told.filter(fold.is_in(folds)) for folds in ((0, 3, 4), (2,), (1,)))
        with tempfile.TemporaryDirectory() as folder:
            bundle = _fitted(train, valid, Path(folder), seed=seed, quick=quick)
            found = list(judged_by_truth(TracingPredictor(bundle, device="cpu"), log, fold == 1))
            found += _served(bundle, judged) if quick else []
        rows += [{"measure": name, "on": f"simulated, seed {seed}"} | row for name, row in found]
    return rows


def _served(bundle: Path, judged: pl.DataFrame) -> Iterator[tuple[str, Row]]:
    yield from _monotone(bundle, judged)
    yield from _replayed(TracingPredictor(bundle, device="cpu"), judged)
    yield from _latency(TracingSession(bundle), judged)


def _deals(root: str | None) -> Iterator[tuple[str, Splits, pl.DataFrame]]:
    """Students to fit on and to choose on, and those that judge: the default's own, then a cross-validation."""
    answered = load_log(root=root)
    name = answered.source.split(",")[0]
    default = split_by_fold(answered, train=[0, 2, 3, 4], valid=[1])
    yield f"{name}, fold 1 (chosen on)", default, default.valid
    for splits in crossed(answered, FOLDS):
        ((label, judged),) = splits.tests.items()
        yield f"{name}, {label}", splits, judged


def _fitted(train: pl.DataFrame, valid: pl.DataFrame, folder: Path, *, seed: int, quick: bool) -> Path:
    tracer = KnowledgeTracer(random_state=seed, trees=not quick, max_epochs=2 if quick else EPOCHS)
    return tracer.fit(train.drop("fold"), valid=valid.drop("fold")).export(folder / "bundle")


def _monotone(bundle: Path, judged: pl.DataFrame) -> Iterator[tuple[str, Row]]:
    y_n = judged["correct"].to_numpy()
    found = []
    for monotone in (False, True):
        predictor = TracingPredictor(bundle, device="cpu", monotone=monotone)
        found.append((auc(y_n, predictor.forecasts(judged)[:, 0]), *wrong_way(predictor, judged)))
    (plain, loose, asked), (held, violations, _) = found
    whole = {"part": "all answers", "n": len(y_n)}
    yield "monotone: AUC lost", whole | {"value": plain - held, "beside": plain, "wanted": "<= 0.003"}
    yield (
        "monotone: violations",
        whole | {"n": asked, "value": violations, "beside": loose, "wanted": "0"},
    )


def wrong_way(predictor: TracingPredictor, log: pl.DataFrame) -> tuple[int, int]:
    """How often reported mastery of an answered concept moves against the answer, and of how many times.

    Each answer is put between two rows that ask for the median question of each of its concepts.
    """
    vocabulary, answers = predictor.vocabulary, predictor.vocabulary.encode(log)
    given_n = np.isfinite(answers.x[:, CORRECT])
    at_A, slot_A = np.nonzero((answers.x[:, SLOT_1:] > 0) & given_n[:, None])
    concept_A = [vocabulary.concepts[int(c)] for c in answers.x[at_A, SLOT_1 + slot_A]]
    place_A = answers.row[at_A]
    asked = log[place_A.tolist()].with_columns(
        question_id=pl.Series([vocabulary.median_question[name] for name in concept_A], dtype=pl.String),
        concepts=pl.Series([[name] for name in concept_A], dtype=pl.List(pl.String)),
        correct=pl.lit(None, pl.Int8),
    )
    before, after = (asked.with_columns(at=pl.Series(place_A + shift)) for shift in (-0.25, 0.25))
    own = log.with_columns(at=pl.int_range(pl.len()).cast(pl.Float64))
    whole = pl.concat([own, before, after]).with_row_index("made").sort("at", maintain_order=True)
    p = np.empty(whole.height)
    p[whole["made"].to_numpy()] = predictor.forecasts(whole.drop("made", "at"))[:, 0]
    rise_A = p[log.height + len(at_A) :] - p[log.height :][: len(at_A)]
    right_A = answers.x[at_A, CORRECT] > 0
    return int(np.where(right_A, rise_A < 0, rise_A > 0).sum()), len(at_A)


def _replayed(predictor: TracingPredictor, judged: pl.DataFrame) -> Iterator[tuple[str, Row]]:
    p_WN, y_WN = windows(predictor, judged, NEXT)
    for target in TARGETS:
        best_W1 = np.array([nearest(p_N, target, 1) for p_N in p_WN]).reshape(-1, 1)
        p_W, y_W = (np.take_along_axis(part, best_W1, axis=1)[:, 0] for part in (p_WN, y_WN))
        near_W = np.abs(p_W - target) <= NEAR
        for when, met_W in (("", near_W), (", at once", near_W & (best_W1[:, 0] == 0))):
            if met_W.any():
                figures = {"value": float(y_W[met_W].mean()), "beside": float(p_W[met_W].mean())}
                row: Row = {"part": f"target {target}{when}", "n": int(met_W.sum())} | figures
                yield "recommend: right", row | {"wanted": f"{target} +- 0.05"}


def windows(predictor: TracingPredictor, log: pl.DataFrame, number: int) -> tuple[np.ndarray, np.ndarray]:
    """(W, N) forecasts and outcomes of each student's next `number` answers, all forecast from before the first."""
    own = log.filter(pl.col("correct").is_not_null()).with_columns(
        window=pl.int_range(pl.len()).over("student_id") // number
    )
    key = ["student_id", "window"]
    first = pl.col("timestamp").first().over(key)
    asked = own.with_columns(timestamp=first, correct=pl.lit(None, pl.Int8))
    rows = [part.with_columns(real=pl.lit(real)) for part, real in ((asked, False), (own, True))]
    whole = pl.concat(rows).with_columns(pl.len().over(key).alias("size"))
    whole = whole.sort("student_id", "window", "real", maintain_order=True)
    p = predictor.forecasts(whole.drop("window", "real", "size"))[:, 0]
    full = (whole["size"] == 2 * number).to_numpy()
    real = whole["real"].to_numpy()
    outcome = whole["correct"].fill_null(0).to_numpy()
    return p[full & ~real].reshape(-1, number), outcome[full & real].reshape(-1, number)


def _latency(session: TracingSession, judged: pl.DataFrame) -> Iterator[tuple[str, Row]]:
    student = judged["student_id"].value_counts(sort=True)["student_id"][0]
    history = judged.filter(pl.col("student_id") == student).head(100)
    for question, correct, concepts in history.select("question_id", "correct", "concepts").iter_rows():
        session.update(student, question, correct, concepts)
    known = session.vocabulary.questions[1 : CANDIDATES + 1]
    taken = []
    for _ in range(CALLS):
        start = time.perf_counter()
        session.recommend(student, 5, 0.7, known)
        taken.append(1e3 * (time.perf_counter() - start))
    part = {"part": f"{len(known)} candidates", "n": CALLS}
    yield "recommend: ms", part | {"value": float(np.median(taken)), "beside": None, "wanted": "<= 20"}

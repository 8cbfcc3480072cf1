"""Judge a tracing bundle as production will use it: through onnxruntime, beside the simple baselines it carries."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from ...data.tracing.metrics import answer_metrics, auc
from ...data.tracing.protocols import PROTOCOLS, Trial, headline, prepare
from ...data.tracing.schema import Log
from ...data.tracing.slices import RARE, slice_masks
from ...serving.tracing.baselines import tracing_baselines
from ...serving.tracing.predictor import TracingPredictor

__all__ = ["PROTOCOLS", "Verdict", "judge_log"]


@dataclass(frozen=True)
class Verdict:
    """Forecasts of the answers that a protocol scores, beside what was answered.

    trial: the log and what of it is scored. correct, question: (n,) of each scored answer. forecasts: (n,) by name: the
    bundle's first, then its members' and the baselines'. parts: (n,) masks by name. seconds: of the bundle's forecasts.
    """

    trial: Trial
    correct: np.ndarray
    question: np.ndarray
    forecasts: Mapping[str, np.ndarray]
    parts: Mapping[str, np.ndarray]
    seconds: float

    @property
    def headline(self) -> str:
        """The one number with its protocol, e.g. "AUC 0.7768 (honest, 52003 answers)"."""
        return headline([self.rows()[0]])

    def rows(self) -> list[dict[str, object]]:
        """`model, protocol, n, auc, nll, accuracy, brier, ece, core, leak_share` of the bundle and all beside it.

        The first, the bundle's, has `seconds` and what the protocol left out too.
        """
        rows: list[dict[str, object]] = []
        for name, p in self.forecasts.items():
            figures = answer_metrics(self.correct, p, self.question) | {"leak_share": self.trial.leak_share}
            rows.append({"model": name, "protocol": self.trial.protocol, **figures, "n": len(p)})
        rows[0] |= {"seconds": round(self.seconds, 3)} | dict(self.trial.left_out)
        return rows

    def slices(self) -> list[dict[str, object]]:
        """`slice, n`, then the AUC of every model, on each part of the answers that holds right and wrong ones."""
        rows: list[dict[str, object]] = []
        for name, mask in self.parts.items():
            if 0 < self.correct[mask].sum() < mask.sum():
                aucs = {model: auc(self.correct[mask], p[mask]) for model, p in self.forecasts.items()}
                rows.append({"slice": name, "n": int(mask.sum()), **aucs})
        return rows


def judge_log(predictor: TracingPredictor, log: Log, protocol: str = "honest") -> Verdict:
    """Forecast every answer of a log from those before it, and lay the labels beside.

    Args:
        protocol: what is scored; see `remem.data.tracing.protocols`. Under "akt-legacy" one number leaks.

    Raises:
        ValueError: where the protocol is not known, or nothing of the log is scored.
    """
    trial = prepare(log.frame, protocol)
    start = time.perf_counter()
    y_RO = predictor.forecasts(trial.log)
    seconds = time.perf_counter() - start
    names = ["bundle", *predictor.bundle.manifest["output"][1:]]
    forecasts = dict(zip(names, y_RO.T, strict=True))
    forecasts |= tracing_baselines(predictor.bundle, predictor.vocabulary, trial.log)
    answers = trial.answers
    # where questions have no ids, those of one list of concepts are one question
    question = answers["question_id"].fill_null(answers["concepts"].list.sort().list.join("\x1f"))
    return Verdict(
        trial=trial,
        correct=answers["correct"].fill_null(0).to_numpy()[trial.scored].astype(float),
        question=question.fill_null("").to_numpy()[trial.scored],
        forecasts={name: trial.fuse(p)[trial.scored] for name, p in forecasts.items()},
        parts={name: mask[trial.scored] for name, mask in _parts(predictor, answers).items()},
        seconds=seconds,
    )


def _parts(predictor: TracingPredictor, answers: pl.DataFrame) -> dict[str, np.ndarray]:
    """Masks of answers: those of `slice_masks`, with rare questions as the bundle's vocabulary counts them."""
    parts = slice_masks(answers)
    if answers["question_id"].null_count() < answers.height:
        vocabulary = predictor.vocabulary
        counts = dict(zip(vocabulary.questions, vocabulary.difficulty.question[:, 1], strict=True))
        seen = answers["question_id"].replace_strict(counts, default=0.0, return_dtype=pl.Float64).to_numpy()
        parts |= {"unseen_question": seen == 0, "rare_question": seen < RARE}
    return parts

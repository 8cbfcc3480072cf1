"""Judge a tracing bundle as production will use it: through onnxruntime, beside the simple baselines it carries."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from ...data.tracing.metrics import answer_metrics
from ...data.tracing.schema import Log
from ...data.tracing.slices import RARE, slice_masks
from ...serving.tracing.baselines import tracing_baselines
from ...serving.tracing.predictor import TracingPredictor

PROTOCOLS = ("honest", "pykt", "akt-legacy")


@dataclass(frozen=True)
class Verdict:
    """Forecasts of the answers of a log beside what was answered.

    protocol: what was scored. correct, question: (n,) of each scored answer. forecasts: (n,) by name, the bundle's
    first, then its members' and the baselines'. seconds: of the bundle's forecasts. parts: (n,) masks by name.
    """

    protocol: str
    correct: np.ndarray
    question: np.ndarray
    forecasts: Mapping[str, np.ndarray]
    seconds: float
    parts: Mapping[str, np.ndarray]

    @property
    def headline(self) -> dict[str, object]:
        """The one number: `protocol, n, auc`."""
        own = self.rows()[0]
        return {"protocol": self.protocol, "n": own["n"], "auc": own["auc"]}

    def rows(self) -> list[dict[str, object]]:
        """`model, n, auc, nll, accuracy, brier, ece, core` of the bundle, its members and each baseline."""
        rows: list[dict[str, object]] = []
        for name, p in self.forecasts.items():
            figures = answer_metrics(self.correct, p, self.question)
            rows.append({"model": name} | figures | {"n": len(p)})
        rows[0]["seconds"] = round(self.seconds, 3)
        return rows

    def slices(self) -> list[dict[str, object]]:
        """`slice, n`, then the AUC of every model, on each part of the answers that has both labels."""
        rows: list[dict[str, object]] = []
        for name, mask in self.parts.items():
            if 0 < self.correct[mask].sum() < mask.sum():
                aucs = {
                    model: answer_metrics(self.correct[mask], p[mask])["auc"]
                    for model, p in self.forecasts.items()
                }
                rows.append({"slice": name, "n": int(mask.sum())} | aucs)
        return rows


def judge_log(predictor: TracingPredictor, log: Log, protocol: str = "honest") -> Verdict:
    """Forecast every answer of a log from those before it, and lay the labels beside.

    Args:
        protocol: "honest" scores every answered question once.

    Raises:
        ValueError: where the protocol is not known, or the log has no answered question.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is '{protocol}'; wanted one of {', '.join(PROTOCOLS)}")
    frame = log.frame
    answered = frame["correct"].is_not_null().to_numpy()
    if not answered.any():
        raise ValueError("the log has no answered question; evaluation needs the column correct, 0 or 1")
    start = time.perf_counter()
    y_RO = predictor.forecasts(frame)
    seconds = time.perf_counter() - start
    names = ["bundle", *predictor.bundle.manifest["output"][1:]]
    forecasts = dict(zip(names, y_RO.T, strict=True))
    forecasts |= tracing_baselines(predictor.bundle, predictor.vocabulary, frame)
    concepts = frame["concepts"].list.join("\x1f")
    return Verdict(
        protocol=protocol,
        correct=frame["correct"].to_numpy()[answered].astype(float),
        # where questions have no ids, those of one list of concepts are one question
        question=frame["question_id"].fill_null(concepts).fill_null("").to_numpy()[answered],
        forecasts={name: p[answered] for name, p in forecasts.items()},
        seconds=seconds,
        parts={name: mask[answered] for name, mask in _parts(predictor, frame).items()},
    )


def _parts(predictor: TracingPredictor, frame: pl.DataFrame) -> dict[str, np.ndarray]:
    """Masks of rows: those of `slice_masks`, with rare questions as the bundle's vocabulary counts them."""
    parts = slice_masks(frame)
    if frame["question_id"].null_count() < frame.height:
        vocabulary = predictor.vocabulary
        counts = dict(zip(vocabulary.questions, vocabulary.difficulty.question[:, 1], strict=True))
        seen = frame["question_id"].replace_strict(counts, default=0.0, return_dtype=pl.Float64).to_numpy()
        parts |= {"unseen_question": seen == 0, "rare_question": seen < RARE}
    return parts

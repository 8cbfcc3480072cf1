"""The page that a fit leaves: the verdict as tables, and what the model says about students and concepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from ...data.tracing.metrics import calibration_error, reliability
from ...serving.tracing.predictor import TracingPredictor
from ..report import Report
from .curves import learning_curves
from .plots import MOST_SHOWN, class_overview, learning_curves_plot, mastery_heatmap, reliability_plot
from .sets import Splits

if TYPE_CHECKING:
    from .fitting import Judged

Rows = Sequence[Mapping[str, object]]
TYPICAL = 60
"""Answers of the student that is shown, if there is one with about as many."""


def fit_report(splits: Splits, judged: Sequence[Judged], rows: Rows, predictor: TracingPredictor) -> Report:
    """Figures, slices, calibration, learning curves, one student, one class."""
    manifest = predictor.bundle.manifest
    page = Report("Knowledge tracing").add(
        "Data",
        f"{splits.source}; {splits.words}.",
        f"Memory per student: {manifest['state_bytes']} bytes, whatever the length of the history.",
    )
    page.add("Verdict", _VERDICT, rows=rows)
    for one in judged:
        page.add(f"Where it is good and where it is not: {one.label}", _SLICES, rows=one.verdict.slices())
    ours = {one.label: (one.verdict.correct, one.verdict.forecasts["bundle"]) for one in judged}
    page.add(
        "Calibration",
        _CALIBRATION,
        figure=reliability_plot(
            {label: reliability(*pair) for label, pair in ours.items()},
            {label: calibration_error(*pair) for label, pair in ours.items()},
        ),
    )
    last = judged[-1]
    curves = learning_curves(last.frame, predictor.forecasts(last.frame)[:, 0])
    if curves.height:
        page.add("Learning curves", _CURVES, figure=learning_curves_plot(curves, names=splits.names))
    student = _typical(last.frame)
    if student.height:
        history = predictor.mastery_history(student)
        page.add("One student", _STUDENT, figure=mastery_heatmap(history, student, names=splits.names))
        some = last.frame["student_id"].unique(maintain_order=True).head(MOST_SHOWN)
        mastery = predictor.mastery(last.frame.filter(pl.col("student_id").is_in(some.to_list())))
        page.add("A class", _CLASS, figure=class_overview(mastery, names=splits.names))
    spread = manifest["spread"]
    if spread is not None:
        table = [
            {"answers on the concept, from": low, "spread of the true probability": sd}
            for low, sd in zip(spread["answers"], spread["sd"], strict=True)
        ]
        page.add("How sure mastery is", _SPREAD, rows=table)
    return page


def _typical(frame: pl.DataFrame) -> pl.DataFrame:
    """The answers of one student who practised a few concepts for a while; no rows where no answer has a concept."""
    told = frame.filter(pl.col("concepts").list.len() > 0)
    if not told.height:
        return told
    sizes = told.group_by("student_id", maintain_order=True).agg(
        pl.len().alias("answers"), pl.col("concepts").explode().n_unique().alias("kinds")
    )
    sizes = sizes.with_columns((pl.col("answers") - TYPICAL).abs().alias("off"))
    some = sizes.sort("off", maintain_order=True).head(10)
    chosen = some.sort("kinds", descending=True, maintain_order=True)["student_id"][0]
    return frame.filter(pl.col("student_id") == chosen)


_VERDICT = (
    "Every answer is forecast from the student's earlier answers alone, one row per answered question. auc: share of "
    "pairs of a right and a wrong answer that the forecast orders well; core: the same with right and wrong answers "
    "balanced within each question (what a model knows about students, not questions); ece: mean distance of forecast "
    "and share of right answers over 15 bins; nll in nats. Stopping, stacking and calibration have seen the students "
    "that are chosen on; test folds are new. Baselines stand in the same table, also where they win."
)
_SLICES = "AUC by what was known when the answer was given."
_CALIBRATION = "Among answers that are forecast at 70 %, 70 % should be right. Bars: 95 % by chance."
_CURVES = (
    "Share of right answers by opportunity on the most practised concepts. Later points are of those who went on, who "
    "are not the same students."
)
_STUDENT = (
    "Mastery of each concept after each answer: the probability of a right answer to its median question. Filled "
    "marks are right answers, open ones wrong answers."
)
_CLASS = (
    "Mastery after each student's last answer; grey where a student never tried. Above: number of students."
)
_SPREAD = (
    "Standard deviation of the true probability around a forecast of 1/2, from pairs of answers on one concept that "
    "are forecast from one state; around p it is 4 p (1 - p) of that. The band of a mastery is made from it."
)

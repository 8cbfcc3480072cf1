"""What mastery, bands and half-lives say of simulated students, beside what is true of them.

Every question has one concept here, so that the truth of a concept's median question is the truth of the concept.

Shape legend: n answers, C moments, D delays.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from ...data.tracing.simulate import GUESS, SLIP, simulate_log
from ...serving.tracing.mastery import bands
from ...serving.tracing.predictor import TracingPredictor
from .bands import EDGES

STUDENTS, QUESTIONS, CONCEPTS = 1_500, 300, 20
GAIN, FORGETTING = 0.6, 0.35
SHARES = (0.0, 0.5, 0.7, 0.9, 1.0)
DAYS = (1, 3, 10, 30)
MOMENTS = 1_500
SEEN_DAYS = 11.0
"""Hardly any time between two answers on a concept is longer."""
TRUTHS = {
    "band: true inside": "share of true probabilities of the question asked within lo..hi of the forecast from before "
    "the answer; `beside` is the mean width of the band",
    "later: fall": "mean fall of a concept's mastery in so many days from an answer to its median question; `beside` "
    "is the true fall",
    "later: half-life": "Spearman's rank correlation of half-life and true half-life just after such answers, where "
    f"the true one is within {SEEN_DAYS:.0f} days, the longest times between answers in training, and the model tells "
    "one; `beside` is the median ratio of the model's to the true one",
    "later: half-life told": f"share of moments with a true half-life within {SEEN_DAYS:.0f} days at which the model "
    "tells one; `beside` is that share where the truth has no half-life",
}
Row = dict[str, object]


def simulated(seed: int, *, students: int) -> pl.DataFrame:
    """A log with `fold` and `p_true`."""
    return simulate_log(
        students, QUESTIONS, CONCEPTS, seed=seed, gain=GAIN, forgetting=FORGETTING, two_concepts=0.0
    )


def judged_by_truth(
    predictor: TracingPredictor, log: pl.DataFrame, judged: pl.Series
) -> Iterator[tuple[str, Row]]:
    """Measure and row of all in `TRUTHS`.

    Args:
        log: of `simulated`.
        judged: (n,) rows of students that the model was not made with.
    """
    yield from _inside(predictor, log.filter(judged))
    yield from _later(predictor, log, judged)


def _inside(predictor: TracingPredictor, log: pl.DataFrame) -> Iterator[tuple[str, Row]]:
    median = list(predictor.vocabulary.median_question.values())
    seen_n = log.select(pl.int_range(pl.len()).over("student_id", _CONCEPT)).to_series().to_numpy()
    p_n = predictor.forecasts(log.drop("p_true"))[:, 0].astype(float)
    lo_n, hi_n = bands(predictor.bundle, p_n, seen_n)
    true_n = log["p_true"].to_numpy()
    inside_n = (lo_n <= true_n) & (true_n <= hi_n)
    parts = {"all": np.ones(len(p_n), bool), "median questions": log["question_id"].is_in(median).to_numpy()}
    for low, high in zip(EDGES, [*EDGES[1:], np.inf], strict=True):
        parts[f"{low} to {high - 1:.0f} answers before"] = (seen_n >= low) & (seen_n < high)
    for least, most in pairwise(SHARES):
        parts[f"forecast {least} to {most}"] = (p_n >= least) & (p_n < most)
    for name, part in parts.items():
        if part.any():
            value, width = float(inside_n[part].mean()), float((hi_n - lo_n)[part].mean())
            row = {"part": name, "n": int(part.sum()), "value": value, "beside": width}
            yield "band: true inside", row | {"wanted": f"{predictor.bundle.manifest['confidence']}"}


def _later(predictor: TracingPredictor, log: pl.DataFrame, judged: pl.Series) -> Iterator[tuple[str, Row]]:
    rows = _known(log)
    median = list(predictor.vocabulary.median_question.values())
    moments = rows.filter(judged & rows["question_id"].is_in(median)).head(MOMENTS)
    moments = moments.with_columns(copy=pl.int_range(pl.len()).cast(pl.String))
    columns = ["student_id", "question_id", "concepts", "correct", "timestamp"]
    # a copy of the student for each moment, whose history ends with it
    copies = moments.select("student_id", "copy", end="place").join(
        rows.select(*columns, "place"), on="student_id", maintain_order="left_right"
    )
    copies = copies.filter(pl.col("place") <= pl.col("end"))
    copies = copies.select(pl.col("copy").alias("student_id"), *columns[1:])
    after_C, never_C = moments["after"].to_numpy(), moments["never"].to_numpy()
    now_C = _chance(after_C)

    delays = [timedelta(0), *map(timedelta, DAYS)]
    asked = [
        moments.select(
            pl.col("copy").alias("student_id"),
            *columns[1:3],
            pl.lit(None, pl.Int8).alias("correct"),
            pl.col("timestamp") + delay,
        )
        for delay in delays
    ]
    p = predictor.forecasts(pl.concat([copies, *asked]))[copies.height :, 0]
    p_DC = p.reshape(len(delays), -1).astype(float)
    for day, p_C in zip(DAYS, p_DC[1:], strict=True):
        true_C = now_C - _chance(after_C - FORGETTING * np.log1p(day))
        fall = {"value": float((p_DC[0] - p_C).mean()), "beside": float(true_C.mean())}
        yield "later: fall", {"part": f"{day} days", "n": len(now_C)} | fall | {"wanted": "as beside"}

    half_C = np.expm1((after_C - _linked((now_C + never_C) / 2)) / FORGETTING)
    found = moments.join(
        predictor.mastery(copies), left_on=["copy", "concept"], right_on=["student_id", "concept"], how="left"
    )
    told_C = found["half_life_days"].fill_null(np.nan).to_numpy()
    near_C, none_C, tells_C = (
        (now_C > never_C) & (half_C <= SEEN_DAYS),
        now_C <= never_C,
        np.isfinite(told_C),
    )
    both_C = near_C & tells_C
    part = {"part": "after answers to median questions"}
    if both_C.sum() > 2:
        rank = float(spearmanr(half_C[both_C], told_C[both_C]).statistic)
        ratio = float(np.median(told_C[both_C] / half_C[both_C]))
        yield (
            "later: half-life",
            part | {"n": int(both_C.sum()), "value": rank, "beside": ratio, "wanted": None},
        )
    if near_C.any() and none_C.any():
        told = {"value": float(tells_C[near_C].mean()), "beside": float(tells_C[none_C].mean())}
        yield "later: half-life told", part | {"n": int(near_C.sum())} | told | {"wanted": None}


def _known(log: pl.DataFrame) -> pl.DataFrame:
    """The log with `concept`, `place` of the answer, and by the formula of `simulate_log`: `after`, what was known of
    the question right after the answer, and `never`, the mean chance of students who never practised."""
    own = ("student_id", _CONCEPT)
    times = log.select(
        pl.int_range(pl.len()).over(*own).alias("practice"),
        (pl.col("timestamp").diff().over(*own).dt.total_seconds() / 86_400).fill_null(0).alias("away"),
    )
    practice_n, away_n = times["practice"].to_numpy(), times["away"].to_numpy()
    fresh_n = _linked(log["p_true"].to_numpy()) - GAIN * np.log1p(practice_n) + FORGETTING * np.log1p(away_n)
    return log.with_columns(
        concept=_CONCEPT,
        place=pl.int_range(pl.len()).over("student_id"),
        after=pl.Series(fresh_n + GAIN * np.log1p(practice_n + 1)),
        never=pl.Series(_chance(fresh_n)),
    ).with_columns(pl.col("never").mean().over("question_id"))


def _linked(p_n: np.ndarray) -> np.ndarray:
    """What `simulate_log` adds up, from the probability that it makes of it."""
    share_n = np.clip((p_n - GUESS) / (1 - SLIP - GUESS), 1e-12, 1 - 1e-12)
    return np.log(share_n) - np.log1p(-share_n)


def _chance(known_n: np.ndarray) -> np.ndarray:
    """The inverse of `_linked`."""
    return GUESS + (1 - SLIP - GUESS) / (1 + np.exp(-known_n))


_CONCEPT = pl.col("concepts").list.first()

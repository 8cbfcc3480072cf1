"""What a forecast of answers is judged by: discrimination, calibration, and how sure a difference is. numpy only.

Everywhere: n answers, `correct` (n,) of 0 and 1, `p` (n,) the forecast probability that the answer is right.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

BINS = 15
"""Equal-width bins of the expected calibration error, as in Guo et al. (2017)."""

_LEAST = 1e-7  # a forecast of exactly 0 or 1 that is wrong costs 16 nats, not infinitely many


def auc(correct: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Share of pairs (right answer, wrong answer) whose right answer has the higher forecast; ties count half.

    Args:
        weights: (n,) >= 0, how often each answer counts. Default: once.

    Returns:
        nan where no pair has weight: all answers right, or all wrong.
    """
    correct, p = _checked(correct, p)
    weights = np.ones(len(p)) if weights is None else np.asarray(weights, float)
    return _Ranked(correct, p).auc(weights)


def log_loss(correct: np.ndarray, p: np.ndarray) -> float:
    """Mean negative log-likelihood in nats; forecasts are clipped to [1e-7, 1 - 1e-7]."""
    correct, p = _checked(correct, p)
    p = np.clip(p, _LEAST, 1 - _LEAST)
    return float(-np.mean(np.where(correct > 0, np.log(p), np.log1p(-p))))


def accuracy(correct: np.ndarray, p: np.ndarray) -> float:
    """Share of answers on the side of 1/2 that was forecast; 1/2 itself forecasts a right answer."""
    correct, p = _checked(correct, p)
    return float(np.mean((p >= 0.5) == (correct > 0)))


def brier(correct: np.ndarray, p: np.ndarray) -> float:
    """Mean squared error of the probability."""
    correct, p = _checked(correct, p)
    return float(np.mean((p - correct) ** 2))


def reliability(correct: np.ndarray, p: np.ndarray, *, bins: int = BINS) -> pl.DataFrame:
    """The reliability diagram as a table: `lo, hi, n, mean_p, share_correct`, one row per bin that is not empty.

    Bins are of equal width, closed below; the last one holds p = 1 too.
    """
    correct, p = _checked(correct, p)
    place = np.minimum((p * bins).astype(int), bins - 1)
    n = np.bincount(place, minlength=bins)
    used = np.flatnonzero(n)
    return pl.DataFrame(
        {
            "lo": used / bins,
            "hi": (used + 1) / bins,
            "n": n[used],
            "mean_p": np.bincount(place, p, bins)[used] / n[used],
            "share_correct": np.bincount(place, correct, bins)[used] / n[used],
        }
    )


def calibration_error(correct: np.ndarray, p: np.ndarray, *, bins: int = BINS) -> float:
    """Expected calibration error: mean over answers of |mean forecast - share correct| of the answer's bin."""
    table = reliability(correct, p, bins=bins)
    gap = (table["mean_p"] - table["share_correct"]).abs()
    return float((gap * table["n"]).sum() / len(p))


def core_weights(questions: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """(n,) weights that balance right and wrong answers within each question.

    Cui et al. (2023, arXiv 2308.07779) draw, with replacement, floor(n_q / 2) right and as many wrong answers of each
    question q, and leave out questions with one kind of answer only. A right answer is then drawn
    floor(n_q / 2) / right_q times on average: that is its weight, so that no chance is left in the figure.
    """
    _, question = np.unique(np.asarray(questions), return_inverse=True)
    right = np.bincount(question, correct)[question]
    wrong = np.bincount(question, 1 - np.asarray(correct, float))[question]
    both = (right > 0) & (wrong > 0)
    own = np.where(np.asarray(correct) > 0, right, wrong)
    return np.where(both, (right + wrong) // 2 / np.maximum(own, 1), 0.0)


def core(correct: np.ndarray, p: np.ndarray, questions: np.ndarray) -> float:
    """CORE: the AUC with `core_weights`. Knowing how hard each question is earns nothing; .5 is blind to students."""
    return auc(correct, p, core_weights(questions, correct))


def answer_metrics(
    correct: np.ndarray, p: np.ndarray, questions: np.ndarray | None = None
) -> dict[str, float]:
    """`n, auc, nll, accuracy, brier, ece` and, where `questions` (n,) are given, `core`."""
    out = {
        "n": float(len(correct)),
        "auc": auc(correct, p),
        "nll": log_loss(correct, p),
        "accuracy": accuracy(correct, p),
        "brier": brier(correct, p),
        "ece": calibration_error(correct, p),
    }
    if questions is not None:
        out["core"] = core(correct, p, questions)
    return out


def bootstrap_auc(
    correct: np.ndarray,
    forecasts: Sequence[np.ndarray],
    students: np.ndarray,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """(draws, len(forecasts)) AUC under redrawn students; a draw takes the same students for every forecast.

    Args:
        forecasts: each (n,).
        students: (n,) student of each answer; whole students are redrawn, as answers of one are not independent.
    """
    _, student = np.unique(np.asarray(students), return_inverse=True)
    ranked = [_Ranked(*_checked(correct, p)) for p in forecasts]
    sorted_students = [student[r.order] for r in ranked]
    count, rng = int(student.max()) + 1, np.random.default_rng(seed)
    out = np.empty((draws, len(ranked)))
    for draw in range(draws):
        times = np.bincount(rng.integers(0, count, count), minlength=count).astype(float)
        out[draw] = [r.auc_sorted(times[s]) for r, s in zip(ranked, sorted_students, strict=True)]
    return out


def auc_difference(
    correct: np.ndarray,
    p: np.ndarray,
    other: np.ndarray,
    students: np.ndarray,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """AUC of `p` minus that of `other`, paired: `difference`, its 95 % percentile interval `lo, hi`, and `worse`.

    worse: share of draws in which `p` does not beat `other`, a one-sided bootstrap p-value.
    """
    drawn = bootstrap_auc(correct, [p, other], students, draws=draws, seed=seed)
    differences = drawn[:, 0] - drawn[:, 1]
    lo, hi = np.nanpercentile(differences, [2.5, 97.5])
    return {
        "difference": auc(correct, p) - auc(correct, other),
        "lo": float(lo),
        "hi": float(hi),
        "worse": float(np.mean(differences <= 0)),
    }


class _Ranked:
    """Answers sorted once by their forecast, so that any weighting of them costs one pass."""

    def __init__(self, correct: np.ndarray, p: np.ndarray) -> None:
        self.order = np.argsort(p, kind="stable")
        ranked = p[self.order]
        self.right = correct[self.order]
        first = np.flatnonzero(np.diff(ranked, prepend=-1.0))  # of each run of equal forecasts
        group = np.cumsum(np.diff(ranked, prepend=-1.0) != 0) - 1
        self.below, self.upto = first[group], np.append(first[1:], len(p))[group]
        self.ties = len(first) < len(p)

    def auc(self, weights: np.ndarray) -> float:
        return self.auc_sorted(weights[self.order])

    def auc_sorted(self, weights: np.ndarray) -> float:
        right = weights * self.right
        wrong = np.concatenate([[0.0], np.cumsum(weights - right)])
        beaten = (wrong[self.below] + wrong[self.upto]) / 2 if self.ties else wrong[:-1]
        pairs = right.sum() * wrong[-1]
        return float(right @ beaten / pairs) if pairs > 0 else float("nan")


def _checked(correct: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64, after the checks that every figure needs."""
    correct, p = np.asarray(correct, float), np.asarray(p, float)
    if correct.shape != p.shape or p.ndim != 1:
        raise ValueError(
            f"metrics: correct has shape {correct.shape} and p {p.shape}; give one forecast per answer, both (n,)"
        )
    if not len(p):
        raise ValueError("metrics: no answers to judge; give rows whose correct is 0 or 1")
    if not np.isin(correct, (0, 1)).all():
        bad = correct[~np.isin(correct, (0, 1))]
        raise ValueError(
            f"metrics: correct must be 0 or 1, got {bad[0]} ({len(bad)} rows); leave out unanswered rows"
        )
    outside = ~((p >= 0) & (p <= 1))
    if outside.any():
        where = int(np.flatnonzero(outside)[0])
        raise ValueError(
            f"metrics: p must be a probability, got {p[where]} at row {where} ({int(outside.sum())} rows)"
        )
    return correct, p

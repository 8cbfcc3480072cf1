"""Mastery of a concept: the calibrated probability of a right answer to its median question, and how sure that is.

Shape legend: N concepts of students, L later times.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betaincinv

from ..bundle import Bundle

LATER = 15.0 * 4.0 ** np.arange(10)
"""Minutes after which the model is asked again for the half-life: a quarter of an hour to seven years."""

_MINUTES_A_DAY = 1440.0
_LEAST = 1e-6  # of a probability and of the worth of a band in answers: keeps both ends of the band numbers


def bands(bundle: Bundle, p_N: np.ndarray, answers_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the true probability lies, with the bundle's confidence: (N,) lower and upper ends.

    A beta distribution with the forecast p as its mean and the spread of true probabilities around forecasts that
    validation showed after as many answers on the concept: the manifest's at p = 1/2, and 4 p (1 - p) of that
    elsewhere. NaN where the bundle knows no spread.

    Args:
        p_N: forecasts.
        answers_N: answers of the student on the concept so far.
    """
    spread = bundle.manifest["spread"]
    if spread is None:
        return np.full(len(p_N), np.nan), np.full(len(p_N), np.nan)
    place = np.searchsorted(spread["answers"], answers_N, side="right") - 1
    p_N = np.clip(np.asarray(p_N, float), _LEAST, 1 - _LEAST)
    room_N = p_N * (1 - p_N)
    variance_N = np.square(4 * room_N * np.asarray(spread["sd"], float)[place])
    worth = np.maximum(room_N / np.maximum(variance_N, _LEAST**2) - 1, _LEAST)
    tail = (1 - bundle.manifest["confidence"]) / 2
    a, b = p_N * worth, (1 - p_N) * worth
    # so skew a beta may have its mean outside: the band always holds the forecast
    return np.minimum(betaincinv(a, b, tail), p_N), np.maximum(betaincinv(a, b, 1 - tail), p_N)


def half_life_days(now_N: np.ndarray, later_NL: np.ndarray, never_N: np.ndarray) -> np.ndarray:
    """(N,) days until mastery's excess over the never-practised level has halved; NaN where it does not within `LATER`.

    Args:
        now_N: mastery now; without excess there is nothing to halve, so NaN.
        later_NL: mastery `LATER` minutes from now, with no answer between.
        never_N: mastery of a student of whom nothing is known.
    """
    excess_NL = np.concatenate([now_N[:, None], later_NL], axis=1) - never_N[:, None]
    half_N = excess_NL[:, 0] / 2
    below_NL = excess_NL <= half_N[:, None]
    first_N = below_NL.argmax(axis=1)
    halves_N = (excess_NL[:, 0] > _LEAST) & (first_N > 0)
    n, times = np.arange(len(now_N)), np.concatenate([[0.0], LATER])
    before, after = np.maximum(first_N - 1, 0), np.maximum(first_N, 1)
    left, right = excess_NL[n, before], np.maximum(excess_NL[n, after], _LEAST)
    # between two times the excess is taken to fall exponentially
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.log(left / half_N) / np.log(left / right)
        minutes = times[before] + share * (times[after] - times[before])
    return np.where(halves_N, minutes / _MINUTES_A_DAY, np.nan)

"""The features of the concept memory by name, and how those are made that are one linear form over another.

A linear form is taken of exact terms: whole numbers and sums on the grid of the memory. One division of two such forms
has the same last bit everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

RING = 32
"""Last answers that are kept one by one."""

BITS = 16
"""Last outcomes on a concept, packed into one integer."""

CONCEPT_DECAYS = {"fast": 0.5, "mid": 0.75, "slow": 0.875}
STUDENT_DECAYS = {"fast": 0.75, "mid": 0.875, "slow": 0.9375}


def _average(name: str, decay: float, length: int) -> dict[str, float]:
    """Moving average of the terms name_1 (newest) .. name_length, in fixed point."""
    weights = [round((1 - decay) * decay**j * 4096) / 4096 for j in range(length)]
    return {f"{name}_{j + 1}": weight for j, weight in enumerate(weights) if weight}


def _linear_features() -> dict[str, tuple[Mapping[str, float], Mapping[str, float]]]:
    """Features that are one linear form of exact terms over another, by name."""
    one = {"1": 1.0}
    slots = {"slots": 1.0}
    trials, answers = {"attempts": 1.0, "1": 2.0}, {"answers": 1.0, "1": 2.0}
    features: dict[str, tuple[Mapping[str, float], Mapping[str, float]]] = {
        "q_mean": ({"q_mean": 1.0}, one),
        "q_count": ({"q_count": 1.0}, one),
        "q_attempts": ({"q_attempts": 1.0}, one),
        "q_wins": ({"q_wins": 1.0}, one),
        "q_last": ({"q_last": 1.0}, one),
        "q_ago": ({"q_ago": 1.0}, one),
        "c_mean": ({"share": 1.0}, slots),
        "c_attempts": ({"attempts": 1.0}, one),
        "c_wins": ({"wins": 1.0}, one),
        "c_fails": ({"attempts": 1.0, "wins": -1.0}, one),
        "c_rate": ({"wins": 1.0, "1": 1.0}, trials),
    }
    for speed, decay in CONCEPT_DECAYS.items():
        features[f"c_ema_{speed}"] = (_average("bit", decay, BITS) | {"slots": 0.5}, slots)
    features |= {
        "c_last5": ({f"bit_{j}": 1.0 for j in range(1, 6)} | {"slots": 2.5}, slots),
        "c_residual": ({"residual": 1.0}, one),
        "c_residual_mean": ({"residual": 1.0}, trials),
        "c_new": ({"new": 1.0}, one),
        "num_concepts": ({"used": 1.0}, one),
        "s_answers": ({"answers": 1.0}, one),
        "s_wins": ({"s_wins": 1.0}, one),
        "s_rate": ({"s_wins": 1.0, "1": 1.0}, answers),
    }
    for speed, decay in STUDENT_DECAYS.items():
        features[f"s_ema_{speed}"] = (_average("outcome", decay, RING) | {"1": 0.5}, one)
    return features | {
        "s_residual_mean": ({"s_residual": 1.0}, answers),
        "s_residual_ema": (_average("residual", STUDENT_DECAYS["mid"], RING), one),
        "s_streak": ({"wrong_ago": 1.0, "1": -1.0}, one),
        "run": ({"other_ago": 1.0, "1": -1.0}, one),
        "run_wins": ({"run_wins": 1.0}, one),
    }


TERMS = (
    *("share", "attempts", "wins", "residual", "new", "slots", "used"),
    *(f"bit_{j}" for j in range(1, BITS + 1)),
    *(f"outcome_{j}" for j in range(RING, 0, -1)),
    *(f"residual_{j}" for j in range(RING, 0, -1)),
    *("answers", "s_wins", "s_residual", "q_mean", "q_count", "q_attempts", "q_wins", "run_wins"),
    *("q_ago", "wrong_ago", "other_ago", "q_last"),
)
"""Exact terms V, in the order in which `ConceptMemory` lays them out; bit, outcome and residual from 1, the newest."""

LINEAR = _linear_features()
OTHERS = ("c_min", "c_ago", "c_minutes", "s_minutes")
TOLD = (
    *("s_concepts", "q_last_mean", "q_run_mean", "q_attempts_mean", "q_rate_mean"),
    *("c_position", "c_fresh", "cc_mean", "q_able_mean", "q_try_mean", "c_run_mean"),
)
"""Concepts met, and what the tables tell of the question after such a last answer, of the situations in which question
and first concept come, of the first concept after that of the last answer, of the question for students this able and
at such a try, and of the first concept after such a run.
"""

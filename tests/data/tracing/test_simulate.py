"""Simulated students have the truth they claim."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from remem.data.tracing.checks import validate
from remem.data.tracing.metrics import auc, calibration_error
from remem.data.tracing.schema import conform
from remem.data.tracing.simulate import simulate_log, simulate_practice


def test_a_simulated_log_is_a_sound_log_and_repeats_with_its_seed():
    frame = simulate_log(100, 60, 8, seed=1)
    log = conform(frame, source="t")
    assert log.frame.equals(frame.drop("p_true"))
    faults = {
        "label_copy",
        "two_splits",
        "unsorted_time",
        "changing_concepts",
        "duplicate_rows",
        "no_concepts",
    }
    assert not faults & set(validate(frame).counts)
    assert simulate_log(100, 60, 8, seed=1).equals(frame)
    assert not simulate_log(100, 60, 8, seed=2).equals(frame)
    lengths = frame.group_by("student_id").len()["len"]
    assert lengths.min() >= 20
    assert lengths.max() <= 120
    assert frame["concepts"].list.len().value_counts().height == 2


def test_the_true_probability_is_calibrated_and_no_forecast_beats_it():
    frame = simulate_log(500, seed=0)
    label, p = frame["correct"].to_numpy(), frame["p_true"].to_numpy()
    assert calibration_error(label, p) < 0.012
    assert auc(label, p) > 0.72
    assert p.min() >= 0.15
    assert p.max() <= 0.95


def test_practice_helps_and_time_hurts():
    def late_gain(**changes: float) -> float:
        frame = simulate_log(400, 40, 4, seed=5, **changes)
        step = pl.int_range(pl.len()).over("student_id")
        late, early = frame.filter(step >= 20)["p_true"].mean(), frame.filter(step < 5)["p_true"].mean()
        return late - early

    assert late_gain(gain=0.8, forgetting=0.0) > 0.1
    assert abs(late_gain(gain=0.0, forgetting=0.0)) < 0.03
    assert late_gain(gain=0.0, forgetting=0.8) < -0.008


def test_without_times_and_with_one_concept_each():
    frame = simulate_log(10, 5, 5, timestamps=False, two_concepts=0.0)
    assert frame["timestamp"].null_count() == frame.height
    assert set(frame["concepts"].list.len()) == {1}
    assert simulate_log(3, 1, 1, answers=(1, 1)).height == 3


def test_the_practice_effect_is_the_formula():
    frame = simulate_practice(40, 60, 6, seed=2, gain=0.7, forgetting=0.4)
    assert frame.height == 40 * 60
    logit = np.log(frame["p_true"] / (1 - frame["p_true"])).to_numpy().reshape(40, 60)
    concept = frame["concepts"].list.first().to_numpy().reshape(40, 60)
    # what remains without practice and forgetting is ability minus difficulty: additive in student and concept
    rest: dict[tuple[int, str], list[float]] = {}
    for s in range(40):
        count: dict[str, int] = {}
        last: dict[str, int] = {}
        for t in range(60):
            c = concept[s, t]
            gap = t - last[c] if c in last else 0
            value = logit[s, t] - 0.7 * np.log1p(count.get(c, 0)) + 0.4 * np.log1p(gap)
            rest.setdefault((s, c), []).append(value)
            count[c] = count.get(c, 0) + 1
            last[c] = t
    assert max(np.ptp(values) for values in rest.values()) < 1e-9
    mean = {key: values[0] for key, values in rest.items()}
    pairs = [(mean[s, "c1"] - mean[s, "c2"]) for s in range(40) if (s, "c1") in mean and (s, "c2") in mean]
    assert np.ptp(pairs) < 1e-9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_students": 0}, "num_students is 0"),
        ({"answers": (5, 2)}, r"answers is \(5, 2\)"),
        ({"slip": 0.6, "guess": 0.6}, r"slip \+ guess is 1.2"),
        ({"two_concepts": -0.1}, "two_concepts is -0.1"),
    ],
)
def test_impossible_students_are_refused(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        simulate_log(**changes)

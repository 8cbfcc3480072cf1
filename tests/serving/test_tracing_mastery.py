"""Bands and half-lives against what they were made of; asked rows stand where they should; baselines by hand."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from remem.data.tracing.answers import Answers
from remem.data.tracing.schema import conform
from remem.serving.bundle import open_bundle
from remem.serving.tracing.asking import insert
from remem.serving.tracing.baselines import tracing_baselines
from remem.serving.tracing.mastery import LATER, bands, half_life_days


def bundle(**spread):
    return SimpleNamespace(manifest={"spread": spread or None, "confidence": 0.8})


def test_band_is_that_of_a_beta_with_the_spread_of_its_answers():
    lo, hi = bands(
        bundle(answers=[0, 3, 10], sd=[0.2, 0.1, 0.05]), np.full(5, 0.6), np.array([0, 2, 3, 10, 99])
    )
    for i, even in enumerate([0.2, 0.2, 0.1, 0.05, 0.05]):
        sd = even * 4 * 0.6 * 0.4  # told for a forecast of 1/2
        worth = 0.6 * 0.4 / sd**2 - 1
        assert (lo[i], hi[i]) == pytest.approx(beta(0.6 * worth, 0.4 * worth).ppf([0.1, 0.9]))
        drawn = beta(0.6 * worth, 0.4 * worth)
        assert (drawn.mean(), drawn.std()) == pytest.approx((0.6, sd))


def test_a_sure_forecast_has_a_narrow_band():
    lo, hi = bands(bundle(answers=[0], sd=[0.15]), np.array([0.02, 0.5, 0.98]), np.zeros(3))
    width = hi - lo
    assert width[0] == pytest.approx(width[2])
    assert width[0] < 0.15 * width[1]


@given(p=st.floats(0, 1), sd=st.floats(0, 0.7))
def test_band_always_holds_the_forecast(p, sd):
    lo, hi = bands(bundle(answers=[0], sd=[sd]), np.array([p]), np.array([4]))
    assert 0 <= lo[0] <= p + 2e-6
    assert p - 2e-6 <= hi[0] <= 1


def test_no_spread_no_band():
    assert np.isnan(bands(bundle(), np.array([0.5]), np.array([3]))).all()


@pytest.mark.parametrize("days", [0.02, 0.7, 7.0, 400.0])
def test_half_life_of_an_exponential_is_found_exactly(days):
    now, never = np.array([0.9]), np.array([0.4])
    later = never + 0.5 * 2 ** (-LATER[None] / 1440 / days)
    assert half_life_days(now, later, never)[0] == pytest.approx(days, rel=1e-6)


def test_no_half_life_without_excess_or_without_its_halving():
    now, never = np.array([0.4, 0.3, 0.9, 0.9]), np.array([0.4, 0.4, 0.4, 0.4])
    later = np.tile(now[:, None], (1, len(LATER)))
    later[2] = 0.66  # falls to half and a little
    later[3, 5:] = 0.4  # is gone at once
    got = half_life_days(now, later, never)
    assert np.isnan(got[:3]).all()
    assert LATER[4] / 1440 <= got[3] <= LATER[5] / 1440


@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.integers(0, 12), st.integers(0, 99))
def test_asked_rows_stand_before_their_answers(lengths, asked, seed):
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    x = np.arange(offsets[-1], dtype=np.float32)[:, None]
    answers = Answers(x, tuple(map(str, range(len(lengths)))), offsets, np.arange(len(x)))
    student = random.integers(len(lengths), size=asked)
    before = np.array([random.integers(offsets[s], offsets[s + 1] + 1) for s in student], int)
    new = 1000 + np.arange(asked, dtype=np.float32)[:, None]
    whole, old_places, new_places = insert(answers, new, student, before)
    wanted = []
    for s in range(len(lengths)):
        mine = []
        for place in range(offsets[s], offsets[s + 1] + 1):
            mine += [1000 + a for a in range(asked) if (student[a], before[a]) == (s, place)]
            mine += [place] if place < offsets[s + 1] else []
        wanted.append(mine)
    assert [
        whole.x[a:b, 0].tolist() for a, b in zip(whole.offsets, whole.offsets[1:], strict=False)
    ] == wanted
    np.testing.assert_array_equal(whole.x[old_places], x)
    np.testing.assert_array_equal(whole.x[new_places], new)
    np.testing.assert_array_equal(whole.row[old_places], answers.row)


def test_baselines_of_a_manifest(make_tracing_bundle, tracing_vocabulary, tmp_path):
    weights = {
        "features": ["q_mean", "log1p_c_wins", "c_fails"],
        "weights": [2.0, 0.5, -0.25],
        "intercept": -1.0,
    }
    specs = {
        "rate": {"kind": "constant", "value": 0.7},
        "mean": {"kind": "question_mean"},
        "practice": {"kind": "pfa", **weights},
    }
    opened = open_bundle(make_tracing_bundle(tmp_path / "bundle", baselines=specs))
    rows = [("x", "q1", 1), ("y", "q4", 0), ("x", "q2", 1), ("x", "q3", 0), ("x", "q1", 1), ("y", "q4", 1)]
    frame = pl.DataFrame(rows, schema=["student_id", "question_id", "correct"], orient="row")
    frame = conform(frame, source="test").frame
    got = tracing_baselines(opened, tracing_vocabulary, frame)
    place = [tracing_vocabulary.questions.index(q) for q in frame["question_id"]]
    share = tracing_vocabulary.difficulty.question[place, 0]
    assert "".join(frame["student_id"]) == "xxxxyy"
    np.testing.assert_array_equal(got["rate"], 0.7)
    np.testing.assert_allclose(got["mean"], share)
    wins, fails = np.array([0, 1, 2, 2, 0, 0]), np.array([0, 0, 0, 1, 0, 1])
    z = -1 + 2 * share + 0.5 * np.log1p(wins) - 0.25 * fails
    np.testing.assert_allclose(got["practice"], 1 / (1 + np.exp(-z)))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "oracle"}, "baseline odd is of kind 'oracle'"),
        ({"kind": "pfa", "features": ["q_men"], "weights": [1], "intercept": 0}, r"needs \['q_men'\]"),
    ],
)
def test_baselines_that_cannot_be_computed_are_named(
    make_tracing_bundle, tracing_vocabulary, tmp_path, spec, message
):
    opened = open_bundle(make_tracing_bundle(tmp_path / "bundle", baselines={"odd": spec}))
    frame = conform(
        pl.DataFrame({"student_id": ["a"], "question_id": ["q1"], "correct": [1]}), source="t"
    ).frame
    with pytest.raises(ValueError, match=message):
        tracing_baselines(opened, tracing_vocabulary, frame)


@pytest.mark.parametrize(
    "spread",
    [
        {"answers": [1, 2], "sd": [0.1, 0.1]},
        {"answers": [0, 2, 1], "sd": [0.1] * 3},
        {"answers": [0], "sd": []},
        {"answers": [0], "sd": [-0.1]},
        {"answers": [0]},
        [0.1],
    ],
)
def test_a_spread_that_is_none_is_refused(make_tracing_bundle, tmp_path, spread):
    with pytest.raises(ValueError, match="spread is"):
        open_bundle(make_tracing_bundle(tmp_path / "bundle", spread=spread))

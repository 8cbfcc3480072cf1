"""Curves are the right numbers, and pictures show them."""

import numpy as np
import polars as pl
import pytest
from matplotlib.collections import PathCollection
from polars.testing import assert_frame_equal

from remem.apps.tracing.curves import learning_curves
from remem.apps.tracing.plots import (
    class_overview,
    learning_curves_plot,
    mastery_heatmap,
    reliability_plot,
)
from remem.data.tracing.metrics import reliability
from remem.data.tracing.simulate import simulate_log


@pytest.fixture(scope="module")
def log():
    return simulate_log(80, 30, 4, seed=5, answers=(4, 30))


def test_curves_are_those_of_a_loop(log):
    p = np.random.default_rng(0).uniform(size=log.height)
    table = learning_curves(log, p, concepts=2, most=6, fewest=10)
    seen, cells, total = {}, {}, {}
    for (student, concepts, correct), forecast in zip(
        log.select("student_id", "concepts", "correct").iter_rows(), p, strict=True
    ):
        for concept in concepts:
            total[concept] = total.get(concept, 0) + 1
            k = seen[student, concept] = seen.get((student, concept), 0) + 1
            cells.setdefault((concept, k), []).append((correct, forecast))
    chosen = sorted(total, key=lambda c: -total[c])[:2]
    assert table["concept"].unique(maintain_order=True).to_list() == chosen
    wanted = {
        key: np.mean(v, axis=0)
        for key, v in cells.items()
        if key[0] in chosen and key[1] <= 6 and len(v) >= 10
    }
    assert table.height == len(wanted)
    for row in table.iter_rows(named=True):
        right, forecast = wanted[row["concept"], row["opportunity"]]
        assert row["observed"] == pytest.approx(right)
        assert row["forecast"] == pytest.approx(forecast)
        assert 0 <= row["lo"] < row["observed"] < row["hi"] <= 1


def test_questions_that_were_not_answered_are_no_opportunity(log):
    asked = log.with_columns(pl.lit(None, pl.Int8).alias("correct"))
    both = pl.concat([asked, log])
    p = np.concatenate([np.zeros(asked.height), np.full(log.height, 0.7)])
    # threads add in any order: the last bit of a mean may differ
    assert_frame_equal(learning_curves(both, p), learning_curves(log, np.full(log.height, 0.7)))


@pytest.fixture
def history():
    mastery = {"c1": [0.4, 0.5, 0.6, 0.7], "c2": [0.3, 0.3, 0.2, 0.9]}
    return pl.DataFrame(
        [
            {"student_id": "a", "answer": k + 1, "concept": name, "mastery": value}
            for name, values in mastery.items()
            for k, value in enumerate(values)
        ]
    )


def test_a_heat_map_shows_mastery_from_the_first_answer_on(history):
    answers = pl.DataFrame({"concepts": [["c1"], ["c1"], ["c2", "c1"], ["c1"]], "correct": [1, 0, 1, None]})
    figure = mastery_heatmap(history, answers, names={"c1": "Adding"})
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Adding", "c2"]
    grid = axes.images[0].get_array().filled(np.nan)
    np.testing.assert_array_equal(grid, [[0.4, 0.5, 0.6, 0.7], [np.nan, np.nan, 0.2, 0.9]])
    marks = {
        c.get_label(): c.get_offsets().data.tolist()
        for c in axes.collections
        if isinstance(c, PathCollection)
    }
    assert marks == {"right": [[1, 0], [3, 1], [3, 0]], "wrong": [[2, 0]]}
    assert axes.get_title() == "Student a"


def test_a_heat_map_is_of_one_student(history):
    two = pl.concat([history, history.with_columns(pl.lit("b").alias("student_id"))])
    with pytest.raises(ValueError, match="2 students"):
        mastery_heatmap(two)
    with pytest.raises(ValueError, match="no rows"):
        mastery_heatmap(history.clear())


def test_an_overview_leaves_empty_what_was_never_tried():
    mastery = pl.DataFrame(
        {"student_id": ["a", "b", "b"], "concept": ["x", "x", "y"], "mastery": [0.9, 0.2, 0.4]}
    )
    axes = class_overview(mastery).axes[1]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"], "the weakest first"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["y", "x"], "the hardest first"
    np.testing.assert_array_equal(axes.images[0].get_array().filled(np.nan), [[0.4, 0.2], [np.nan, 0.9]])


def test_the_other_pictures_are_drawn(log, tmp_path):
    p, correct = log["p_true"].to_numpy(), log["correct"].to_numpy()
    table = reliability(correct, p)
    gap = table.filter(pl.col("lo") != table["lo"][3])
    for figure in (
        learning_curves_plot(learning_curves(log, p, concepts=4)),
        reliability_plot({"model": table, "gap": gap}, {"model": 0.01, "gap": 0.2}),
    ):
        figure.savefig(tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 5000

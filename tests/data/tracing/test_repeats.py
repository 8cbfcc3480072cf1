"""Repeated rows: merged exactly where one answer stands on several rows, and told."""

from __future__ import annotations

import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remem.data.tracing.opening import open_log
from remem.data.tracing.repeats import audit_leakage, from_repeat_rows
from remem.data.tracing.schema import conform
from remem.data.tracing.simulate import simulate_log


def merge_naively(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    """Row by row: the rule as it is written."""
    out: list[list[object]] = []
    for row in frame.iter_rows(named=True):
        concepts = list(row["concepts"])
        key = [row["student_id"], row["question_id"], row["timestamp"], row["correct"]]
        last = out[-1] if out else None
        if (
            last is not None
            and last[:3] == key[:3]
            and row["question_id"] is not None
            and len(concepts) == 1
            and last[5]
            and concepts[0] not in last[4]
        ):
            last[4] = [*last[4], *concepts]
        else:
            out.append([*key, concepts, len(concepts) == 1])
    return [(s, q, c, t, tuple(k)) for s, q, t, c, k, _ in out]


@st.composite
def expanded(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from("ab"),
                st.sampled_from(["q", "r", None]),
                st.sampled_from([["x"], ["y"], ["z"], [], ["x", "y"]]),
                st.sampled_from([0, 1, None]),
            ),
            min_size=1,
            max_size=40,
        )
    )
    names = ("student_id", "question_id", "concepts", "correct")
    kinds = {
        "student_id": pl.String,
        "question_id": pl.String,
        "concepts": pl.List(pl.String),
        "correct": pl.Int8,
    }
    return conform(
        pl.DataFrame([dict(zip(names, row, strict=True)) for row in rows], schema=kinds), source="t"
    ).frame


@settings(max_examples=200, deadline=None)
@given(expanded())
def test_merging_is_the_rule_row_by_row(frame: pl.DataFrame):
    log = from_repeat_rows(frame)
    expected = merge_naively(frame)
    got = [(s, q, c, t, tuple(k)) for s, q, k, c, t in log.frame.iter_rows()]
    assert got == expected
    assert log.report.counts.get("repeat_rows", 0) == frame.height - len(expected)
    assert len(log.row) == frame.height
    for i, row in enumerate(log.row):  # every row of the input lies in the answer it became
        assert set(frame["concepts"][i]) <= set(log.frame["concepts"][int(row)])
        assert frame["student_id"][i] == log.frame["student_id"][int(row)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_expanding_and_merging_gives_the_log_back(seed: int, timestamps: bool):
    frame = simulate_log(10, 12, 5, seed=seed, answers=(5, 30), timestamps=timestamps, two_concepts=0.6)
    frame = frame.drop("p_true")
    wide = frame.explode("concepts")
    log = from_repeat_rows(wide)
    assert log.frame.equals(frame)
    assert wide.height - frame.height == log.report.counts.get("repeat_rows", 0)
    assert from_repeat_rows(frame).frame.equals(frame)


def test_another_attempt_stays_and_so_does_another_time():
    frame = pl.DataFrame(
        {
            "student_id": ["a"] * 6,
            "question_id": ["q"] * 6,
            "concepts": list("xxyxyz"),
            "correct": [1, 1, 1, 1, 1, 0],
        }
    )
    assert from_repeat_rows(frame).frame["concepts"].to_list() == [["x"], ["x", "y"], ["x", "y", "z"]]
    timed = frame[1:3].with_columns(pl.Series("timestamp", [1709294400, 1709294401]))
    assert from_repeat_rows(timed).frame.height == 2


def test_labels_do_not_decide_what_is_merged_and_those_that_differ_are_counted():
    frame = pl.DataFrame(
        {
            "student_id": ["a"] * 4,
            "question_id": ["q", "q", "r", "r"],
            "concepts": list("xyxy"),
            "correct": [1, 1, 1, 0],
        }
    )
    merged = from_repeat_rows(frame)
    flipped = from_repeat_rows(frame.with_columns(correct=pl.Series([1, 0, 1, None])))
    assert merged.frame.equals(flipped.frame)
    assert merged.frame["correct"].to_list() == [1, 1]
    assert merged.report.counts == {"repeat_rows": 2, "repeat_label": 1}
    assert flipped.report.counts == {"no_label": 1, "repeat_rows": 2, "repeat_label": 2}


def test_the_audit_counts_repeats_copies_and_shared_students():
    frame = pl.DataFrame(
        {
            "student": [1, 1, 1, 1, 2, 2],
            "problem": [5, 5, 5, 6, 6, 6],
            "skill": [1, 2, 3, 3, 3, 3],
            "correct": [1, 1, 0, 0, 0, 1],
            "fold": [1, 1, 1, 1, 1, 2],
        }
    )
    report = audit_leakage(frame)
    assert (report.rows, report.repeats, report.equal_labels, report.shared_students) == (6, 2, 1, 1)
    assert not report.clean
    assert "33.3%" in str(report)
    assert "50.00%" in str(report)
    clean = audit_leakage(from_repeat_rows(frame).frame.drop("fold").filter(pl.col("correct") == 1))
    assert clean.clean


def test_assistments_2009_leaks_15_6_percent_and_every_copied_label_is_equal(real_log):
    path = real_log("assistments2009_folds0-4.parquet")
    raw = pl.read_parquet(path)
    report = audit_leakage(raw)
    assert report.repeats == int(raw["same_problem_as_prev"].sum() - _same_skill(raw))
    assert report.repeat_share == pytest.approx(0.156, abs=5e-4)
    assert report.equal_share == 1.0
    assert report.shared_students == 0
    log = open_log(path)
    assert log.report.counts["repeat_rows"] / raw.height == pytest.approx(0.156, abs=5e-4)
    assert len(log.row) == log.keys.height == raw.height
    assert log.keys.columns == ["student", "step", "problem", "skill"]
    handed = log.frame[log.row]
    assert (handed["correct"] == raw["correct"]).all()
    assert (handed["question_id"] == raw["problem"].cast(pl.String)).all()
    held = pl.DataFrame({"of": handed["concepts"], "skill": raw["skill"].cast(pl.String)})
    assert held.select(pl.col("of").list.contains(pl.col("skill")).all()).item()
    after = audit_leakage(log.frame)
    assert after.repeats <= 5  # a concept that came again: another attempt


def _same_skill(raw: pl.DataFrame) -> int:
    """Rows that repeat the problem before under the same skill."""
    same = pl.lit(True)
    for name in ("problem", "skill"):
        same &= pl.col(name) == pl.col(name).shift().over("student")
    return raw.filter(same).height


def test_attempts_of_assistments_2017_stay(real_log):
    path = real_log("assistments2017_folds0-4.parquet")
    assert open_log(path).report.counts == {"repeat_rows": 4}


def test_a_million_rows_are_read_in_seconds(tmp_path, record_property):
    n = 1_000_000
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "student": np.sort(rng.integers(0, 20_000, n)),
            "problem": np.repeat(rng.integers(0, 5_000, n // 2), 2),
            "skill": rng.integers(0, 100, n),
            "correct": rng.integers(0, 2, n),
        }
    )
    frame.write_csv(tmp_path / "log.csv")
    start = time.process_time()
    log = open_log(tmp_path / "log.csv")
    seconds = time.process_time() - start
    assert len(log.row) == n
    record_property("told", f"a csv log of 1,000,000 rows is read in {seconds:.1f} CPU-s")
    assert seconds < 20

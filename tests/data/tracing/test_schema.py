"""`conform`: what a log accepts, repairs and counts, and what it refuses."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from remem.data.tracing.schema import COLUMNS, conform
from remem.data.tracing.times import to_timestamps


def small(**changes: object) -> pl.DataFrame:
    columns: dict[str, object] = {
        "student_id": ["a", "a", "b"],
        "question_id": [1, 2, 1],
        "concepts": [["x"], ["x", "y"], ["x"]],
        "correct": [1, 0, 1],
    }
    return pl.DataFrame({**columns, **changes}, strict=False)


def test_types_and_columns_are_those_of_a_log_whatever_came_in():
    log = conform(small(correct=[True, False, None], fold=[1, 1, 2]), source="t")
    assert dict(log.frame.schema) == {**COLUMNS, "fold": pl.Int8()}
    assert log.frame["question_id"].to_list() == ["1", "2", "1"]
    assert log.frame["correct"].to_list() == [1, 0, None]
    assert log.report.counts == {"no_label": 1}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1.0, 0.0, float("nan")], [1, 0, None]),
        (["1", "0.0", ""], [1, 0, None]),
        (["True", "false", "NA"], [1, 0, None]),
        ([1, 0, None], [1, 0, None]),
    ],
)
def test_labels_of_any_writing(labels: list[object], expected: list[int | None]):
    assert conform(small(correct=labels), source="t").frame["correct"].to_list() == expected


@pytest.mark.parametrize(
    "wrong", [[1, 2, 0], [1, -1, 0], [0.5, 1.0, 0.0], ["1", "yes", "0"], [float("inf"), 1, 0]]
)
def test_a_label_that_is_neither_0_nor_1_is_refused_with_its_row(wrong: list[object]):
    at = next(i for i, value in enumerate(wrong) if value not in (0, 1, "0", "1"))
    with pytest.raises(ValueError, match=rf"log\.csv: correct in row {at} .*wanted 0, 1 or empty"):
        conform(small(correct=wrong), source="log.csv")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (small().drop("correct").with_columns(corect=pl.lit(1)), r"no column 'correct' \(near: 'corect'"),
        (small().drop("student_id"), r"no column 'student_id'"),
        (small().drop("question_id", "concepts"), r"no column 'question_id' .*or 'concepts'"),
        (small(student_id=["a", "", "b"]), r"student_id in row 1 is empty"),
        (small(student_id=["a", None, "b"]), r"student_id in row 1 is empty"),
        (small(student_id=["a", "  ", "b"]), r"student_id in row 1 is empty"),
        (small(student_id=[["a"], ["b"], ["c"]]), r"student_id is of type List"),
        (small(step=[1, -2, 1]), r"step in row 1 is -2; wanted 0 or more"),
        (small(step=[1, None, 1]), r"step in row 1 is None"),
        (small(step=["1", "two", "1"]), r"step in row 1 is 'two'"),
        (small().clear(), r"no rows"),
        (small(timestamp=["2024-01-01", "soon", None]), r"timestamp in row 1 is 'soon'"),
        (small(timestamp=[True, False, True]), r"timestamp is of type Boolean"),
        (small(correct=[[1], [0], [1]]), r"correct is of type List"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(frame: pl.DataFrame, message: str):
    with pytest.raises(ValueError, match=message):
        conform(frame, source="t")


def test_repairs_are_counted():
    frame = small(
        student_id=[" a", "a", "b"],
        question_id=[1.0, 2.0, None],
        concepts=[["x", "x", ""], [None, "y"], None],
        duration_ms=[-3, 10, 20],
        colour=["r", "g", "b"],
    )
    log = conform(frame, source="t")
    assert log.frame["concepts"].to_list() == [["x"], ["y"], []]
    assert log.frame["question_id"].to_list() == ["1", "2", None]
    assert log.frame["duration_ms"].to_list() == [None, 10, 20]
    assert log.report.counts == {
        "trimmed_id": 1,
        "float_id": 2,
        "empty_question": 1,
        "empty_concept": 2,
        "duplicate_concept": 1,
        "unreadable_number": 1,
        "ignored_columns": 1,
    }


def test_one_concept_a_row_becomes_a_list_and_none_an_empty_one():
    assert conform(small(concepts=[7, None, 8]), source="t").frame["concepts"].to_list() == [["7"], [], ["8"]]
    assert conform(small().drop("concepts"), source="t").frame["concepts"].to_list() == [[], [], []]


def test_rows_are_sorted_within_students_and_the_row_map_leads_back():
    rng = np.random.default_rng(0)
    n = 500
    student, step = rng.integers(0, 20, n), rng.integers(0, 50, n)
    frame = pl.DataFrame(
        {"student_id": student, "question_id": np.arange(n), "correct": rng.integers(0, 2, n), "step": step}
    )
    log = conform(frame, source="t")
    first = list(dict.fromkeys(student.tolist()))
    expected = sorted(range(n), key=lambda i: (first.index(student[i]), step[i], i))
    assert log.frame["question_id"].to_list() == [str(i) for i in expected]
    assert len(log.row) == n
    assert [log.frame["question_id"][int(r)] for r in log.row] == [str(i) for i in range(n)]
    values = rng.normal(size=n)
    np.testing.assert_array_equal(log.hand_back(values)[expected], values)
    assert {"regrouped_students", "sorted_by_step"} <= set(log.report.counts)
    with pytest.raises(ValueError, match="got 3 values"):
        log.hand_back(values[:3])


def test_time_goes_before_step_and_a_row_without_time_stays_where_it_is():
    frame = pl.DataFrame(
        {
            "student_id": ["a"] * 5,
            "question_id": list("vwxyz"),
            "correct": [1] * 5,
            "step": [1, 2, 3, 4, 5],
            "timestamp": ["2024-01-02", None, "2024-01-01", None, "2024-01-03"],
        }
    )
    log = conform(frame, source="t")
    assert log.frame["question_id"].to_list() == list("xyvwz")
    assert log.report.counts["sorted_by_time"] == 1


def test_a_log_is_left_as_it_is():
    log = conform(small(timestamp=[datetime(2024, 1, 1), datetime(2024, 1, 2), None]), source="t")
    again = conform(log.frame, source="t")
    assert again.frame.equals(log.frame)
    assert len(again.report) == 0
    assert again.row.tolist() == [0, 1, 2]


NOON = datetime(2024, 3, 1, 12)


@pytest.mark.parametrize(
    "values",
    [
        ["2024-03-01T12:00:00Z"],
        ["2024-03-01T14:00:00+02:00"],
        ["2024-03-01T12:00:00.000000Z", None],
        ["2024-03-01 12:00:00", ""],
        ["2024-03-01T12:00"],
        ["2024-03-01T14:00+0200"],
        ["03/01/2024 12:00:00"],
        ["2024/03/01 12:00"],
        [1709294400],
        [1709294400.0],
        [1709294400000],
        [1709294400000000],
        [1709294400000000000],
        ["1709294400000"],
        [NOON],
        [datetime(2024, 3, 1, 12, tzinfo=UTC)],
    ],
)
def test_times_of_any_writing(values: list[object]):
    times, found = to_timestamps(pl.Series("timestamp", values), "t")
    assert times.dtype == pl.Datetime("us")
    assert times[0] == NOON
    assert times.to_list()[1:] == [None] * (len(values) - 1)
    assert len(found) == 0


def test_clocks_of_their_own_keep_their_gaps_and_zeros_are_no_times():
    times, found = to_timestamps(pl.Series([0, 90, 3600]), "t")
    assert [(t - times[0]).total_seconds() for t in times] == [0, 90, 3600]
    assert times[0] == datetime(2015, 1, 1)
    assert "relative_time" in found
    none, found = to_timestamps(pl.Series([0, 0]), "t")
    assert none.null_count() == 2
    assert found.counts == {"zero_time": 2}
    assert to_timestamps(pl.Series([date(2024, 3, 1)]), "t")[0][0] == datetime(2024, 3, 1)


def test_columns_are_renamed_and_a_wrong_name_is_told():
    frame = small().rename({"student_id": "learner"})
    assert conform(frame, source="t", columns={"learner": "student_id"}).frame.height == 3
    with pytest.raises(ValueError, match=r"renames 'lerner' \(near: 'learner'\)"):
        conform(frame, source="t", columns={"lerner": "student_id"})
    with pytest.raises(ValueError, match="2 columns 'correct'"):
        conform(frame, source="t", columns={"question_id": "correct"})

"""`validate`: each fault planted alone is found, and a sound log has none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import polars as pl
import pytest

from remem.data.tracing.checks import validate
from remem.data.tracing.findings import FINDINGS, Findings
from remem.data.tracing.opening import open_log
from remem.data.tracing.schema import conform


def sound() -> pl.DataFrame:
    """Four students with six answers each, right and wrong in turns."""
    start = datetime(2024, 1, 1)
    rows = [
        (f"s{s}", f"q{i}", ["x", "y"][: 1 + i % 2], (s + i) % 2, start + timedelta(minutes=10 * s + i), s)
        for s in range(4)
        for i in range(6)
    ]
    names = ["student_id", "question_id", "concepts", "correct", "timestamp", "fold"]
    return pl.DataFrame(rows, schema=names, orient="row")


def put(frame: pl.DataFrame, row: int, **values: object) -> pl.DataFrame:
    rows = frame.to_dicts()
    rows[row].update(values)
    return pl.DataFrame(rows, schema=frame.schema)


def expanded(frame: pl.DataFrame) -> pl.DataFrame:
    """A row for each concept."""
    return frame.explode("concepts")


def same_row(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([frame[:3], frame[2:]])


def rare_question(frame: pl.DataFrame) -> pl.DataFrame:
    start = datetime(2025, 1, 1)
    more = [
        {"student_id": f"s{i % 4}", "question_id": "q_rare", "concepts": ["x"], "correct": 1, "fold": i % 4}
        | {"timestamp": start + timedelta(minutes=i)}
        for i in range(12)
    ]
    return pl.concat([frame, pl.DataFrame(more, schema=frame.schema)]).sort("student_id", maintain_order=True)


FAULTS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "label_copy": expanded,
    "two_splits": lambda f: put(f, 2, fold=3),
    "unsorted_time": lambda f: put(f, 2, timestamp=datetime(2023, 1, 1)),
    "scattered_students": lambda f: pl.concat([f[:3], f[6:], f[3:6]]),
    "changing_concepts": lambda f: put(f, 2, concepts=["z"]),
    "constant_students": lambda f: f.with_columns(
        correct=pl.when(pl.col("student_id") == "s1").then(1).otherwise("correct")
    ),
    "constant_questions": rare_question,
    "duplicate_rows": same_row,
    "single_answers": lambda f: f[:19],
    "no_concepts": lambda f: f.with_columns(
        concepts=pl.when(pl.col("question_id") == "q2")
        .then(pl.lit([], dtype=pl.List(pl.String)))
        .otherwise("concepts")
    ),
}


def test_a_sound_log_has_no_findings():
    assert len(validate(sound())) == 0
    assert str(validate(sound())) == "nothing found"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_alone(fault: str):
    found = validate(FAULTS[fault](sound()))
    assert set(found.counts) == {fault}
    table = found.remedies
    assert table["finding"].to_list() == [fault]
    assert table["count"][0] == {"no_concepts": 4, "label_copy": 12}.get(fault, 1)
    assert table["remedy"][0] == FINDINGS[fault][1]
    assert fault in str(found)


def test_first_cases_are_named():
    assert "student s0 in folds [0, 3]" in str(validate(FAULTS["two_splits"](sound())))
    assert "question q2 with [z] and [x]" in str(validate(FAULTS["changing_concepts"](sound())))
    assert "student s1: 6 of 6 right" in str(validate(FAULTS["constant_students"](sound())))


def test_steps_out_of_order_are_found_in_the_table_as_it_stands():
    frame = sound().drop("timestamp").with_columns(step=pl.int_range(pl.len()).over("student_id"))
    assert len(validate(frame)) == 0
    found = validate(put(frame, 2, step=0))
    assert found.counts == {"unsorted_step": 1}


def test_reading_repairs_what_it_can(tmp_path):
    broken = put(expanded(sound()), 3, timestamp=datetime(2023, 1, 1))
    path = tmp_path / "log.parquet"
    broken.write_parquet(path)
    log = open_log(path)
    assert {"label_copy", "unsorted_time"} <= set(validate(broken).counts)
    assert not {"label_copy", "unsorted_time"} & set(validate(log).counts)


def test_real_sets(real_log):
    raw = pl.read_parquet(real_log("assistments2009_folds0-4.parquet"))
    assert validate(raw).counts["label_copy"] == 40206
    assert "label_copy" not in validate(open_log(real_log("assistments2009_folds0-4.parquet"))).counts or (
        validate(open_log(real_log("assistments2009_folds0-4.parquet"))).counts["label_copy"] <= 5
    )


def test_findings_add_up_and_refuse_names_that_do_not_exist():
    one = Findings.of([("repeat_rows", 3, "a"), ("no_label", 0, "b")])
    assert (one + one).counts == {"repeat_rows": 6}
    assert "repeat_rows" in one
    assert "no_label" not in one
    with pytest.raises(ValueError, match="unknown names"):
        Findings.of([("nonsense", 1, "")])


def test_a_log_that_was_conformed_is_sound_too():
    assert len(validate(conform(sound(), source="t"))) == 0

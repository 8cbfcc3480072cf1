"""Readers: every format gives the same kind of log, its rows are accounted for, and bad files get words."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remem.data.tracing.assistments import concept_names
from remem.data.tracing.opening import FORMATS, open_log
from remem.data.tracing.schema import Log

FIXTURES = Path(__file__).parent / "fixtures"
FILES = (
    "assistments2009.csv",
    "assistments2009_collapsed.csv",
    "assistments2012.csv",
    "assistments2015.csv",
    "assistments2017.csv",
    "dkvmn.csv",
    "akt.csv",
    "pykt_data.txt",
    "pykt_notimes.txt",
    "pykt_sequences.csv",
    "kddcup.txt",
    "datashop.txt",
    "ednet/u1.csv",
    "eedi/train_data/train_task_3_4.csv",
    "xapi.json",
    "caliper.json",
)
REFUSED = ("partial_credit", "no_student", "not_an_answer")


def columns(log: Log, *names: str) -> list[tuple[object, ...]]:
    return log.frame.select(names).rows()


def check_accounts(log: Log) -> None:
    """Every row of the input became a row of the log, or was refused, and all of it is counted."""
    counts = log.report.counts
    assert len(log.row) == log.keys.height
    assert (log.row < 0).sum() == sum(counts.get(name, 0) for name in REFUSED)
    kept = log.row[log.row >= 0]
    assert sorted(set(kept.tolist())) == list(range(log.frame.height))
    assert len(kept) - log.frame.height == counts.get("repeat_rows", 0) + counts.get("joined_records", 0)


@pytest.mark.parametrize("name", [*FILES, "ednet"])
def test_no_row_is_lost_without_a_count(name: str):
    check_accounts(open_log(FIXTURES / name))


def test_assistments_2009_raw_by_order_id_with_repeated_rows_merged():
    log = open_log(FIXTURES / "assistments2009.csv")
    assert columns(log, "student_id", "question_id", "concepts", "correct") == [
        ("7001", "500", ["12"], 0),
        ("7001", "502", ["12", "13"], 1),
        ("7001", "501", ["13"], 1),
        ("7001", "503", [], 0),
        ("7002", "500", ["12"], 1),
    ]
    assert log.row.tolist() == [2, 0, 1, 1, 3, 4]
    assert log.report.counts["repeat_rows"] == 1
    assert log.report.counts["scaffolding"] == 1
    assert log.report.counts["unreadable_number"] == 1  # a first response after -5 ms
    assert log.frame["duration_ms"].to_list() == [31000, 8000, 12000, None, 9000]


def test_assistments_2009_collapsed_splits_joined_ids():
    log = open_log(FIXTURES / "assistments2009_collapsed.csv")
    assert log.frame["concepts"].to_list() == [["12"], ["12", "13"], ["12", "13"]]


def test_assistments_2012_by_start_time_refuses_partial_credit():
    log = open_log(FIXTURES / "assistments2012.csv")
    assert columns(log, "question_id", "concepts", "correct") == [
        ("611", ["39"], 0),
        ("610", ["39"], 1),
        ("613", ["24"], 1),
    ]
    assert log.frame["timestamp"][0] == datetime(2012, 9, 28, 15, 11, 24, 952000)
    assert log.row.tolist() == [1, 0, -1, 2]
    assert log.report.counts["partial_credit"] == 1


def test_assistments_2015_has_concepts_and_no_questions():
    log = open_log(FIXTURES / "assistments2015.csv")
    assert columns(log, "student_id", "question_id", "concepts", "correct") == [
        ("7201", None, ["6910"], 0),
        ("7201", None, ["6910"], 1),
        ("7202", None, ["6910"], 1),
    ]
    assert log.report.counts["partial_credit"] == 1


def test_assistments_2017_keeps_attempts():
    log = open_log(FIXTURES / "assistments2017.csv")
    assert columns(log, "question_id", "correct", "attempt", "duration_ms")[:3] == [
        ("801", 0, 1, 49000),
        ("801", 1, 2, 3000),
        ("802", 1, 1, 2500),
    ]
    assert log.frame["timestamp"][0] == datetime(2004, 9, 29, 15, 5, 1)


def test_dkvmn_akt_and_pykt_lines():
    dkvmn = open_log(FIXTURES / "dkvmn.csv")
    assert columns(dkvmn, "student_id", "question_id", "concepts", "correct") == [
        ("1", None, ["1"], 0),
        ("1", None, ["1"], 1),
        ("1", None, ["2"], 1),
        ("2", None, ["2"], 1),
        ("2", None, ["2"], 0),
    ]
    akt = open_log(FIXTURES / "akt.csv")
    assert columns(akt, "student_id", "question_id", "concepts", "correct") == [
        ("64525", "90", ["4"], 1),
        ("64525", "91", ["4", "7"], 0),
        ("64526", "90", ["4"], 0),
        ("64526", "90", ["4"], 1),
    ]
    pykt = open_log(FIXTURES / "pykt_data.txt")
    assert columns(pykt, "student_id", "question_id", "concepts", "correct", "duration_ms") == [
        ("501", "q1", ["4"], 1, 4000),
        ("501", "q2", ["4", "7"], 0, 9000),
        ("501", "q3", [], 1, 1500),
        ("502", "q1", ["4"], 0, None),
        ("502", "q4", ["4", "7"], 1, None),
    ]
    assert pykt.frame["timestamp"][0] == datetime(2020, 9, 13, 12, 26, 40)
    bare = open_log(FIXTURES / "pykt_notimes.txt")
    assert columns(bare, "question_id", "concepts", "correct") == [(None, ["4"], 1), (None, ["4"], 0)]


def test_lines_that_do_not_fit_are_told_by_number(tmp_path):
    path = tmp_path / "akt.csv"
    path.write_text("2,1\n5,6\n1,2\n0,1\n2,2\n5,6\n1\n0,1\n")
    with pytest.raises(ValueError, match=r"as akt \(4 lines a student\): line 7 has 1 fields, .* student 2"):
        open_log(path)


def test_pykt_sequences_leave_padding_out():
    log = open_log(FIXTURES / "pykt_sequences.csv")
    assert columns(log, "student_id", "question_id", "concepts", "correct", "fold") == [
        ("501", "1", ["4"], 1, 0),
        ("501", "2", ["4", "7"], 0, 0),
        ("502", "1", ["4"], 0, 1),
        ("502", "3", ["8"], 1, 1),
    ]


def test_datashop_steps_of_both_headers():
    kdd = open_log(FIXTURES / "kddcup.txt")
    assert columns(kdd, "student_id", "question_id", "concepts", "correct") == [
        ("stu_a", "P1 / 3(x+2) = 15", ["distribute", "remove constant"], 1),
        ("stu_a", "P1 / x+2 = 5", ["remove constant"], 0),
        ("stu_a", "P1 / x = 3", [], None),
    ]
    assert kdd.report.counts["no_label"] == 1
    shop = open_log(FIXTURES / "datashop.txt")
    assert shop.frame["correct"].to_list() == [0, 0, 1]  # a hint is no right answer
    assert shop.frame["concepts"].to_list() == [["vectors"]] * 3
    assert shop.frame["timestamp"][0] == datetime(2011, 9, 21, 17, 35, 36)


def test_ednet_labels_come_from_the_questions():
    log = open_log(FIXTURES / "ednet")
    assert columns(log, "student_id", "question_id", "concepts", "correct") == [
        ("u1", "q101", ["1", "2", "179"], 1),
        ("u1", "q102", ["15"], 0),
        ("u1", "q999", [], None),
        ("u23", "q101", ["1", "2", "179"], 0),
        ("u23", "q103", [], None),
    ]
    assert log.report.counts["unknown_concepts"] == 1
    assert open_log(FIXTURES / "ednet" / "u1.csv").frame.equals(log.frame[:3])
    with pytest.raises(ValueError, match=r"without files u1\.csv"):
        open_log(FIXTURES / "eedi")


def test_eedi_joins_times_and_the_leaves_of_its_subjects(tmp_path):
    source = FIXTURES / "eedi" / "train_data" / "train_task_3_4.csv"
    log = open_log(source)
    assert columns(log, "student_id", "question_id", "concepts", "correct") == [
        ("51", "767", ["70"], 0),
        ("51", "898", ["209"], 1),
        ("52", "898", ["209"], 1),
    ]
    assert log.frame["timestamp"][2] == datetime(2020, 1, 2, 11)
    alone = tmp_path / source.name
    alone.write_bytes(source.read_bytes())
    bare = open_log(alone)
    assert bare.frame["concepts"].to_list() == [[], [], []]
    assert bare.report.counts["unknown_concepts"] == 3
    assert bare.frame["question_id"].to_list() == ["767", "898", "898"]  # by AnswerId


def test_xapi_statements_in_a_list_in_lines_and_from_a_store(tmp_path):
    log = open_log(FIXTURES / "xapi.json")
    assert columns(log, "student_id", "question_id", "concepts", "correct", "duration_ms", "session_id") == [
        ("ada", "https://lms.example/q/1", ["https://lms.example/c/sums"], 1, 64500, "r-1"),
        (
            "mailto:bo@lms.example",
            "https://lms.example/q/2",
            ["https://lms.example/c/fractions"],
            0,
            None,
            None,
        ),
    ]
    assert log.frame["timestamp"].to_list() == [datetime(2024, 3, 1, 10)] * 2
    assert log.row.tolist() == [0, 1, -1, -1, -1]
    assert {name: log.report.counts[name] for name in REFUSED} == dict.fromkeys(REFUSED, 1)
    statements = json.loads((FIXTURES / "xapi.json").read_text())["statements"]
    (tmp_path / "list.json").write_text(json.dumps(statements))
    (tmp_path / "lines.jsonl").write_text("\n".join(json.dumps(one) for one in statements))
    for name in ("list.json", "lines.jsonl"):
        assert open_log(tmp_path / name).frame.equals(log.frame)


def test_a_file_of_concepts_comes_before_the_statements_own():
    log = open_log(FIXTURES / "xapi.json", concepts=FIXTURES / "q_matrix.csv")
    assert log.frame["concepts"].to_list() == [["sums", "carrying"], ["https://lms.example/c/fractions"]]
    assert log.report.counts["unknown_concepts"] == 1
    with pytest.raises(ValueError, match="no column 'question_id'"):
        open_log(FIXTURES / "xapi.json", concepts=FIXTURES / "assistments2015.csv")


def test_caliper_grades_are_joined_by_attempt_and_the_last_one_counts():
    log = open_log(FIXTURES / "caliper.json")
    assert columns(log, "question_id", "concepts", "correct", "duration_ms") == [
        ("https://lms.example/items/1", ["https://lms.example/assess/1"], 1, 50000),
        ("https://lms.example/items/2", ["lo:sums", "lo:carrying"], 0, None),
        ("https://lms.example/items/3", [], None, None),
    ]
    assert log.row.tolist() == [-1, 0, 1, 2, 0, 0, 1, -1]
    assert log.report.counts["joined_records"] == 3


def test_caliper_partial_credit_is_refused_with_its_grade(tmp_path):
    text = (FIXTURES / "caliper.json").read_text().replace('"scoreGiven": 5', '"scoreGiven": 2.5')
    (tmp_path / "caliper.json").write_text(text)
    log = open_log(tmp_path / "caliper.json")
    assert log.frame["question_id"].to_list() == [
        "https://lms.example/items/2",
        "https://lms.example/items/3",
    ]
    assert log.report.counts["partial_credit"] == 1
    check_accounts(log)


def test_a_log_survives_parquet_csv_and_json(tmp_path):
    frame = pl.DataFrame(
        {
            "student_id": ["007", "007", "8"],
            "question_id": ["q", "r", "q"],
            "concepts": [["x", "y"], ["x"], []],
            "correct": [1, None, 0],
            "timestamp": [datetime(2024, 1, 1), None, datetime(2024, 1, 2)],
        }
    )
    frame.write_parquet(tmp_path / "log.parquet")
    frame.with_columns(pl.col("concepts").list.join(";")).write_csv(tmp_path / "log.csv")
    frame.write_json(tmp_path / "log.json")
    frame.write_ndjson(tmp_path / "log.jsonl")
    logs = [open_log(tmp_path / f"log.{kind}").frame for kind in ("parquet", "csv", "json", "jsonl")]
    assert logs[0]["student_id"].to_list() == ["007", "007", "8"]
    assert logs[0].select(frame.columns).equals(frame.with_columns(pl.col("correct").cast(pl.Int8)))
    for other in logs[1:]:
        assert other.equals(logs[0])


def test_several_files_are_one_log(tmp_path):
    two = open_log([FIXTURES / "akt.csv", FIXTURES / "assistments2015.csv"])
    one = open_log(FIXTURES / "akt.csv")
    assert two.frame.height == one.frame.height + 3
    assert two.row.tolist() == [*one.row.tolist(), 5, 4, -1, 6]
    check_accounts(two)


def test_tidy_sets_and_the_names_of_their_concepts(real_log):
    for name, slots in (("assistments2009_folds0-4", 4), ("assistments2015_folds0-4", 1)):
        raw = pl.read_parquet(real_log(f"{name}.parquet"))
        log = open_log(real_log(f"{name}.parquet"))
        check_accounts(log)
        assert log.frame["concepts"].list.len().max() == slots
        assert log.frame["student_id"].n_unique() == raw["student"].n_unique()
    synthetic = open_log(real_log("synthetic5.parquet")).frame
    assert synthetic["question_id"].n_unique() == 250
    assert synthetic["student_id"].n_unique() == 20_000
    assert synthetic.filter(pl.col("fold") == 5).height == 500_000
    assert concept_names(real_log("assistments2009_skills.csv"))["1"] == "Box and Whisker"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"PAR1 but not really", "truncated"),
        (b"\x00\x01\x02 binary", "neither parquet nor text"),
        (b"a,b\n1,2\n", "no known layout"),
        (b"student_id,corect,question_id\na,1,q\n", "near: 'correct'"),
        (b"student_id,correct,question_id\na,1\n", "correct|question_id|csv"),
        (b"student_id,correct,question_id\na,1,q,7,8\n", "cannot be read as csv"),
        (b'[{"actor": {}}', "neither JSON nor JSON lines"),
        (b"[]", "the list is empty"),
        (b"[1, 2, 3]", "JSON|no known layout"),
        (b'[{"actor": {}, "verb": {}, "object": {}}]', "none of 1 statements is an answer"),
        (b'{"sensor": "s", "data": [{"type": "SessionEvent"}]}', "none of 1 Caliper events"),
    ],
)
def test_files_that_are_no_log_are_refused_in_words(tmp_path, content: bytes, message: str):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    if content.startswith(b"student_id,correct,question_id\na,1\n"):
        assert open_log(path).frame["question_id"].to_list() == [None]
        return
    with pytest.raises(ValueError, match=message):
        open_log(path)


def test_wrong_calls_are_refused_in_words(tmp_path):
    with pytest.raises(ValueError, match="got no paths"):
        open_log([])
    with pytest.raises(ValueError, match="no such file"):
        open_log(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match=f"wanted auto or one of {FORMATS[0]}"):
        open_log(FIXTURES / "akt.csv", format="excel")
    with pytest.raises(ValueError, match="no table of format datashop"):
        open_log(FIXTURES / "assistments2015.csv", format="datashop")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), seed=st.randoms(use_true_random=False), edits=st.integers(1, 6))
def test_damaged_files_give_logs_or_value_errors_only(tmp_path, name: str, seed, edits: int):
    data = bytearray((FIXTURES / name).read_bytes())
    for _ in range(edits):
        at = seed.randrange(len(data))
        kind = seed.randrange(5)
        if kind == 0:
            data[at] = seed.randrange(256)
        elif kind == 1:
            del data[at : at + seed.randrange(1, 20)]
        elif kind == 2:
            data[at:at] = seed.choice(
                [b",", b"\n", b'"', b"-1", b"NA", b"1e400", b"null", b"\xff", b"[", b"}", b"\t"]
            )
        elif kind == 3:
            end = min(len(data), at + seed.randrange(1, 60))
            data[at:at] = data[at:end]
        else:
            data = data[: max(at, 1)]
        if not data:
            data = bytearray(b"x")
    path = tmp_path / Path(name).name
    path.write_bytes(bytes(data))
    try:
        log = open_log(path)
    except ValueError:
        return
    check_accounts(log)

"""Encoding: exact numbers, unknown things counted, batches that hold every answer once."""

from __future__ import annotations

import time
from datetime import datetime

import numpy as np
import polars as pl
import pytest

from remem.data.tracing.encode import MOST_SLOTS, Vocabulary
from remem.data.tracing.opening import open_log
from remem.data.tracing.schema import conform
from remem.data.tracing.simulate import simulate_log


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return simulate_log(60, 80, 12, seed=3, answers=(1, 50), two_concepts=0.5)


def test_every_number_can_be_read_back(frame: pl.DataFrame):
    vocabulary = Vocabulary.fit(frame)
    answers = vocabulary.encode(frame)
    assert vocabulary.features == ("question", "correct", "minutes", "concept_1", "concept_2")
    assert answers.x.dtype == np.float32
    assert len(answers.report) == 0
    start = datetime(2015, 1, 1)
    for x, row in zip(answers.x, frame.iter_rows(named=True), strict=True):
        assert vocabulary.questions[int(x[0])] == row["question_id"]
        assert x[1] == row["correct"]
        assert x[2] == (row["timestamp"] - start).total_seconds() // 60
        assert [vocabulary.concepts[int(c)] for c in x[3:] if c] == row["concepts"]
    students = [answers.students[s] for s in answers.student_of]
    assert students == frame["student_id"].to_list()


def test_ids_sort_as_people_count():
    frame = conform(
        pl.DataFrame(
            {
                "student_id": ["a"] * 3,
                "question_id": [10, 9, 2],
                "concepts": ["c10", "c2", "c1"],
                "correct": 1,
            }
        ),
        source="t",
    ).frame
    vocabulary = Vocabulary.fit(frame)
    assert vocabulary.questions == ("", "2", "9", "10")
    assert vocabulary.concepts == ("", "c1", "c2", "c10")


def test_what_is_unknown_is_zero_and_counted():
    train = conform(
        pl.DataFrame(
            {
                "student_id": ["a"] * 4,
                "question_id": ["p", "q", "q", "q"],
                "concepts": [["x"], ["y", "x"], ["y", "x"], ["x"]],
                "correct": [1, 0, 1, None],
            }
        ),
        source="t",
    ).frame
    vocabulary = Vocabulary.fit(train)
    # the list it came with most often
    assert vocabulary.concepts_of[vocabulary.questions.index("q")] == (2, 1)
    new = conform(
        pl.DataFrame(
            {
                "student_id": ["b"] * 6,
                "question_id": ["q", "new", "new", None, "q", "p"],
                "concepts": [[], ["x"], ["z"], ["z", "y"], ["z"], ["x", "y", "z"]],
                "correct": [1, 0, None, 1, 0, 1],
            }
        ),
        source="t",
    ).frame
    answers = vocabulary.encode(new)
    np.testing.assert_array_equal(answers.x[:, 0], [2, 0, 0, 0, 2, 1])
    np.testing.assert_array_equal(answers.x[:, 3:], [[2, 1], [1, 0], [0, 0], [2, 0], [2, 1], [1, 2]])
    np.testing.assert_array_equal(np.isnan(answers.x[:, 1]), [False, False, True, False, False, False])
    assert answers.report.counts == {"unknown_question": 2, "unknown_concept": 4}


def test_times_too_far_off_are_missing_and_counted():
    frame = pl.DataFrame(
        {
            "student_id": ["a"] * 3,
            "question_id": ["q"] * 3,
            "correct": [1] * 3,
            "timestamp": [datetime(1970, 1, 1), datetime(2014, 12, 31, 23, 59, 30), datetime(2024, 1, 1)],
        }
    )
    log = conform(frame, source="t").frame
    answers = Vocabulary.fit(log).encode(log)
    np.testing.assert_array_equal(
        answers.x[:, 2], [np.nan, -1.0, (datetime(2024, 1, 1) - datetime(2015, 1, 1)).days * 1440]
    )
    assert answers.report.counts == {"far_time": 1}


def test_more_concepts_than_slots_are_cut_and_counted():
    many = [f"c{i}" for i in range(10)]
    frame = conform(
        pl.DataFrame({"student_id": ["a"], "question_id": ["q"], "concepts": [many], "correct": [1]}),
        source="t",
    ).frame
    vocabulary = Vocabulary.fit(frame)
    answers = vocabulary.encode(frame)
    assert vocabulary.slots == MOST_SLOTS
    assert answers.report.counts == {"cut_concepts": 2}
    assert [vocabulary.concepts[int(c)] for c in answers.x[0, 3:]] == many[:MOST_SLOTS]


def test_students_apart_are_brought_together_and_row_leads_back(frame: pl.DataFrame):
    vocabulary = Vocabulary.fit(frame)
    mixed = frame.with_columns(pl.int_range(pl.len()).over("student_id").alias("n")).sort(
        "n", maintain_order=True
    )
    answers = vocabulary.encode(mixed.drop("n"))
    whole = vocabulary.encode(frame)
    assert set(answers.students) == set(whole.students)
    assert mixed["question_id"].gather(answers.row).to_list() == [
        vocabulary.questions[int(q)] for q in answers.x[:, 0]
    ]
    order = np.array([answers.students.index(s) for s in whole.students])
    np.testing.assert_array_equal(answers.take(order).x, whole.x)


def test_padding_and_batches_hold_every_answer_once(frame: pl.DataFrame):
    answers = Vocabulary.fit(frame).encode(frame)
    seen = np.zeros(len(answers), dtype=int)
    for students in answers.batches(200):
        x_BTF, mask_BT = answers.pad(students)
        at_BT = answers.positions(students)
        assert mask_BT.size <= 200 or len(students) == 1
        np.testing.assert_array_equal(x_BTF[mask_BT], answers.x[at_BT[mask_BT]])
        assert np.isnan(x_BTF[~mask_BT][:, 1:3]).all()
        assert (x_BTF[~mask_BT][:, [0, 3, 4]] == 0).all()
        np.testing.assert_array_equal(mask_BT.sum(1), answers.lengths[students])
        np.add.at(seen, at_BT[mask_BT], 1)
    assert (seen == 1).all()
    x_BTF, mask_BT = answers.pad(np.array([3, 1]), max_length=4)
    assert x_BTF.shape[1] <= 4
    first = answers.x[answers.offsets[3] : answers.offsets[3] + mask_BT[0].sum()]
    np.testing.assert_array_equal(x_BTF[0][mask_BT[0]], first)
    with pytest.raises(ValueError, match="max_cells is 0"):
        list(answers.batches(0))


def test_a_vocabulary_survives_json(frame: pl.DataFrame):
    vocabulary = Vocabulary.fit(frame)
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again == vocabulary
    np.testing.assert_array_equal(again.encode(frame).x, vocabulary.encode(frame).x)
    for broken in ("", "{}", "[]", vocabulary.to_json().replace('"slots": 2', '"slots": 1')):
        with pytest.raises(ValueError, match="vocabulary"):
            Vocabulary.from_json(broken)


def test_difficulty_is_the_shrunk_share_on_the_grid(frame: pl.DataFrame):
    vocabulary = Vocabulary.fit(frame)
    overall = frame["correct"].mean()
    share_c = {}
    for concept in vocabulary.concepts[1:]:
        labels = [r["correct"] for r in frame.iter_rows(named=True) if concept in r["concepts"]]
        share_c[concept] = round((sum(labels) + 20 * overall) / (len(labels) + 20) * 256) / 256
    for i, concept in enumerate(vocabulary.concepts[1:], 1):
        assert vocabulary.difficulty.concept[i, 0] == share_c[concept]
    for i, question in enumerate(vocabulary.questions[1:], 1):
        rows = frame.filter(pl.col("question_id") == question)
        prior = np.mean([share_c[c] for c in rows["concepts"][0]])
        expected = round((rows["correct"].sum() + 5 * prior) / (rows.height + 5) * 256) / 256
        assert vocabulary.difficulty.question[i].tolist() == [expected, rows.height]
    assert (vocabulary.difficulty.question * 256 % 1 == 0).all()


def test_the_median_question_of_a_concept_lies_in_the_middle(frame: pl.DataFrame):
    vocabulary = Vocabulary.fit(frame)
    for concept, question in vocabulary.median_question.items():
        questions = vocabulary.questions_of[concept]
        assert question in questions
        places = [vocabulary.questions.index(q) for q in questions]
        share = vocabulary.difficulty.question[places, 0]
        own = vocabulary.difficulty.question[vocabulary.questions.index(question), 0]
        assert (share < own).sum() <= (len(share) - 1) // 2
        assert (share > own).sum() <= len(share) // 2
    bare = frame.with_columns(pl.lit(None, dtype=pl.String).alias("question_id"))
    assert set(Vocabulary.fit(bare).median_question.values()) == {None}


def test_frames_that_are_no_log_are_refused():
    with pytest.raises(ValueError, match="question_id should be String, got no such column; give the frame"):
        Vocabulary.fit(pl.DataFrame({"student_id": ["a"]}))


def test_real_logs_are_encoded_in_a_second(real_log, record_property):
    frame = open_log(real_log("assistments2009_folds0-4.parquet")).frame
    start = time.process_time()
    vocabulary = Vocabulary.fit(frame)
    answers = vocabulary.encode(frame)
    seconds = time.process_time() - start
    record_property("told", f"vocabulary and encoding of {len(answers):,} answers: {seconds:.2f} CPU-s")
    assert vocabulary.slots == 4
    assert seconds < 5

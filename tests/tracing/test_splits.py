"""Who is trained on, chosen on and judged on: never one student in two of these."""

import numpy as np
import polars as pl
import pytest

from remem.apps.tracing import sets
from remem.apps.tracing.data import TracingData
from remem.apps.tracing.sets import (
    hash_fold,
    load_log,
    read_folds,
    refuse_shared,
    split_by_fold,
    with_folds,
)
from remem.data.tracing.findings import Findings
from remem.data.tracing.simulate import simulate_log


@pytest.fixture(scope="module")
def log():
    return simulate_log(60, 40, 5, seed=3, answers=(3, 12))


def answered(frame):
    return sets.Answered(frame, "a test", None)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("0,2,3", [0, 2, 3]), ("0, 2", [0, 2]), ("1", [1]), (1, [1]), ([4, 2], [4, 2]), (None, []), ("", [])],
)
def test_folds_are_read_from_whatever_the_command_line_makes_of_them(given, wanted):
    assert read_folds(given) == wanted


def test_folds_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="wanted whole numbers"):
        read_folds("0;1")


def test_parts_hold_exactly_the_rows_of_their_folds_in_order(log):
    parts = split_by_fold(answered(log), train=[0, 2, 4], valid=[1], test=[3])
    for part, folds in ((parts.train, [0, 2, 4]), (parts.valid, [1]), (parts.tests["fold 3"], [3])):
        assert part.equals(log.filter(pl.col("fold").is_in(folds)))


def test_without_folds_students_are_dealt_out_by_their_id_alone(log):
    bare = log.drop("fold")
    parts = split_by_fold(answered(bare), train=[0, 2, 3, 4], valid=[1])
    share = parts.valid["student_id"].n_unique() / bare["student_id"].n_unique()
    assert 0.08 < share < 0.35
    assert parts.train.height + parts.valid.height == bare.height
    fewer = with_folds(bare.filter(pl.col("student_id") != "s1"))
    whole = with_folds(bare)
    assert fewer.equals(whole.filter(pl.col("student_id") != "s1")), "other students stay where they were"
    assert "hash" in parts.words


def test_hashes_spread_and_depend_on_the_seed():
    folds = np.array([hash_fold(f"student {i}") for i in range(5000)])
    assert np.abs(np.bincount(folds, minlength=5) - 1000).max() < 120
    assert [hash_fold(f"{i}", seed=1) for i in range(40)] != [hash_fold(f"{i}") for i in range(40)]


@pytest.mark.parametrize(
    ("folds", "words"),
    [
        ({"train": [0, 1], "valid": [1]}, "a fold has one purpose"),
        ({"train": [0, 1], "valid": [7]}, "the log has folds"),
        ({"train": [0], "valid": [1], "test": [9]}, "test_folds"),
    ],
)
def test_folds_that_make_no_sense_are_told(log, folds, words):
    with pytest.raises(ValueError, match=words):
        split_by_fold(answered(log), **folds)


def test_a_student_in_two_folds_is_refused(log):
    moved = log.with_columns(
        pl.when(pl.int_range(pl.len()).over("student_id") == 0)
        .then(1)
        .otherwise(0)
        .cast(pl.Int8)
        .alias("fold")
    )
    with pytest.raises(ValueError, match="60 students are in train and in valid, first s1"):
        split_by_fold(answered(moved), train=[0], valid=[1])


def test_shared_students_are_found_in_any_two_parts(log):
    one = log.filter(pl.col("student_id") == "s1")
    refuse_shared({"a": one, "b": log.filter(pl.col("student_id") == "s2")})
    with pytest.raises(ValueError, match="in a and in c"):
        refuse_shared({"a": one, "b": log.filter(pl.col("student_id") == "s2"), "c": one})


def test_a_missing_real_set_gives_simulated_students_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sets, "find", lambda name, root: None)
    monkeypatch.setattr(sets, "SIMULATED_STUDENTS", 5)
    got = load_log(name="assistments2015")
    assert got.frame["student_id"].n_unique() == 5
    assert "'assistments2015' was not found; set REMEM_DATA" in got.source
    with pytest.raises(ValueError, match="is not there"):
        load_log(name="assistments2015", root=str(tmp_path))
    with pytest.raises(ValueError, match="assistments2009"):
        load_log(name="asistments2009")


def test_own_files_for_validation_and_judging(log, tmp_path, capsys):
    for name, folds in (("train", [0, 1, 2]), ("valid", [3]), ("test", [4])):
        log.filter(pl.col("fold").is_in(folds)).drop("fold").write_parquet(tmp_path / f"{name}.parquet")
    paths = {name: str(tmp_path / f"{name}.parquet") for name in ("train", "valid", "test")}
    data = TracingData(path=paths["train"], valid_path=paths["valid"], test_path=paths["test"])
    assert data.splits.train.height == log.filter(pl.col("fold") <= 2).height
    assert data.splits.valid.height == log.filter(pl.col("fold") == 3).height
    assert [frame.height for frame in data.judged()] == [log.filter(pl.col("fold") == 4).height]
    assert "own log train.parquet" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"in --data.path and in --data.valid_path"):
        TracingData(path=paths["train"], valid_path=paths["train"]).splits  # noqa: B018
    with pytest.raises(ValueError, match=r"in training and in .*train.parquet"):
        TracingData(path=paths["train"], test_path=paths["train"]).splits  # noqa: B018


def test_folds_of_a_log_that_is_wholly_trained_on_are_not_passed_over(tmp_path):
    with pytest.raises(ValueError, match=r"--data.test_folds 3 goes without --data.valid_path"):
        TracingData(path=str(tmp_path / "a"), valid_path=str(tmp_path / "b"), test_folds=3)


def test_what_reading_repaired_is_told_of_every_file(log, tmp_path, capsys):
    for name, folds in (("train", [0, 1, 2]), ("valid", [3]), ("test", [4])):
        part = log.filter(pl.col("fold").is_in(folds)).drop("fold", "p_true")
        part.with_columns(pl.lit(name).alias(f"extra_{name}")).write_parquet(tmp_path / f"{name}.parquet")
    paths = {name: str(tmp_path / f"{name}.parquet") for name in ("train", "valid", "test")}
    data = TracingData(path=paths["train"], valid_path=paths["valid"], test_path=paths["test"])
    assert data.splits.valid.height
    told = capsys.readouterr().err
    for name in paths:
        assert f"first: extra_{name}" in told


def test_names_of_concepts_reach_the_splits(log, monkeypatch):
    names = {"c1": "Fractions"}
    monkeypatch.setattr(
        "remem.apps.tracing.data.load_log", lambda **_: sets.Answered(log, "", Findings(), names)
    )
    assert TracingData().splits.names == names


def test_too_few_students_to_deal_out_are_told_so():
    one = simulate_log(1, 10, 2, seed=0).drop("p_true", "fold")
    with pytest.raises(ValueError, match="there are 1 of them; wanted more students"):
        split_by_fold(answered(one), train=[0, 2, 3, 4], valid=[1])

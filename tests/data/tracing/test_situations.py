"""Tables of the situations in which questions are asked: a plain loop over answers gives the same."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from remem.data.tracing.encode import Vocabulary
from remem.data.tracing.simulate import simulate_log
from remem.data.tracing.situations import situation_tables


def _grid(value: float) -> float:
    return round(value * 256) / 256


def _loop(vocabulary: Vocabulary, frame: pl.DataFrame) -> dict[str, dict]:
    """Means of every table from one pass over the answers, students one by one."""
    question_at = {name: i for i, name in enumerate(vocabulary.questions)}
    concept_at = {name: i for i, name in enumerate(vocabulary.concepts)}
    seen: dict[str, dict] = {"run": {}, "attempts": {}, "rate": {}, "position": {}, "fresh": {}, "pair": {}}
    for name in (*(f"after_{i}" for i in range(3)), *(f"ability_{i}" for i in range(3))):
        seen[name] = {}
    seen |= {f"tried_{i}": {} for i in range(7)} | {"state": {}}
    for student in frame.partition_by("student_id", maintain_order=True):
        history: list[tuple[list[int], int]] = []
        asked: list[int] = []
        for row in student.iter_rows(named=True):
            if row["correct"] is None:
                continue
            concepts = [concept_at[c] for c in row["concepts"]]
            question, win = question_at[row["question_id"]], row["correct"]
            run = 0
            while run < len(history) and history[-1 - run][0][0] == concepts[0]:
                run += 1
            attempts = sum(c in past for c in concepts for past, _ in history)
            rate = (sum(w for _, w in history) + 1) / (len(history) + 2)
            last = 2 if not history else history[-1][1]
            previous = history[-1][0][0] if history else 0
            tries = 0
            while tries < min(len(asked), 3) and asked[-1 - tries] == question:
                tries += 1
            tried = 0 if tries == 0 else 2 * tries - 1 + last
            outcomes = [w for _, w in history[len(history) - min(run, 4) :]]
            state = (0, 1, 3, 7, 15)[len(outcomes)] + int("0" + "".join(map(str, outcomes)), 2)
            ability = (rate >= 0.55) + (rate >= 0.72)
            for name, key, value in (
                ("run", question, min(run, 32)),
                ("attempts", question, min(attempts, 50)),
                ("rate", question, rate),
                ("position", concepts[0], min(len(history), 300)),
                ("fresh", concepts[0], float(run == 0)),
                ("pair", (previous, concepts[0]), win),
                (f"after_{last}", question, win),
                (f"ability_{ability}", question, win),
                (f"tried_{tried}", question, win),
                ("state", (concepts[0], state), win),
            ):
                seen[name].setdefault(key, []).append(value)
            history.append((concepts, win))
            asked.append(question)
    return seen


def test_tables_are_those_of_a_plain_loop() -> None:
    frame = simulate_log(40, 60, 8, seed=3)
    # every fifth question is tried again at once, up to four times, with answers of its own
    again = np.arange(frame.height).repeat(
        np.where(np.arange(frame.height) % 5 == 0, 1 + np.arange(frame.height) % 4, 1)
    )
    frame = frame[again].with_columns(
        correct=pl.Series(np.random.default_rng(0).integers(0, 2, len(again)), dtype=pl.Int8)
    )
    frame = frame.with_columns(
        correct=pl.when(pl.int_range(pl.len()) % 17 == 0).then(None).otherwise("correct").cast(pl.Int8)
    )
    vocabulary = Vocabulary.fit(frame)
    tables = situation_tables(vocabulary, vocabulary.encode(frame))
    seen = _loop(vocabulary, frame)

    def pooled(name: str) -> float:
        values = [v for part in seen[name].values() for v in part]
        return sum(values) / len(values)

    for column, name in ((5, "run"), (6, "attempts"), (7, "rate")):
        for key in range(len(vocabulary.questions)):
            values = seen[name].get(key, [])
            wanted = _grid((sum(values) + 5 * pooled(name)) / (len(values) + 5))
            assert abs(tables.question[key, column] - wanted) <= 1 / 256, (name, key)
    for column, name in ((2, "position"), (3, "fresh")):
        for key in range(len(vocabulary.concepts)):
            values = seen[name].get(key, [])
            wanted = _grid((sum(values) + 20 * pooled(name)) / (len(values) + 20))
            assert abs(tables.concept[key, column] - wanted) <= 1 / 256, (name, key)
    for name, start, number in (("ability", 8, 3), ("tried", 11, 7)):
        for cell in range(number):
            for key in range(1, len(vocabulary.questions)):
                values = seen[f"{name}_{cell}"].get(key, [])
                wanted = (sum(values) + 5 * tables.question[key, 0]) / (len(values) + 5)
                assert abs(tables.question[key, start + cell] - wanted) <= 1 / 256, (name, cell, key)
    assert len(seen["state"]) > 50
    for (first, state), values in seen["state"].items():
        wanted = (sum(values) + 20 * tables.concept[first, 0]) / (len(values) + 20)
        assert abs(tables.run[first, state] - wanted) <= 1 / 256
    for (previous, first), values in seen["pair"].items():
        wanted = _grid((sum(values) + 20 * tables.concept[first, 0]) / (len(values) + 20))
        assert abs(tables.pair[previous, first] - wanted) <= 1 / 256
    overall = frame["correct"].drop_nulls().mean()
    for outcome in range(3):
        shift = math.log(pooled(f"after_{outcome}") / (1 - pooled(f"after_{outcome}")))
        shift -= math.log(overall / (1 - overall))
        for key in range(1, len(vocabulary.questions)):
            share = float(tables.question[key, 0])
            prior = 1 / (1 + math.exp(-(math.log(share / (1 - share)) + shift)))
            values = seen[f"after_{outcome}"].get(key, [])
            wanted = (sum(values) + 5 * prior) / (len(values) + 5)
            assert abs(tables.question[key, 2 + outcome] - wanted) <= 1 / 256


def test_values_lie_on_the_grid_and_shares_are_the_vocabulary_s() -> None:
    frame = simulate_log(30, 50, 6, seed=1)
    vocabulary = Vocabulary.fit(frame)
    tables = situation_tables(vocabulary, vocabulary.encode(frame))
    for table in (tables.question, tables.concept, tables.pair, tables.run):
        assert np.array_equal(table * 256, np.round(table * 256))
    asked = vocabulary.difficulty.question[:, 1] > 0
    assert np.array_equal(tables.question[asked, :2], vocabulary.difficulty.question[asked])
    assert np.array_equal(tables.concept[:, :2], vocabulary.difficulty.concept)


def test_students_left_out_do_not_count() -> None:
    frame = simulate_log(30, 50, 6, seed=2)
    vocabulary = Vocabulary.fit(frame)
    answers = vocabulary.encode(frame)
    some = np.arange(0, 30, 2)
    of_some = situation_tables(vocabulary, answers, some)
    alone = situation_tables(vocabulary, answers.take(some))
    assert all(
        np.array_equal(a, b)
        for a, b in (
            (of_some.question, alone.question),
            (of_some.concept, alone.concept),
            (of_some.pair, alone.pair),
        )
    )
    whole = situation_tables(vocabulary, answers)
    assert not np.array_equal(whole.question, of_some.question)

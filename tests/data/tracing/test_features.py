"""Features of answers against a loop over whole histories; none may look at its own or a later answer."""

import datetime
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remem.data.tracing import features
from remem.data.tracing.concept_history import WINDOWS
from remem.data.tracing.encode import Vocabulary
from remem.data.tracing.features import MEMORY, UNBOUNDED, HistoryFeatures, answer_features
from remem.data.tracing.schema import COLUMNS

START = datetime.datetime(2020, 1, 1)
MINUTES = (0, 1, 30, 60, 61, 1440, 2000, 10080, 43200, 43201)


@st.composite
def logs(draw, most=70):
    """One to three students, few questions and concepts so that they come again, gaps, unanswered rows."""
    rows = []
    for student in range(draw(st.integers(1, 3))):
        timed, clock = draw(st.booleans()), START
        for _ in range(draw(st.integers(0 if rows else 1, most))):
            question = draw(st.sampled_from([None, "q1", "q2", "q3", "q4"]))
            concepts = draw(st.lists(st.sampled_from("abc"), max_size=3, unique=True))
            clock += datetime.timedelta(minutes=draw(st.sampled_from(MINUTES)))
            correct = draw(st.sampled_from([0, 1, 1, None]))
            rows.append(
                (
                    f"s{student}",
                    question,
                    concepts,
                    correct,
                    clock if timed and draw(st.integers(0, 4)) else None,
                )
            )
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def average(outcomes, decay, length):
    """Moving average of a list, oldest first, in fixed point around 1/2."""
    newest = outcomes[::-1][:length]
    return 0.5 + sum(round((1 - decay) * decay**j * 4096) / 4096 * (o - 0.5) for j, o in enumerate(newest))


def naive(answers, difficulty):
    """A dict of features for every row, from lists of what was answered before."""
    out = []
    for s in range(len(answers.students)):
        past = []  # (question, concepts, correct, residual, minutes)
        for x in answers.x[answers.offsets[s] : answers.offsets[s + 1]].astype(float):
            question, correct, minutes = int(x[0]), x[1], x[2]
            concepts = [int(c) for c in x[3:] if c > 0]
            shares = [difficulty.concept[c, 0] for c in concepts or [0]]
            p, count = difficulty.question[question]
            if count == 0:
                p = round(np.mean(shares) * 256) / 256
            out.append(row_features(past, question, concepts, minutes, shares, p, count, difficulty))
            if not np.isnan(correct):
                past.append((question, concepts, correct, correct - p, minutes))
    return out


def row_features(past, question, concepts, minutes, shares, p, count, difficulty):
    n, recent = len(past), past[-32:]
    f = {"q_mean": p, "q_count": count}
    on_q = [a for a in past if a[0] == question and question > 0]
    near_q = [(age, a) for age, a in enumerate(reversed(recent), 1) if a in on_q]
    f |= {"q_attempts": len(near_q), "q_wins": sum(a[2] for _, a in near_q)}
    f |= {"q_last": near_q[0][1][2] if near_q else 0.5, "q_ago": near_q[0][0] if near_q else 33}
    f |= {"q_attempts_all": len(on_q), "q_wins_all": sum(a[2] for a in on_q)}
    for name, decay in (("fast", 0.5), ("slow", 0.875)):
        f[f"q_ema_{name}"] = average([a[2] for a in on_q], decay, 16)

    met = [[(i, a) for i, a in enumerate(past) if c in a[1]] for c in concepts]
    right = [[a[2] for _, a in one] for one in met]
    slots = max(len(concepts), 1)
    f |= {"c_mean": np.mean(shares), "c_min": min(shares), "num_concepts": len(concepts)}
    f["c_count"] = sum(difficulty.concept[c, 1] for c in concepts) / slots
    f["c_attempts"] = sum(map(len, right))
    f["c_wins"] = sum(map(sum, right))
    f["c_fails"] = f["c_attempts"] - f["c_wins"]
    f["c_rate"] = (f["c_wins"] + 1) / (f["c_attempts"] + 2)
    for name, decay in (("fast", 0.5), ("mid", 0.75), ("slow", 0.875)):
        f[f"c_ema_{name}"] = np.mean([average(r, decay, 16) for r in right or [[]]])
    f["c_last5"] = np.mean([2.5 + sum(o - 0.5 for o in r[-5:]) for r in right or [[]]])
    f["c_residual"] = sum(a[3] for one in met for _, a in one)
    f["c_residual_mean"] = f["c_residual"] / (f["c_attempts"] + 2)
    f["c_new"] = sum(not one for one in met) if concepts else 1
    f["c_ago"] = min([n - one[-1][0] for one in met if one], default=16384)
    clocks = [one[-1][1][4] for one in met if one and not np.isnan(one[-1][1][4])]
    f["c_minutes"] = minutes - max(clocks, default=np.nan)
    for name, length in WINDOWS.items():
        inside = [a for one in met for _, a in one if minutes - a[4] <= length]
        timed = not np.isnan(minutes)
        f[f"c_attempts_{name}"] = len(inside) if timed else np.nan
        f[f"c_wins_{name}"] = sum(a[2] for a in inside) if timed else np.nan

    outcomes = [a[2] for a in past]
    f |= {"s_answers": n, "s_wins": sum(outcomes), "s_rate": (sum(outcomes) + 1) / (n + 2)}
    for name, decay in (("fast", 0.75), ("mid", 0.875), ("slow", 0.9375)):
        f[f"s_ema_{name}"] = average(outcomes, decay, 32)
    f["s_residual_mean"] = sum(a[3] for a in past) / (n + 2)
    f["s_residual_ema"] = average([a[3] for a in past], 0.875, 32) - average([0.0] * n, 0.875, 32)
    f["s_streak"] = run_of(recent, lambda a: a[2] == 1)[0]
    f["s_minutes"] = minutes - past[-1][4] if past else np.nan
    f["run"], f["run_wins"] = run_of(recent, lambda a: bool(concepts) and a[1][:1] == concepts[:1])
    return f


def run_of(recent, belongs):
    """Length of the run at the end, and the right answers in it."""
    length = wins = 0
    for answer in reversed(recent):
        if not belongs(answer):
            break
        length, wins = length + 1, wins + answer[2]
    return length, wins


@given(logs(), logs(10))
@settings(deadline=None, max_examples=60)
def test_features_are_those_of_the_loop(log, train):
    vocabulary = Vocabulary.fit(train)
    answers = vocabulary.encode(log)
    got = answer_features(answers, [vocabulary.difficulty])
    assert tuple(got) == (*MEMORY, *UNBOUNDED)
    wanted = naive(answers, vocabulary.difficulty)
    for name, values in got.items():
        expected = np.array([row[name] for row in wanted], float)
        # means over slots divide last, so that float64 differs from the loop by rounding only
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12, err_msg=name)


@given(logs(), st.data())
@settings(deadline=None, max_examples=60)
def test_an_answer_changes_nothing_up_to_itself_and_nothing_of_others(log, data):
    at = data.draw(st.integers(0, log.height - 1))
    history = HistoryFeatures(Vocabulary.fit(log), (Vocabulary.fit(log).difficulty,), {})
    flipped = log["correct"].to_list()
    flipped[at] = {0: 1, 1: None, None: 0}[flipped[at]]
    other = log.with_columns(correct=pl.Series(flipped, dtype=pl.Int8))
    student = log["student_id"] == log["student_id"][at]
    untouched = ~student | (pl.Series(np.arange(log.height)) <= at)
    before, after = (history.transform(frame).filter(untouched) for frame in (log, other))
    assert before.equals(after)


def test_students_that_stand_apart_get_their_features_where_they_stand():
    rng = np.random.default_rng(0)
    rows = [
        ("ab"[rng.integers(2)], f"q{rng.integers(4)}", ["c"], int(rng.integers(2)), None) for _ in range(50)
    ]
    mixed = pl.DataFrame(rows, schema=COLUMNS, orient="row")
    history = HistoryFeatures.fit(mixed, folds=2)
    order = mixed["student_id"].arg_sort()
    assert history.transform(mixed)[order].equals(history.transform(mixed[order]))


def test_no_student_of_the_training_log_sees_their_own_answers():
    rng = np.random.default_rng(1)
    rows = [
        (f"s{s}", f"q{rng.integers(5)}", [f"c{rng.integers(2)}"], int(rng.integers(2)), None)
        for s in range(12)
        for _ in range(9)
    ]
    train = pl.DataFrame(rows, schema=COLUMNS, orient="row")
    history = HistoryFeatures.fit(train, folds=3)
    first = train.filter(pl.col("student_id") == "s0")
    flipped = train.with_columns(
        pl.when(pl.col("student_id") == "s0")
        .then(1 - pl.col("correct"))
        .otherwise("correct")
        .alias("correct")
    )
    again = HistoryFeatures.fit(flipped, folds=3)
    names = ["q_mean", "q_count", "c_mean", "c_count"]
    assert history.transform(first)[names].equals(again.transform(first)[names])
    # a student from elsewhere sees all of them
    new = first.with_columns(pl.lit("new").alias("student_id"))
    assert not history.transform(new)[names].equals(again.transform(new)[names])
    assert history.transform(new)["c_count"].max() > history.transform(first)["c_count"].max()


def test_features_of_a_long_log_take_seconds():
    rng = np.random.default_rng(2)
    n = 325_000
    log = pl.DataFrame(
        {
            "student_id": np.sort(rng.integers(0, 4000, n)).astype(str),
            "question_id": rng.integers(0, 17_000, n).astype(str),
            "concepts": rng.integers(0, 110, (n, 1)).astype(str).tolist(),
            "correct": rng.integers(0, 2, n),
            "timestamp": [None] * n,
        },
        schema=COLUMNS,
    )
    start = time.process_time()
    HistoryFeatures.fit(log).transform(log)
    assert time.process_time() - start < 10  # 2 s on a quiet core


def test_the_memory_inside_a_bundle_gives_the_same_bits():
    torch = pytest.importorskip("torch")
    from remem.core.layers import concept_memory

    rng = np.random.default_rng(3)
    rows = []
    for s in range(6):
        for t in range(80):
            concepts = [f"c{c}" for c in rng.choice(5, rng.integers(0, 4), replace=False)]
            clock = START + datetime.timedelta(minutes=int(100 * t)) if rng.uniform() < 0.7 else None
            correct = None if rng.uniform() < 0.1 else int(rng.integers(2))
            rows.append((f"s{s}", f"q{rng.integers(9)}", concepts, correct, clock))
    log = pl.DataFrame(rows, schema=COLUMNS, orient="row")
    vocabulary = Vocabulary.fit(log.head(300))
    answers = vocabulary.encode(log)
    sizes = len(vocabulary.questions) - 1, len(vocabulary.concepts) - 1
    memory = concept_memory.ConceptMemory(*sizes, slots=vocabulary.slots)
    difficulty = vocabulary.difficulty
    padded = np.pad(difficulty.question, ((0, 0), (0, 16))), np.pad(difficulty.concept, ((0, 0), (0, 2)))
    pairs, runs = (np.zeros((sizes[1] + 1, width)) for width in (sizes[1] + 1, 31))
    memory.set_tables(*(torch.from_numpy(table) for table in (*padded, pairs, runs)))
    x_BTF, mask_BT = (torch.from_numpy(a) for a in answers.pad(np.arange(6)))
    z_BTZ, _ = memory(x_BTF, mask_BT=mask_BT)
    assert memory.out_names[: len(MEMORY)] == MEMORY
    own = answer_features(answers, [difficulty])
    for i, name in enumerate(MEMORY):
        np.testing.assert_array_equal(
            own[name].astype(np.float32), z_BTZ[mask_BT][:, i].numpy(), err_msg=name
        )
    assert (features.RING, features.BITS) == (concept_memory.RING, concept_memory.BITS)

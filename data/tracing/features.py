"""What was known of a student before each answer: counts, averages, difficulty, gaps, windows. numpy over whole logs.

The first columns, `MEMORY`, are those that a bundle computes in constant memory, with the same values to the last
bit; `UNBOUNDED` need the whole history: counts and averages per question, and windows where there are timestamps.

n rows, K concept slots, E entries: (row, concept) pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ..split import group_folds
from .answers import CORRECT, MINUTES, Answers
from .concept_history import WINDOWS, ConceptHistory
from .encode import Vocabulary
from .past import Past
from .shrinkage import Difficulty, ids, on_grid

RING = 32
"""Last answers that `MEMORY` looks back on, one by one."""
BITS = 16
"""Last outcomes on a concept that `MEMORY` looks back on."""
NEVER = 16384.0
"""Answers since the last one on a concept, at most; also where there was none."""
CONCEPT_DECAYS = {"fast": 0.5, "mid": 0.75, "slow": 0.875}
STUDENT_DECAYS = {"fast": 0.75, "mid": 0.875, "slow": 0.9375}

# fmt: off
MEMORY = (
    "q_mean", "q_count", "q_attempts", "q_wins", "q_last", "q_ago",
    "c_mean", "c_attempts", "c_wins", "c_fails", "c_rate", "c_ema_fast", "c_ema_mid", "c_ema_slow",
    "c_last5", "c_residual", "c_residual_mean", "c_new", "num_concepts",
    "s_answers", "s_wins", "s_rate", "s_ema_fast", "s_ema_mid", "s_ema_slow", "s_residual_mean", "s_residual_ema",
    "s_streak", "run", "run_wins", "c_min", "c_ago", "c_minutes", "s_minutes",
)
"""Of the question asked (`q_`), its concepts (`c_`, summed or averaged), the student (`s_`), and the run of answers
on the first concept. See `answer_features` for each."""
UNBOUNDED = (
    "c_count", "q_attempts_all", "q_wins_all", "q_ema_fast", "q_ema_slow",
    *(f"c_{what}_{name}" for name in WINDOWS for what in ("attempts", "wins")),
)
# fmt: on


@dataclass(frozen=True)
class HistoryFeatures:
    """Features of any log, with difficulties from a training log, in which no student sees their own answers.

    difficulties: of all training students, then of those outside each fold.
    fold: training student -> 1 + fold, the place in `difficulties` of the one without them.
    """

    vocabulary: Vocabulary
    difficulties: tuple[Difficulty, ...]
    fold: dict[str, int]

    @classmethod
    def fit(cls, train: pl.DataFrame, *, folds: int = 5, seed: int = 0) -> HistoryFeatures:
        """From a conformed training log.

        Raises:
            ValueError: where the log has fewer students than folds.
        """
        vocabulary = Vocabulary.fit(train)
        answers = vocabulary.encode(train)
        sizes = len(vocabulary.questions) - 1, len(vocabulary.concepts) - 1
        difficulties, fold = [vocabulary.difficulty], dict[str, int]()
        for others, held in group_folds(answers.students, folds, seed=seed):
            difficulties.append(Difficulty.fit(answers.take(others).x, *sizes))
            fold |= {answers.students[s]: len(difficulties) - 1 for s in held}
        return cls(vocabulary, tuple(difficulties), fold)

    def transform(self, log: pl.DataFrame) -> pl.DataFrame:
        """One row of float32 features per row of a conformed log: `MEMORY`, then `UNBOUNDED`.

        Students of the training log get the difficulties of a fold without them, others those of all.
        """
        answers = self.vocabulary.encode(log)
        which = np.array([self.fold.get(student, 0) for student in answers.students])
        columns = answer_features(answers, self.difficulties, which)
        order = np.empty_like(answers.row)
        order[answers.row] = np.arange(len(answers.row))
        return pl.DataFrame({name: values.astype(np.float32)[order] for name, values in columns.items()})


def answer_features(
    answers: Answers, difficulties: Sequence[Difficulty], which: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """`MEMORY` and `UNBOUNDED` columns by name, each (n,) float64, in the order of the encoded rows.

    Of answers strictly before the row; rows not answered have features, and leave those behind them as they are.
    `rate`: (wins + 1) / (n + 2). `ema`: moving average in fixed point around 1/2. `residual`: correct minus the share
    of right answers to the question in training. `ago`: 1 is the answer just before. `new`: concepts never met.

    Args:
        answers: an encoded log.
        difficulties: one or several.
        which: (students,) place of each student's difficulty in `difficulties`. Default: all the first.
    """
    sizes = len(difficulties[0].question) - 1, len(difficulties[0].concept) - 1
    question, concept, used = ids(answers.x, *sizes)
    minutes, correct = (answers.x[:, at].astype(float) for at in (MINUTES, CORRECT))
    answered, win = np.isfinite(correct), (correct >= 0.5).astype(float)
    student = answers.student_of
    table = np.zeros(len(student), int) if which is None else np.asarray(which)[student]

    number_of = used.sum(1)
    slots = np.maximum(number_of, 1)
    own, count = np.moveaxis(np.stack([d.question for d in difficulties])[table, question], -1, 0)
    of_concept = np.stack([d.concept for d in difficulties])
    share_K, count_K = np.moveaxis(of_concept[table[:, None], concept], -1, 0)
    overall = of_concept[table, 0, 0]
    mean = ((share_K * used).sum(1) + (number_of == 0) * overall) / slots
    # what has no training answer is as hard as its concepts
    p = np.where(count > 0, own, on_grid(mean))
    residual = win - p

    row = _Row(question, concept, minutes, answered, win, residual, student)
    out = {"q_mean": p, "q_count": count, "c_mean": mean, "num_concepts": number_of}
    out["c_min"] = np.where(number_of > 0, np.where(used, share_K, 1.0).min(1), overall)
    out["c_count"] = (count_K * used).sum(1) / slots
    out |= _of_student(row)
    out |= _of_concepts(row, ConceptHistory(answers, sizes[1]), out["s_answers"])
    out |= _of_question(row)
    return {name: np.asarray(out[name], float) for name in (*MEMORY, *UNBOUNDED)}


@dataclass(frozen=True)
class _Row:
    """Columns of the rows of a log, all (n,) but concept (n, K)."""

    question: np.ndarray
    concept: np.ndarray
    minutes: np.ndarray
    answered: np.ndarray
    win: np.ndarray
    residual: np.ndarray
    student: np.ndarray


def _weights(decay: float, length: int) -> np.ndarray:
    """Weights of a moving average, newest first, as multiples of 2^-12."""
    return np.round((1 - decay) * decay ** np.arange(length) * 4096) / 4096


def _averages(past: Past, win: np.ndarray, decays: dict[str, float], length: int) -> dict[str, np.ndarray]:
    """(E,) moving averages of the last `length` outcomes minus 1/2, by name; missing ones add nothing."""
    centred = past.written(win) - 0.5
    weights = {name: _weights(decay, length) for name, decay in decays.items()}
    out = {name: np.zeros(len(past.place)) for name in decays}
    for age in range(1, min(length, int(past.before.max(initial=0))) + 1):
        value = past.at(centred, age, 0.0)
        for name, weight in weights.items():
            out[name] += weight[age - 1] * value
    return out


def _of_student(row: _Row) -> dict[str, np.ndarray]:
    past = Past(row.student, row.answered)
    n, wins = past.before, past.total(row.win)
    first = row.concept[:, 0]
    asked, on, won, left, then = (
        past.written(v) for v in (row.question, first, row.win, row.residual, row.minutes)
    )
    zero = np.zeros(len(n))
    attempts, q_wins, last, ago = zero.copy(), zero.copy(), zero + 0.5, zero + RING + 1
    streak, run, run_wins, ema = zero.copy(), zero.copy(), zero.copy(), zero.copy()
    right, running = np.ones(len(n), bool), first > 0
    for age, weight in enumerate(_weights(STUDENT_DECAYS["mid"], RING), start=1):
        there = past.before >= age
        if not there.any():
            break
        outcome = past.at(won, age, 0.0)
        same = (past.at(asked, age, 0) == row.question) & (row.question > 0)
        attempts += same
        q_wins += same * outcome
        youngest = same & (ago > RING)
        ago[youngest], last[youngest] = age, outcome[youngest]
        right &= outcome > 0
        streak += right
        running &= past.at(on, age, 0) == first
        run += running
        run_wins += running * outcome
        ema += weight * past.at(left, age, 0.0)
    out = {"q_attempts": attempts, "q_wins": q_wins, "q_last": last, "q_ago": ago}
    out |= {"s_answers": n, "s_wins": wins, "s_rate": (wins + 1) / (n + 2)}
    for name, average in _averages(past, row.win, STUDENT_DECAYS, RING).items():
        out[f"s_ema_{name}"] = 0.5 + average
    out["s_residual_mean"] = past.total(row.residual) / (n + 2)
    out |= {"s_residual_ema": ema, "s_streak": streak, "run": run, "run_wins": run_wins}
    out["s_minutes"] = row.minutes - past.at(then, 1, np.nan)
    return out


def _of_concepts(row: _Row, history: ConceptHistory, number: np.ndarray) -> dict[str, np.ndarray]:
    entry, past, rows = history.row, history.past, len(number)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(entry, values, rows)

    concepts = np.bincount(entry, minlength=rows)
    bare, slots = concepts == 0, np.maximum(concepts, 1)
    attempts, wins = total(history.attempts), total(history.wins)
    left = total(past.total(row.residual[entry]))
    out = {"c_attempts": attempts, "c_wins": wins, "c_fails": attempts - wins, "c_residual": left}
    out |= {"c_rate": (wins + 1) / (attempts + 2), "c_residual_mean": left / (attempts + 2)}
    out["c_new"] = total(past.before == 0) + bare
    for name, average in _averages(past, row.win[entry], CONCEPT_DECAYS, BITS).items():
        out[f"c_ema_{name}"] = (total(average) + 0.5 * slots) / slots
    centred = past.written(row.win[entry]) - 0.5
    last5 = sum((past.at(centred, age, 0.0) for age in range(1, 6)), start=np.zeros(len(entry)))
    out["c_last5"] = (total(last5) + 2.5 * slots) / slots

    then = past.at(past.written(number[entry] + 1.0), 1, -np.inf)
    ago, minutes = np.full(rows, NEVER), np.full(rows, -np.inf)
    np.minimum.at(ago, entry, np.minimum(number[entry] + 1 - then, NEVER))
    clock = np.nan_to_num(past.at(past.written(row.minutes[entry]), 1, np.nan), nan=-np.inf)
    np.maximum.at(minutes, entry, clock)
    out |= {"c_ago": ago, "c_minutes": row.minutes - np.where(np.isfinite(minutes), minutes, np.nan)}
    timed = np.isfinite(row.minutes)
    for name, inside in history.windows().items():
        for what, values in zip(("attempts", "wins"), inside, strict=True):
            out[f"c_{what}_{name}"] = np.where(timed, total(values), np.nan)
    return out


def _of_question(row: _Row) -> dict[str, np.ndarray]:
    known = row.question > 0
    past = Past(row.student * (int(row.question.max(initial=0)) + 1) + row.question, row.answered & known)
    out = {"q_attempts_all": past.before, "q_wins_all": past.total(row.win)}
    decays = {name: CONCEPT_DECAYS[name] for name in ("fast", "slow")}
    for name, average in _averages(past, row.win, decays, BITS).items():
        out[f"q_ema_{name}"] = 0.5 + average
    return out

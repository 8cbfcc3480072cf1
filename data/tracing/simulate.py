"""Simulated students with known truth: the data of the demo, and of tests, where no real log is at hand.

Students differ in ability and in what they have a gift for, questions in difficulty; practice of a concept helps, time
without it hurts; who knows may slip, who does not may guess (Rasch 1960; Corbett and Anderson 1995; practice and
forgetting in logarithms as in Newell and Rosenbloom 1981 and Wickelgren 1974).

Shape legend: S students, Q questions, C concepts.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl

from .schema import COLUMNS

SLIP, GUESS = 0.05, 0.15
"""Chances of a wrong answer from who knows, and of a right one from who does not."""
SECOND_CONCEPT = 0.2
"""Share of questions with two concepts."""
STAY = 0.8
"""Chance that the next question of a session is on the same concept."""
SESSION_ANSWERS = 12.0
"""Mean number of answers in a session."""
ANSWER_S, BREAK_S = 45.0, 2.0 * 86_400
"""Median seconds between answers of a session, and between sessions."""
_START = datetime(2024, 1, 8)
_START_SPREAD_S = 90 * 86_400
_DAY_S = 86_400


def simulate_log(
    num_students: int = 400,
    num_questions: int = 300,
    num_concepts: int = 20,
    *,
    seed: int = 0,
    answers: tuple[int, int] = (20, 120),
    timestamps: bool = True,
    gain: float = 0.6,
    forgetting: float = 0.35,
    slip: float = SLIP,
    guess: float = GUESS,
    two_concepts: float = SECOND_CONCEPT,
) -> pl.DataFrame:
    """A log of students who learn and forget, with the true probability of each answer.

    p_true = guess + (1 - slip - guess) * sigmoid(ability - difficulty + mean over the question's concepts of
    (gift + gain * log(1 + practice) - forgetting * log(1 + days since the concept was practised)))

    Args:
        num_students, num_questions, num_concepts: sizes; every concept gets a question if there are enough.
        seed: of everything drawn.
        answers: fewest and most answers of a student; lengths are log-spread between them.
        timestamps: False leaves them null (students forget all the same).
        gain: logits per e-fold of practice.
        forgetting: logits per e-fold of days.
        slip, guess: chances, together below 1.
        two_concepts: share of questions with two concepts.

    Returns:
        A log with, in addition, `fold` (0 to 4, by student) and `p_true`.

    Raises:
        ValueError: a size is below 1, a range is empty, or a chance is no chance.
    """
    _refuse(
        num_students=num_students, num_questions=num_questions, num_concepts=num_concepts, fewest=answers[0]
    )
    if answers[1] < answers[0]:
        raise ValueError(f"simulate_log: answers is {answers}; wanted (fewest, most)")
    for name, share in (
        ("slip", slip),
        ("guess", guess),
        ("two_concepts", two_concepts),
        ("slip + guess", slip + guess),
    ):
        if not 0 <= share <= 1:
            raise ValueError(f"simulate_log: {name} is {share}; wanted 0 to 1")
    rng = np.random.default_rng(seed)
    concept_Q2 = _question_concepts(num_questions, num_concepts, two_concepts, rng)
    concept_level_C = rng.normal(0, 0.7, num_concepts)
    difficulty_Q = concept_level_C[concept_Q2[:, 0]] + rng.normal(0, 0.8, num_questions)
    ability_S = rng.normal(0.3, 0.9, num_students)
    gift_SC = rng.normal(0, 0.6, (num_students, num_concepts))
    length_S = np.exp(rng.uniform(np.log(answers[0]), np.log(answers[1] + 1), num_students)).astype(int)
    length_S = np.clip(length_S, *answers)
    by_concept = [np.flatnonzero(concept_Q2[:, 0] == c) for c in range(num_concepts)]
    has_questions = np.array([c for c in range(num_concepts) if len(by_concept[c])])

    students = np.arange(num_students)
    practice_SC = np.zeros((num_students, num_concepts))
    last_SC = np.full((num_students, num_concepts), np.nan)
    now_S = rng.uniform(0, _START_SPREAD_S, num_students).round()
    topic_S = rng.choice(has_questions, num_students)
    steps = []
    for step in range(int(length_S.max())):
        moves_S = rng.uniform(size=num_students) > STAY
        topic_S = np.where(moves_S, rng.choice(has_questions, num_students), topic_S)
        draw_S = rng.uniform(size=num_students)
        question_S = np.array(
            [by_concept[c][int(u * len(by_concept[c]))] for c, u in zip(topic_S, draw_S, strict=True)]
        )
        first_S, second_S = concept_Q2[question_S].T
        both_S = second_S >= 0
        away_SC = np.log1p(np.nan_to_num((now_S[:, None] - last_SC) / _DAY_S))
        known_SC = gift_SC + gain * np.log1p(practice_SC) - forgetting * away_SC
        known_S = known_SC[students, first_S]
        known_S = np.where(both_S, (known_S + known_SC[students, second_S]) / 2, known_S)
        p_S = guess + (1 - slip - guess) * _sigmoid(ability_S - difficulty_Q[question_S] + known_S)
        correct_S = rng.uniform(size=num_students) < p_S
        steps.append((step, question_S, correct_S, p_S, now_S))
        for concept_S, counts_S in ((first_S, np.ones(num_students, dtype=bool)), (second_S, both_S)):
            who = students[counts_S]
            practice_SC[who, concept_S[counts_S]] += 1
            last_SC[who, concept_S[counts_S]] = now_S[counts_S]
        ends_S = rng.uniform(size=num_students) < 1 / SESSION_ANSWERS
        pause_S = np.where(ends_S, BREAK_S, ANSWER_S) * np.exp(rng.normal(0, 0.7, num_students))
        now_S = now_S + np.maximum(pause_S.round(), 1)

    question_ST, correct_ST, p_ST, time_ST = (np.stack([s[k] for s in steps], axis=1) for k in range(1, 5))
    given_ST = np.arange(question_ST.shape[1]) < length_S[:, None]
    owner = np.repeat(students, length_S)
    question = question_ST[given_ST]
    pairs = [[f"c{c + 1}" for c in pair if c >= 0] for pair in concept_Q2]
    microseconds = (time_ST[given_ST] * 1e6).astype(np.int64) + int(
        (_START - datetime(1970, 1, 1)).total_seconds() * 1e6
    )
    time = pl.Series(microseconds).cast(pl.Datetime("us")) if timestamps else None
    return _frame(
        student=[f"s{s + 1}" for s in owner],
        question=[f"q{q + 1}" for q in question],
        concepts=[pairs[q] for q in question],
        correct=correct_ST[given_ST],
        timestamp=time,
        fold=owner % 5,
        p_true=p_ST[given_ST],
    )


def simulate_practice(
    num_students: int = 2000,
    num_steps: int = 100,
    num_concepts: int = 50,
    *,
    seed: int = 0,
    gain: float = 0.8,
    forgetting: float = 0.5,
) -> pl.DataFrame:
    """A log whose learning curves are in each concept's own history, with the true probability of each answer.

    p_true = sigmoid(a - b + gain * log(1 + practice on this concept) - forgetting * log(1 + steps since it)), ability
    a and difficulty b of the concept standard normal, concepts uniform at every step. There are no questions and no
    timestamps; a concept that is new has not been forgotten.

    Returns:
        A log with, in addition, `fold` (0 to 4, by student) and `p_true`.

    Raises:
        ValueError: a size is below 1.
    """
    _refuse(num_students=num_students, num_steps=num_steps, num_concepts=num_concepts)
    rng = np.random.default_rng(seed)
    ability_S = rng.normal(size=num_students)
    level_C = rng.normal(size=num_concepts)
    concept_ST = rng.integers(num_concepts, size=(num_students, num_steps))
    students = np.arange(num_students)
    practice_SC = np.zeros((num_students, num_concepts))
    last_SC = np.full((num_students, num_concepts), -1)
    p_ST = np.empty((num_students, num_steps))
    for step in range(num_steps):
        concept_S = concept_ST[:, step]
        last_S = last_SC[students, concept_S]
        gap_S = np.where(last_S < 0, 0, step - last_S)
        practised_S = np.log1p(practice_SC[students, concept_S])
        p_ST[:, step] = _sigmoid(
            ability_S - level_C[concept_S] + gain * practised_S - forgetting * np.log1p(gap_S)
        )
        practice_SC[students, concept_S] += 1
        last_SC[students, concept_S] = step
    correct_ST = rng.uniform(size=p_ST.shape) < p_ST
    owner = np.repeat(students, num_steps)
    return _frame(
        student=[f"s{s + 1}" for s in owner],
        question=None,
        concepts=[[f"c{c + 1}"] for c in concept_ST.ravel()],
        correct=correct_ST.ravel(),
        timestamp=None,
        fold=owner % 5,
        p_true=p_ST.ravel(),
    )


def _frame(
    *,
    student: list[str],
    question: list[str] | None,
    concepts: list[list[str]],
    correct: np.ndarray,
    timestamp: pl.Series | None,
    fold: np.ndarray,
    p_true: np.ndarray,
) -> pl.DataFrame:
    columns = {
        "student_id": student,
        "question_id": [None] * len(student) if question is None else question,
        "concepts": concepts,
        "correct": correct.astype(np.int8),
        "timestamp": [None] * len(student) if timestamp is None else timestamp,
    }
    extra = [pl.Series("fold", fold, dtype=pl.Int8), pl.Series("p_true", p_true, dtype=pl.Float64)]
    return pl.DataFrame(columns, schema=COLUMNS).with_columns(extra)


def _question_concepts(questions: int, concepts: int, two: float, rng: np.random.Generator) -> np.ndarray:
    """(Q, 2) concepts of each question, -1 where there is no second."""
    first = np.concatenate(
        [rng.permutation(concepts), rng.integers(concepts, size=max(questions - concepts, 0))]
    )[:questions]
    other = (first + rng.integers(1, max(concepts, 2), size=questions)) % concepts
    second = np.where((rng.uniform(size=questions) < two) & (other != first), other, -1)
    return np.stack([first, second], axis=1)


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))


def _refuse(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"simulate: {name} is {size}; wanted 1 or more")

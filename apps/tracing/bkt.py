"""Bayesian knowledge tracing (Corbett and Anderson 1995): a student knows a concept or not, and answers accordingly.

Every concept is a hidden Markov chain of two states with five numbers; those of all concepts are fitted at once by
expectation maximisation, with numpy, one step of all chains at a time. A question of several concepts is an answer on
each of them, and its forecast is the mean of theirs: BKT has no other way to share one answer.

E answers on a concept (one row each of its concepts), S chains (a student on a concept), C concepts + 1.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import polars as pl

from ...data.tracing.answers import CORRECT
from ...data.tracing.encode import Vocabulary
from ...data.tracing.shrinkage import ids

BOUNDS = {
    "prior": (0.01, 0.99),
    "learn": (0.001, 0.9),
    "forget": (0.0, 0.5),
    "guess": (0.01, 0.49),
    "slip": (0.01, 0.49),
}
"""Guess and slip below a half: knowing a concept never makes a right answer less likely (guess + slip < 1)."""
_START = {"prior": 0.4, "learn": 0.1, "forget": 0.03, "guess": 0.25, "slip": 0.1}
_STRENGTH = 4.0
"""Trials' worth of its start that every number keeps, so that a concept with few answers stays near it."""
_LEAST = 1e-12


@dataclass(frozen=True)
class Parameters:
    """(C,) each. Probability to know the concept at first, to learn it at an answer, to forget it at an answer, to
    answer right without knowing it (guess), to answer wrong knowing it (slip).
    """

    prior: np.ndarray
    learn: np.ndarray
    forget: np.ndarray
    guess: np.ndarray
    slip: np.ndarray

    def take(self, concept: np.ndarray) -> Parameters:
        return Parameters(*(getattr(self, f.name)[concept] for f in fields(self)))

    def p_correct(self, known: np.ndarray) -> np.ndarray:
        """Probability of a right answer, given that of knowing the concept."""
        return known * (1 - self.slip) + (1 - known) * self.guess

    def update(self, known: np.ndarray, correct: np.ndarray) -> np.ndarray:
        """Probability of knowing the concept after an answer: what it tells, then what was learnt or forgotten."""
        right = np.asarray(correct) > 0
        if_known = known * np.where(right, 1 - self.slip, self.slip)
        if_not = (1 - known) * np.where(right, self.guess, 1 - self.guess)
        after = if_known / (if_known + if_not)
        return after * (1 - self.forget) + (1 - after) * self.learn


class BKT:
    """Bayesian knowledge tracing of every concept of a training log.

    Args:
        forgets: let a concept be forgotten; without, what is known stays known.
        iterations: of expectation maximisation, at most.
        tolerance: stop where an iteration raises the mean log-likelihood of an answer by less.
    """

    def __init__(self, *, forgets: bool = True, iterations: int = 60, tolerance: float = 1e-5) -> None:
        self.forgets, self.iterations, self.tolerance = forgets, iterations, tolerance

    def fit(self, log: pl.DataFrame) -> BKT:
        """Fit on a conformed log; sets `vocabulary`, `parameters` (row 0 unused), `share` of right answers.

        Raises:
            ValueError: where no answered row has a concept.
        """
        self.vocabulary = Vocabulary.fit(log)
        chains, concept, _, correct = self._chains(log, answered_only=True)
        if not len(correct):
            raise ValueError("BKT: no answered row of the training log has a concept; give `concepts`")
        self.share = float(log["correct"].drop_nulls().cast(pl.Float64).to_numpy().mean())
        size, right = len(self.vocabulary.concepts), correct > 0
        start = dict(_START) if self.forgets else _START | {"forget": 0.0}
        values = Parameters(*(np.full(size, start[f.name]) for f in fields(Parameters)))
        self.log_likelihoods: list[float] = []
        for _ in range(self.iterations):
            told, expected = _expect(chains, concept, right, values, size)
            self.log_likelihoods.append(float(np.log(told).mean()))
            values = Parameters(
                *(_maximise(f.name, *expected[f.name], start[f.name]) for f in fields(values))
            )
            if len(self.log_likelihoods) > 1 and np.diff(self.log_likelihoods[-2:])[0] < self.tolerance:
                break
        self.parameters = values
        return self

    def predict(self, log: pl.DataFrame) -> np.ndarray:
        """(rows,) probability of a right answer before each answer of a conformed log; from answers before it only.

        Rows without a known concept get the share of right answers in training.
        """
        chains, concept, row, correct = self._chains(log, answered_only=False)
        values = self.parameters.take(concept)
        known, _ = _filter(chains, values, correct)
        p = np.empty(len(row))
        p[chains.order] = values.take(chains.order).p_correct(known)
        total, number = np.bincount(row, p, log.height), np.bincount(row, minlength=log.height)
        return np.where(number > 0, total / np.maximum(number, 1), self.share)

    def _chains(
        self, log: pl.DataFrame, *, answered_only: bool
    ) -> tuple[_Chains, np.ndarray, np.ndarray, np.ndarray]:
        """Chains, and of every entry (E,) its concept, row of the log, and correct (NaN where not answered)."""
        answers = self.vocabulary.encode(log)
        sizes = len(self.vocabulary.questions) - 1, len(self.vocabulary.concepts) - 1
        _, concept_NK, used_NK = ids(answers.x, *sizes)
        correct_N = answers.x[:, CORRECT].astype(float)
        if answered_only:
            used_NK = used_NK & np.isfinite(correct_N)[:, None]
        at, slot = np.nonzero(used_NK)
        concept = concept_NK[at, slot]
        chains = _Chains(answers.student_of[at] * (sizes[1] + 1) + concept)
        return chains, concept, answers.row[at], correct_N[at]


class _Chains:
    """Entries of many chains laid out step by step: all first ones, all second ones, longest chain first.

    order: (E,) the entry at each place of that layout.
    sizes: chains that have a first entry, a second, and so on; they are the first `sizes[t]` of the longest.
    """

    def __init__(self, chain: np.ndarray) -> None:
        by_chain = np.argsort(chain, kind="stable")
        _, first, length = np.unique(chain[by_chain], return_index=True, return_counts=True)
        step = np.arange(len(chain)) - np.repeat(first, length)
        rank = np.empty(len(length), int)
        rank[np.argsort(-length, kind="stable")] = np.arange(len(length))
        self.order = by_chain[np.lexsort((np.repeat(rank, length), step))]
        self.sizes = np.bincount(step)
        self.starts = np.cumsum(self.sizes) - self.sizes

    @property
    def steps(self) -> list[tuple[int, int]]:
        return list(zip(self.starts.tolist(), self.sizes.tolist(), strict=True))

    def followed(self) -> tuple[np.ndarray, np.ndarray]:
        """Places that have a next entry in their chain, and the places of that."""
        next_sizes = self.sizes[1:]
        later = np.arange(self.sizes[0] if len(self.sizes) else 0, len(self.order))
        return later - np.repeat(self.sizes[:-1], next_sizes), later


def _filter(chains: _Chains, values: Parameters, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In the layout of the chains, (E,) each: probability to know the concept before the entry, and after its answer.

    values: of every entry (E,). Entries whose `correct` is NaN leave the probability as it is.
    """
    v, correct = values.take(chains.order), correct[chains.order]
    asked = np.isnan(correct)
    if_known = np.where(correct > 0, 1 - v.slip, v.slip)
    if_not = np.where(correct > 0, v.guess, 1 - v.guess)
    if_known[asked] = if_not[asked] = 1.0  # tells nothing, and nothing is learnt of it
    stay, learn = np.where(asked, 1.0, 1 - v.forget - v.learn), np.where(asked, 0.0, v.learn)
    before, after = np.empty(len(correct)), np.empty(len(correct))
    known = v.prior[: chains.sizes[0]] if len(correct) else v.prior
    for start, size in chains.steps:
        now = slice(start, start + size)
        known = known[:size]
        yes, no = known * if_known[now], (1 - known) * if_not[now]
        told = yes / (yes + no)
        before[now], after[now] = known, told
        known = learn[now] + stay[now] * told
    return before, after


def _expect(
    chains: _Chains, concept: np.ndarray, right: np.ndarray, values: Parameters, size: int
) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Likelihood (E,) of each answer given those before it, and by parameter how often (C,) of how many times (C,)."""
    each = values.take(concept)
    before, after = _filter(chains, each, right.astype(float))
    v, concept, right = each.take(chains.order), concept[chains.order], right[chains.order]
    told = np.where(right, v.p_correct(before), 1 - v.p_correct(before))

    # smoothing, from the last answers back: what the next answer adds to what was known after this one
    known = after.copy()
    for (start, _), (then, size_then) in zip(chains.steps[-2::-1], chains.steps[:0:-1], strict=True):
        now, later = slice(start, start + size_then), slice(then, then + size_then)
        gain_known = known[later] / np.maximum(before[later], _LEAST)
        gain_not = (1 - known[later]) / np.maximum(1 - before[later], _LEAST)
        known[now] = after[now] * ((1 - v.forget[now]) * gain_known + v.forget[now] * gain_not)

    this, following = chains.followed()
    not_known = (1 - after[this]) * v.learn[this] * known[following] / np.maximum(before[following], _LEAST)
    lost = after[this] * v.forget[this] * (1 - known[following]) / np.maximum(1 - before[following], _LEAST)
    first = slice(0, chains.sizes[0])

    def total(where: np.ndarray | slice, amount: np.ndarray) -> np.ndarray:
        return np.bincount(concept[where], amount, size)

    every = slice(None)
    return told, {
        "prior": (total(first, known[first]), total(first, np.ones(chains.sizes[0]))),
        "learn": (total(this, not_known), total(this, 1 - known[this])),
        "forget": (total(this, lost), total(this, known[this])),
        "guess": (total(every, (1 - known) * right), total(every, 1 - known)),
        "slip": (total(every, known * ~right), total(every, known)),
    }


def _maximise(name: str, often: np.ndarray, times: np.ndarray, start: float) -> np.ndarray:
    """The most likely number within its bounds, which is the nearest to the free one, as the likelihood is concave."""
    if name == "forget" and start == 0:
        return np.zeros_like(often)
    free = (often + _STRENGTH * start) / (times + _STRENGTH)
    return np.clip(free, *BOUNDS[name])

"""Logistic regressions on counts, with weights of their own for every question and concept: PFA, Best-LR, DAS3H.

N rows, E entries: (row, concept) pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression

from ...data.tracing.answers import QUESTION
from ...data.tracing.concept_history import ConceptHistory
from ...data.tracing.features import HistoryFeatures
from ...data.tracing.metrics import log_loss

RECENT = ("c_ema_fast", "c_ema_mid", "c_ema_slow", "s_ema_fast", "s_ema_mid", "s_ema_slow")


@dataclass(frozen=True)
class Terms:
    """What a regression sees beside one weight per concept.

    questions: one weight per question. windows: counts per concept in the windows of DAS3H, not over all time only.
    totals: log counts of the student and of the student on the question, and moving averages.
    """

    questions: bool = False
    windows: bool = False
    totals: bool = False


PFA = Terms()
"""Performance factors (Pavlik et al. 2009): per concept its ease, log wins and log fails."""
BEST_LR = Terms(questions=True, totals=True)
"""Gervet et al. (2020), with their counts per question and moving averages for recency."""
DAS3H = Terms(questions=True, windows=True)
"""Choffin et al. (2019): ease of question and concept, log wins and log attempts per concept and window."""


class CountRegression:
    """Logistic regression on the counts of `terms`; its penalty is chosen on the validation log.

    Args:
        terms: what it sees.
        strengths: inverse penalties to choose from.
        iterations: of the solver, at most.
    """

    def __init__(
        self, terms: Terms, *, strengths: tuple[float, ...] = (0.3, 1.0), iterations: int = 100
    ) -> None:
        self.terms, self.strengths, self.iterations = terms, strengths, iterations

    def fit(self, train: pl.DataFrame, valid: pl.DataFrame) -> CountRegression:
        """Fit on conformed logs.

        Raises:
            ValueError: where windows are asked for and the training log has no timestamps.
        """
        if self.terms.windows and train["timestamp"].null_count() == train.height:
            raise ValueError(
                "DAS3H: the training log has no timestamps, so that its windows are empty; use best_lr, or give "
                "`timestamp`"
            )
        self.history = HistoryFeatures.fit(train)
        x, y = self._answered(train)
        x_valid, y_valid = self._answered(valid)
        loss = np.inf
        for strength in self.strengths:
            # lbfgs stops far from the optimum: columns of rare questions and those of counts differ a thousandfold
            model = LogisticRegression(C=strength, solver="newton-cg", max_iter=self.iterations).fit(x, y)
            now = log_loss(y_valid, model.predict_proba(x_valid)[:, 1])
            if now < loss:
                loss, self.strength, self.model = now, strength, model
        return self

    def predict(self, log: pl.DataFrame) -> np.ndarray:
        """(N,) probability of a right answer before each answer of a conformed log."""
        return np.asarray(self.model.predict_proba(self._design(log))[:, 1])

    def _answered(self, log: pl.DataFrame) -> tuple[csr_matrix, np.ndarray]:
        given = log["correct"].is_not_null().to_numpy()
        return self._design(log)[given], log["correct"].drop_nulls().to_numpy()

    def _design(self, log: pl.DataFrame) -> csr_matrix:
        """Columns per concept, then per question, then of the student: (N, columns) in the order of the log."""
        vocabulary = self.history.vocabulary
        answers = vocabulary.encode(log)
        past = ConceptHistory(answers, len(vocabulary.concepts) - 1)
        values = [np.ones(len(past.row)), np.log1p(past.wins), np.log1p(past.attempts - past.wins)]
        if self.terms.windows:
            values = [values[0], np.log1p(past.wins), np.log1p(past.attempts)]
            values += [np.log1p(count) for pair in past.windows().values() for count in pair]
        row, size = answers.row[past.row], len(vocabulary.concepts)
        blocks = [csr_matrix((v, (row, past.concept)), (log.height, size)) for v in values]
        if self.terms.questions:
            question = answers.x[:, QUESTION].astype(int)
            known = question > 0
            places = answers.row[known], question[known]
            blocks.append(csr_matrix((np.ones(known.sum()), places), (log.height, len(vocabulary.questions))))
        if self.terms.totals:
            columns = {column.name: column.to_numpy() for column in self.history.transform(log)}
            counts = [("s_wins", "s_answers"), ("q_wins_all", "q_attempts_all")]
            dense = [np.log1p(columns[wins]) for wins, _ in counts]
            dense += [np.log1p(columns[all_] - columns[wins]) for wins, all_ in counts]
            dense += [columns[name] for name in RECENT]
            blocks.append(csr_matrix(np.stack(dense, 1)))
        return csr_matrix(hstack(blocks))

"""Tables are written and looked up by two folders that do not know each other: both mean the same situations."""

import numpy as np
import polars as pl
import torch

from remem.apps.tracing.memories import features, memory_of
from remem.data.tracing.answers import CORRECT
from remem.data.tracing.encode import Vocabulary
from remem.data.tracing.shrinkage import ids
from remem.data.tracing.simulate import simulate_log
from remem.data.tracing.situations import QUESTION_COLUMNS, RUN_STATES, _situations


def test_a_forecast_looks_up_the_cell_that_its_own_situation_was_counted_in():
    log = simulate_log(30, 12, 4, seed=5, answers=(20, 60)).drop("p_true")
    again = np.arange(log.height).repeat(1 + np.arange(log.height) % 3)  # questions tried again at once
    random = np.random.default_rng(0)
    log = log[again].with_columns(correct=pl.Series(random.integers(0, 2, len(again)), dtype=pl.Int8))
    vocabulary = Vocabulary.fit(log)
    answers = vocabulary.encode(log)
    questions, concepts = len(vocabulary.questions), len(vocabulary.concepts)
    # every cell holds its own number, as a share on the grid
    question_QS = torch.arange(len(QUESTION_COLUMNS)).repeat(questions, 1) / 256
    run_CU = torch.arange(RUN_STATES).repeat(concepts, 1) / 256
    pair_CC = torch.arange(concepts)[:, None].repeat(1, concepts) / 256
    memory = memory_of(vocabulary).set_tables(question_QS, torch.full((concepts, 4), 0.5), pair_CC, run_CU)
    told = dict(zip(memory.out_names, (256 * features(memory, answers)).T, strict=True))

    question, concept, used = ids(answers.x, questions - 1, concepts - 1)
    at = _situations(answers.student_of, question, concept, used, answers.x[:, CORRECT].astype(float))
    column = QUESTION_COLUMNS.index
    for name, wanted in (
        ("q_last_mean", column("after_wrong") + at.outcome),
        ("q_able_mean", column("rate_low") + at.ability),
        ("q_try_mean", column("first_try") + at.tried),
        ("c_run_mean", at.state),
        ("cc_mean", at.concept),
    ):
        np.testing.assert_array_equal(told[name], wanted, err_msg=name)
        assert len(np.unique(wanted)) >= 3, name
    np.testing.assert_array_equal(told["run"] / 256, np.minimum(at.run, 32))
    np.testing.assert_array_equal(told["s_rate"] / 256, at.rate.astype(np.float32))

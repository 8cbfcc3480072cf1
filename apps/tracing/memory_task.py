"""Knowledge tracing as a problem for memory layers: from ids and outcomes alone, or beside the concept memory.

The network is `TracingNetwork` in both; from ids alone it is told nothing by the concept memory but how often training
saw a question, which its embedding is weighed by.

Shape legend: N answers, Z features.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
import torch
from scipy.special import expit

from ...core.layers.concept_memory import ConceptMemory
from ...core.recall import Recurrent
from ...core.tracing import TracingModel, TracingNetwork
from ...data.tracing.answers import CORRECT
from ...data.tracing.encode import Vocabulary
from ...data.tracing.metrics import auc
from ...data.tracing.situations import situation_tables
from ..memory_layers import D_MODEL, PARAMETERS, at_equal_size
from ..memory_training import Floor, Layer, Part, Problem
from ..module import Batch
from .bench_baselines import FOLDS
from .boosting import fit_trees
from .memories import features, memory_of, out_of_fold
from .module import TracingModule
from .pieces import Featured, training_loader
from .sets import load_log, split_by_fold, with_folds

CELLS, PIECE, STEPS = 2048, 200, 120
"""Answers of a training step, most answers of a piece of a history, steps."""
FIRST = 500
"""Answers of a student that judge; later ones cost much and are few students'."""
QUICK_STEPS = 3
DROPOUT = 0.2
OUT_OF_FOLD = 5
RAW, MEMORY = "ids and outcomes", "with the concept memory"


def tracing_problems(*, seed: int, root: str | None, quick: bool) -> list[Problem]:
    """From ids alone and with the concept memory; fold 4 is chosen on, one of folds 1 to 3 judges.

    Args:
        seed: which of them: they take turns. All that is left is trained on, and its draws are made with the seed.
        root: folder of the real sets.
        quick: simulated students and few steps.
    """
    answered = load_log(name="simulated" if quick else "assistments2009", root=root)
    *judging, chosen = FOLDS
    judged = judging[seed % len(judging)]
    there = with_folds(answered.frame)["fold"].unique().to_list()
    train = sorted(set(there) - {judged, chosen})
    splits = split_by_fold(answered, train=train, valid=[chosen], test=[judged])
    vocabulary = Vocabulary.fit(splits.train)
    answers = vocabulary.encode(splits.train)
    memory = memory_of(vocabulary, situation_tables(vocabulary, answers))
    z_NZ = out_of_fold(vocabulary, answers, folds=OUT_OF_FOLD, seed=seed)
    training = Featured(answers.x, z_NZ, answers.offsets, answers.row)
    logs: dict[Part, pl.DataFrame] = {"judged": next(iter(splits.tests.values())), "chosen on": splits.valid}
    parts = {part: _featured(vocabulary, memory, log) for part, log in logs.items()}
    problems = []
    for inputs in (RAW, MEMORY):
        seen, shown = training, parts
        if inputs == RAW:
            seen = _without(memory, training)
            shown = {part: _without(memory, rows) for part, rows in parts.items()}
        problems.append(
            Problem(
                task="tracing",
                data=answered.source.split(",")[0],
                inputs=inputs,
                figure="auc",
                lower=False,
                steps=QUICK_STEPS if quick else STEPS,
                make=partial(_network, memory, seen),
                loss=TracingModule.loss,
                batches=partial(_batches, seen),
                judge=partial(_auc, shown),
                floors=partial(_floors, training, parts, seed) if inputs == MEMORY else list,
            )
        )
    return problems


def _featured(vocabulary: Vocabulary, memory: ConceptMemory, log: pl.DataFrame) -> Featured:
    answers = vocabulary.encode(log.group_by("student_id", maintain_order=True).head(FIRST)[log.columns])
    return Featured(answers.x, features(memory, answers), answers.offsets, answers.row)


def _without(memory: ConceptMemory, rows: Featured) -> Featured:
    """The same answers, and of the features only how often training saw the question."""
    z_NZ, at = np.full_like(rows.z, np.nan), memory.out_names.index("q_count")
    z_NZ[:, at] = rows.z[:, at]
    return replace(rows, z=z_NZ)


def _network(memory: ConceptMemory, training: Featured, layer: Layer) -> TracingModule:
    """A network with one block around the layer as its recall, made ready for these training answers."""
    recall = Recurrent(layer, D_MODEL, num_layers=1, ff_mult=1, dropout=DROPOUT)
    at_equal_size(recall.blocks[0], PARAMETERS)
    network = TracingNetwork(memory, recall=recall, d_model=D_MODEL, dropout=DROPOUT)
    network.fit_preprocess(torch.from_numpy(training.z))
    module = TracingModule(layer=layer, d_model=D_MODEL, dropout=DROPOUT, trees=False)
    module.model = TracingModel(memory, {"network": network})
    return module


def _batches(rows: Featured, seed: int) -> Iterator[Batch]:
    loader = training_loader(rows, cells=CELLS, length=PIECE, seed=seed)
    while True:
        yield from loader


def _auc(parts: dict[Part, Featured], module: TracingModule, part: Part) -> float:
    rows = parts[part]
    return _of_given(rows, module.member_logits(rows)[:, 0])


def _floors(training: Featured, parts: dict[Part, Featured], seed: int) -> list[Floor]:
    """Boosted trees on the concept memory, those of `remem tracing fit`."""
    since = time.process_time()
    sets = []
    for rows in (training, parts["chosen on"]):
        given_N = np.isfinite(rows.x[:, CORRECT])
        sets += [rows.z[given_N], rows.x[given_N, CORRECT]]
    trees = fit_trees(*sets, most=400, depth=5, lr=0.06, seed=seed)
    seconds, judged = time.process_time() - since, parts["judged"]
    logit_N = trees(torch.from_numpy(judged.z)).numpy()
    return [Floor("boosted trees", _of_given(judged, logit_N), None, seconds)]


def _of_given(rows: Featured, logit_N: np.ndarray) -> float:
    """AUC over the answers that were given."""
    y_N = rows.x[:, CORRECT]
    given_N = np.isfinite(y_N)
    return auc(y_N[given_N], expit(logit_N[given_N].astype(np.float64)))

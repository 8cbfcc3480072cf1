"""The concept memory of a vocabulary, and the features of its answers: for training rows without their own labels.

Shape legend: n answers, Z features.
"""

from __future__ import annotations

import numpy as np
import torch

from ...core.layers.concept_memory import ConceptMemory
from ...data.split import group_folds
from ...data.tracing.encode import Answers, Vocabulary
from ...data.tracing.situations import Tables, situation_tables

CELLS = 65_536
"""Answers of one call: the memory takes some kilobytes an answer while it runs."""


def memory_of(vocabulary: Vocabulary, tables: Tables | None = None) -> ConceptMemory:
    """A memory of these questions and concepts, with what training told of them; None leaves it untold."""
    memory = ConceptMemory(
        len(vocabulary.questions) - 1, len(vocabulary.concepts) - 1, slots=vocabulary.slots
    )
    if tables is not None:
        told = (tables.question, tables.concept, tables.pair, tables.run)
        memory.set_tables(*map(torch.from_numpy, told))
    return memory


@torch.no_grad()
def features(memory: ConceptMemory, answers: Answers) -> np.ndarray:
    """(n, Z) features of all answers."""
    z_NZ = np.empty((len(answers), memory.out_features), np.float32)
    device = memory.pair_CC.device
    for students in answers.batches(CELLS):
        x_BTF, mask_BT = answers.pad(students)
        z_BTZ, _ = memory(torch.from_numpy(x_BTF).to(device), mask_BT=torch.from_numpy(mask_BT).to(device))
        z_NZ[answers.positions(students)[mask_BT]] = z_BTZ.cpu().numpy()[mask_BT]
    return z_NZ


def out_of_fold(vocabulary: Vocabulary, answers: Answers, *, folds: int, seed: int) -> np.ndarray:
    """(n, Z) features of training answers, each from what the students of the other folds tell of the questions.

    A table that counts a student's own answers would tell what is to be predicted.

    Raises:
        ValueError: there are fewer students than folds.
    """
    parts = []
    for others, held in group_folds(answers.students, folds, seed=seed):
        memory = memory_of(vocabulary, situation_tables(vocabulary, answers, others))
        parts.append((held, features(memory, answers.take(held))))
    z_NZ = np.empty((len(answers), parts[0][1].shape[1]), np.float32)
    for held, part_NZ in parts:
        z_NZ[np.isin(answers.student_of, held)] = part_NZ  # `held` rises, so both are in one order
    return z_NZ

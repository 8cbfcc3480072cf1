"""`remem bench tracing-practice`: memory of one concept's trials, where learning curves are all there is to know.

Simulated students practise and forget each concept on its own. Networks get embeddings of concept and answer, and no
count, gap or average made by hand, so what differs is the memory: CAKT's clip of trials on the same concept, attention
over all past answers, and LSTMs as wide and as large as CAKT. "oracle" forecasts with the true probability; it knows
the student's ability, which others have to find out from the answers, and is out of reach.

Shape legend: B students, T steps, D width, F columns of the answers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.layers.distance_attention import DistanceAttention
from ...core.layers.lstm import LSTM
from ...core.layers.same_concept import SameConcept
from ...core.recall import Recall, Recurrent
from ...data.tracing.answers import CORRECT, SLOT_1
from ...data.tracing.encode import Vocabulary
from ...data.tracing.metrics import auc, log_loss
from ...data.tracing.simulate import simulate_practice

VALID_FOLD, TEST_FOLD = 1, 0
WIDTH = 36
"""Of all networks: CAKT's frames are 6 x 6."""
CLIP = 4
"""Trials in a clip; 100 steps over 50 concepts give two of each on average."""
BATCH = 16
LEARNING_RATE, WEIGHT_DECAY = 1e-2, 1e-2

RECALLS: dict[str, tuple[Callable[[int], Recall], int]] = {
    "cakt": (lambda steps: SameConcept(WIDTH, last=CLIP, window=steps), 5),
    "lstm, same width": (lambda steps: Recurrent(LSTM, WIDTH, num_layers=2, ff_mult=1), 12),
    "lstm, same size": (lambda steps: Recurrent(LSTM, WIDTH, num_layers=2, ff_mult=3), 12),
    "attention": (lambda steps: DistanceAttention(WIDTH, window=steps), 12),
}
"""Name -> memory for students of so many answers, and its epochs. The others have stopped gaining by then; CAKT, the
slowest, has not."""


def tracing_practice(
    *, seeds: int = 3, root: str | None = None, quick: bool = False
) -> list[dict[str, object]]:
    """One row per seed and model.

    Args:
        seeds: of students and weights.
        root: not used; the students are simulated.
        quick: few students and one epoch, to try the road.

    Returns:
        Rows with `seed, model, parameters` (of the memory), `auc`, `over_lstm` (auc above that of the LSTM of the same
        size), `below_oracle`, `nll`, `epoch` (the best on validation, from 1) and `seconds` of training.
    """
    rows: list[dict[str, object]] = []
    for seed in range(1 if quick else seeds):
        started = time.perf_counter()
        rows += _judged(simulate_practice(*((60, 30, 5) if quick else ()), seed=seed), seed, quick=quick)
        print(f"seed {seed}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return rows


def _judged(log: pl.DataFrame, seed: int, *, quick: bool) -> list[dict[str, object]]:
    training = log.filter(~pl.col("fold").is_in([VALID_FOLD, TEST_FOLD]))
    vocabulary = Vocabulary.fit(training.drop("fold", "p_true"))
    parts = {
        "train": training,
        "valid": log.filter(pl.col("fold") == VALID_FOLD),
        "test": log.filter(pl.col("fold") == TEST_FOLD),
    }
    x = {name: _sequences(vocabulary, part.drop("fold", "p_true")) for name, part in parts.items()}
    correct = parts["test"]["correct"].to_numpy()
    forecasts: dict[str, tuple[np.ndarray, dict[str, object]]] = {
        "oracle": (parts["test"]["p_true"].to_numpy(), {})
    }
    for name, (recall, epochs) in RECALLS.items():
        torch.manual_seed(seed)
        network = PracticeNetwork(len(vocabulary.concepts), recall(x["train"].shape[1]))
        started = time.perf_counter()
        best = _train(network, x["train"], x["valid"], epochs=1 if quick else epochs)
        facts: dict[str, object] = {
            "parameters": sum(p.numel() for p in network.recall.parameters()),
            "epoch": best,
            "seconds": time.perf_counter() - started,
        }
        forecasts[name] = network.probabilities(x["test"]).flatten().numpy(), facts
    found = {name: auc(correct, p) for name, (p, _) in forecasts.items()}
    return [
        {
            "seed": seed,
            "model": name,
            "parameters": facts.get("parameters"),
            "auc": found[name],
            "over_lstm": found[name] - found["lstm, same size"],
            "below_oracle": found["oracle"] - found[name],
            "nll": log_loss(correct, p),
            "epoch": facts.get("epoch"),
            "seconds": facts.get("seconds"),
        }
        for name, (p, facts) in forecasts.items()
    ]


def _sequences(vocabulary: Vocabulary, log: pl.DataFrame) -> Tensor:
    """x_BTF of students who all have the same number of answers, in the order of the log."""
    answers = vocabulary.encode(log)
    return torch.from_numpy(answers.x).view(len(answers.students), -1, answers.x.shape[1])


class PracticeNetwork(nn.Module):
    """Embeddings of concept and of concept with answer, a recall between them, and a head: nothing made by hand.

    Args:
        num_concepts: rows of the embedding, the unknown concept included.
        recall: of width `WIDTH`.
    """

    def __init__(self, num_concepts: int, recall: Recall) -> None:
        super().__init__()
        self.recall: nn.Module = recall  # type: ignore[assignment]
        self.concept = nn.Embedding(num_concepts, WIDTH)
        self.interaction = nn.Embedding(2 * num_concepts, WIDTH)
        self.difficulty = nn.Embedding(num_concepts, 1)
        self.head = nn.Sequential(nn.Linear(2 * WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, 1))
        nn.init.normal_(self.concept.weight, std=0.5)
        nn.init.normal_(self.interaction.weight, std=0.5)
        nn.init.zeros_(self.difficulty.weight)

    def forward(self, x_BTF: Tensor) -> Tensor:
        """Logits (B, T)."""
        concept_BT, correct_BT = x_BTF[..., SLOT_1].long(), x_BTF[..., CORRECT].long()
        query_BTD = self.concept(concept_BT)
        written_BTD = self.interaction(2 * concept_BT + correct_BT)
        read_BTD, _ = self.recall(query_BTD, written_BTD, x_BTF=x_BTF)
        return (self.head(torch.cat([read_BTD, query_BTD], -1)) + self.difficulty(concept_BT))[..., 0]

    @torch.no_grad()
    def probabilities(self, x_BTF: Tensor) -> Tensor:
        """Probability (B, T) of each answer."""
        self.eval()
        return torch.cat([self(part_BTF).sigmoid() for part_BTF in x_BTF.split(4 * BATCH)])


def _train(network: PracticeNetwork, train_BTF: Tensor, valid_BTF: Tensor, *, epochs: int) -> int:
    """Adam with one cycle of the learning rate; leaves the weights of the epoch that validated best, and returns it."""
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    steps = -(-len(train_BTF) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, epochs=epochs, steps_per_epoch=steps, pct_start=0.1
    )
    best, kept, at = float("inf"), deepcopy(network.state_dict()), 0
    for epoch in range(1, epochs + 1):
        network.train()
        for rows in torch.randperm(len(train_BTF)).split(BATCH):
            x_BTF = train_BTF[rows]
            loss = F.binary_cross_entropy_with_logits(network(x_BTF), x_BTF[..., CORRECT])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        error = log_loss(
            valid_BTF[..., CORRECT].flatten().numpy(), network.probabilities(valid_BTF).flatten().numpy()
        )
        if error < best:
            best, kept, at = error, deepcopy(network.state_dict()), epoch
    network.load_state_dict(kept)
    return at

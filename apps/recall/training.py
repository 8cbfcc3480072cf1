"""One way of training for every layer and task: fresh sequences, so many steps, a learning rate chosen beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ...core.tasks import TokenBatch, accuracy
from ..memory_training import train as descend

Draw = Callable[[int, Generator], TokenBatch]
"""So many sequences of a task, drawn with a generator."""
Maker = Callable[[], nn.Module]

TRAIN, CHOOSE, JUDGE = 0, 1, 2
"""What sequences are drawn for; the second part of their seed."""
WEIGHT_DECAY = 0.1


class Trained(NamedTuple):
    """A network in eval mode, the learning rate that it was trained with, and CPU seconds of its training."""

    network: nn.Module
    lr: float
    cpu_s: float


def drawn(draw: Draw, count: int, *, seed: int, what_for: int) -> TokenBatch:
    """Sequences that no other use sees."""
    return draw(count, Generator().manual_seed(3 * seed + what_for))


def train(make: Maker, draw: Draw, *, steps: int, batch_size: int, lr: float, seed: int) -> Trained:
    """Train a network on fresh sequences; AdamW, one cycle of the learning rate, one thread or as many as torch has."""
    torch.manual_seed(seed)
    network, generator = make(), Generator().manual_seed(3 * seed + TRAIN)
    batches = (draw(batch_size, generator) for _ in range(steps))
    cpu_s = descend(network, _loss, batches, steps=steps, lr=lr, weight_decay=WEIGHT_DECAY)
    return Trained(network, lr, cpu_s)


def _loss(network: nn.Module, batch: TokenBatch) -> Tensor:
    return F.cross_entropy(network(batch.tokens)[batch.asked], batch.answers[batch.asked])


def train_best(
    make: Maker, draw: Draw, *, steps: int, batch_size: int, rates: Sequence[float], seed: int, count: int
) -> Trained:
    """The best of one training for each learning rate, by accuracy on `count` sequences that judge nothing else."""
    chosen = drawn(draw, count, seed=seed, what_for=CHOOSE)
    networks = [train(make, draw, steps=steps, batch_size=batch_size, lr=lr, seed=seed) for lr in rates]
    return max(networks, key=lambda found: judged(found.network, chosen))


@torch.no_grad()
def judged(network: nn.Module, batch: TokenBatch) -> float:
    """Share of the questions answered right."""
    parts = [
        accuracy(network(tokens), TokenBatch(tokens, answers, asked))
        for tokens, answers, asked in zip(*(part.split(50) for part in batch), strict=True)
    ]
    return sum(parts) / len(parts)

"""One way of training for every memory layer on every task: the same batches, steps and learning rates to try.

`train` is that of the recall benches too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ..core.state import SequenceLayer
from .memory_layers import count
from .module import Batch
from .schedule import one_cycle

RATES = (1e-2, 5e-3)
"""Learning rates; the first seed tries them, and a part of the data that never judges takes one for all seeds."""
WEIGHT_DECAY, CLIP = 0.01, 1.0

Layer = Callable[[int], SequenceLayer]
Part = Literal["chosen on", "judged"]
B = TypeVar("B")


class Floor(NamedTuple):
    """What stands beside the networks: its figure, parameters (None for trees) and CPU seconds of a fit."""

    name: str
    figure: float
    parameters: int | None
    cpu_s: float


class Problem(NamedTuple):
    """A task on one split with one kind of inputs.

    Args:
        task, data, inputs: words for the table.
        figure: name of what `judge` gives.
        lower: whether less of it is better.
        steps: of a training.
        make: a network around a layer, all of (about) the same size.
        loss: of a network on a batch.
        batches: endless, the same for the same seed.
        judge: the figure of a network on a part of the data that it was not trained on.
        floors: fits of what stands beside the networks.
    """

    task: str
    data: str
    inputs: str
    figure: str
    lower: bool
    steps: int
    make: Callable[[Layer], Any]
    loss: Callable[[Any, Batch], Tensor]
    batches: Callable[[int], Iterator[Batch]]
    judge: Callable[[Any, Part], float]
    floors: Callable[[], list[Floor]]


class Fit(NamedTuple):
    """The figure on what judges, the chosen learning rate, mean CPU seconds of a training, and all parameters."""

    figure: float
    lr: float
    cpu_s: float
    parameters: int


def best_fit(problem: Problem, layer: Layer, *, seed: int, rates: Sequence[float]) -> Fit:
    """A training for each learning rate; the one that is better on the part that is chosen on is judged."""
    networks, seconds = [], 0.0
    for lr in rates:
        torch.manual_seed(seed)
        network = problem.make(layer)
        seconds += train(network, problem.loss, problem.batches(seed), steps=problem.steps, lr=lr)
        chosen = problem.judge(network, "chosen on") if len(rates) > 1 else 0.0
        networks.append((chosen, lr, network))
    _, lr, network = (min if problem.lower else max)(networks, key=lambda one: one[0])
    return Fit(problem.judge(network, "judged"), lr, seconds / len(rates), count(network))


def train(
    network: nn.Module,
    loss: Callable[[Any, B], Tensor],
    batches: Iterator[B],
    *,
    steps: int,
    lr: float,
    weight_decay: float = WEIGHT_DECAY,
) -> float:
    """Train with AdamW under one cycle of the learning rate, and leave eval mode; CPU seconds."""
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    since = time.process_time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * one_cycle(step / steps)
        optimizer.zero_grad()
        loss(network, next(batches)).backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
    network.eval()
    return time.process_time() - since

"""`remem bench recall`: what every memory layer can find again, beside the bytes it keeps and the time it takes.

Each layer stands alone in the same small network (network.py) and is trained by the same number of steps on each task,
with the learning rate that does best on sequences of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from ...core.state import SequenceLayer, nbytes
from ...core.tasks import TokenBatch, mqar, needle, selective_copy
from ..memory_layers import count
from .memories import MEMORIES, Sized
from .network import TokenNetwork
from .training import JUDGE, Draw, Trained, drawn, judged, train, train_best

RATES = (3e-3, 1e-2)
JUDGED = 500
"""Sequences that judge, and as many that choose the learning rate."""

Row = dict[str, object]


class Task(NamedTuple):
    """draw: what is trained on, `length` tokens long. harder: judged too, as (name, length, sequences)."""

    draw: Draw
    vocabulary: int
    length: int
    steps: int
    batch_size: int
    harder: tuple[tuple[str, int, Draw], ...]


def _mqar(count: int, generator: torch.Generator) -> TokenBatch:
    return mqar(count, length=64, num_pairs=8, vocabulary=256, generator=generator)


def _mqar_uniform(count: int, generator: torch.Generator) -> TokenBatch:
    return mqar(count, length=64, num_pairs=8, vocabulary=256, gaps="uniform", generator=generator)


def _needle(length: int) -> Draw:
    return lambda count, generator: needle(count, length=length, key_length=1, generator=generator)


def _copy(length: int) -> Draw:
    return lambda count, generator: selective_copy(
        count, length=length, num_data=3, data_vocabulary=8, generator=generator
    )


TASKS: dict[str, Task] = {
    "MQAR": Task(_mqar, 256, 64, 700, 64, (("uniform gaps", 64, _mqar_uniform),)),
    "needle": Task(_needle(64), 32, 64, 400, 32, (("4x", 256, _needle(256)), ("16x", 1024, _needle(1024)))),
    "selective copy": Task(_copy(24), 10, 24, 1000, 32, (("4x", 96, _copy(96)),)),
}
"""Name -> task. Guessing gets 1/128, 1/10 and 1/8 of them; one of the eight values there gets 1/8 of MQAR."""


def recall(*, seeds: int = 3, root: str | None = None, quick: bool = False) -> list[Row]:
    """Rows `task, layer, state_bytes, parameters, lr`, accuracy as mean, worst and best seed, `cpu_s` of a training.

    The learning rate is chosen with the first seed. `harder` are accuracies (mean over the seeds) on longer sequences
    or wider gaps than trained on; a layer whose memory grows with the past is given room for them, so that its bytes
    there are more than `state_bytes`.

    Args:
        seeds: trainings of each row.
        root: not needed; tasks are generated.
        quick: two layers, ten steps.
    """
    torch.set_num_threads(1)
    rows = []
    for name, task in TASKS.items():
        for layer in list(MEMORIES)[: 2 if quick else None]:
            rows.append(_row(name, task._replace(steps=10) if quick else task, layer, 1 if quick else seeds))
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _row(name: str, task: Task, layer: str, seeds: int) -> Row:
    sized = MEMORIES[layer]

    def network() -> TokenNetwork:
        return TokenNetwork(task.vocabulary, of_length(sized, task.length))

    settings = {"steps": task.steps, "batch_size": task.batch_size}
    first = train_best(network, task.draw, **settings, rates=RATES, seed=0, count=JUDGED)
    found = [
        first,
        *(train(network, task.draw, **settings, lr=first.lr, seed=seed) for seed in range(1, seeds)),
    ]
    own = [
        _accuracy(trained, task, sized, task.length, task.draw, seed) for seed, trained in enumerate(found)
    ]
    harder = {
        f"accuracy_{label.replace(' ', '_')}": round(
            float(np.mean([_accuracy(t, task, sized, length, draw, seed) for seed, t in enumerate(found)])), 4
        )
        for label, length, draw in task.harder
    }
    bare = sized(64, task.length)
    return {
        "task": name,
        "layer": layer,
        "state_bytes": nbytes(bare.init_state(1)),
        "parameters": count(bare),  # type: ignore[arg-type]
        "lr": first.lr,
        "accuracy": round(float(np.mean(own)), 4),
        "worst": round(min(own), 4),
        "best": round(max(own), 4),
        **harder,
        "cpu_s": round(float(np.median([t.cpu_s for t in found])), 1),
    }


def of_length(sized: Sized, length: int) -> Callable[[int], SequenceLayer]:
    return lambda width: sized(width, length)


def _accuracy(trained: Trained, task: Task, sized: Sized, length: int, draw: Draw, seed: int) -> float:
    """Of the trained weights in a network with room for sequences of this length."""
    network = TokenNetwork(task.vocabulary, of_length(sized, length)).eval()
    network.load_state_dict(trained.network.state_dict())
    return judged(network, drawn(draw, JUDGED if length < 1000 else JUDGED // 5, seed=seed, what_for=JUDGE))

"""`remem bench landmark`: does looking into two blocks lose what looking into all of them finds?

A sequence holds pairs of key and value, each in one token, in blocks of seven; one key comes once, and is asked for at
the end. Landmarks learn on six blocks with all of them in view, and are judged on one to eight times as many with the
best 1, 2, 4 or all blocks in view. Full attention of the same size stands beside them.

Source: acceptance test of our own; the layer is that of Mohtashami and Jaggi 2023 (arXiv 2305.16300).
Shape legend: B sequences, T time, D model width, V values.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ...core.layers.attention import CausalAttention
from ...core.layers.landmark import LandmarkAttention
from ...core.state import SequenceLayer
from ..memory_training import train

KEYS, VALUES, BLOCK, BLOCKS = 96, 16, 7, 6
TIMES = (1, 2, 4, 8)
WIDTH, HEADS, LAYERS = 64, 2, 2
STEPS, BATCH, LR = 1500, 64, 2e-3
JUDGED = 512

Row = dict[str, object]


class PairNetwork(nn.Module):
    """Pairs (B, T) of key and value to logits (B, V) at the last step; two layers, no feed-forward parts."""

    def __init__(self, layer: Callable[[int], SequenceLayer]) -> None:
        super().__init__()
        self.key, self.value = nn.Embedding(KEYS, WIDTH), nn.Embedding(VALUES + 1, WIDTH)
        self.layers = nn.ModuleList(layer(WIDTH) for _ in range(LAYERS))  # type: ignore[misc]
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(LAYERS))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VALUES))

    def forward(self, key_BT: Tensor, value_BT: Tensor) -> Tensor:
        x_BTD = self.key(key_BT) + self.value(value_BT)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x_BTD = x_BTD + layer(norm(x_BTD))[0]
        return self.head(x_BTD[:, -1])


def pairs(count: int, blocks: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and values (B, T), T = 7 `blocks` + 1, and the answers (B,); the asked key stands once, then at the end."""
    length = BLOCK * blocks
    asked_B1 = torch.randint(KEYS, (count, 1), generator=generator)
    other_BT = torch.randint(1, KEYS, (count, length), generator=generator)
    key_BT = (asked_B1 + other_BT) % KEYS
    value_BT = torch.randint(VALUES, (count, length), generator=generator)
    place_B1 = torch.randint(length, (count, 1), generator=generator)
    key_BT.scatter_(1, place_B1, asked_B1)
    answer_B = value_BT.gather(1, place_B1)[:, 0]
    return torch.cat([key_BT, asked_B1], 1), F.pad(value_BT, (0, 1), value=VALUES), answer_B


def landmark(*, seeds: int = 3, root: str | None = None, quick: bool = False) -> list[Row]:
    """Rows `layer, blocks, times, looks_at`, accuracy as mean, worst and best seed, and `lost` to looking at all.

    Args:
        seeds: trainings of both networks.
        root: not needed; pairs are generated.
        quick: one seed, ten steps.
    """
    torch.set_num_threads(1)
    seeds, steps = (1, 10) if quick else (seeds, STEPS)
    rows = []
    for name, make, looks in (
        ("landmark", _landmark, (1, 2, 4, None)),
        ("attention", _attention, (None,)),
    ):
        trained = []
        for seed in range(seeds):
            since = time.process_time()
            trained.append(_trained(partial(make, BLOCKS, None), steps, seed))
            print(
                f"{name}, seed {seed}: {time.process_time() - since:.0f} CPU s", file=sys.stderr, flush=True
            )
        for times in TIMES:
            found = {
                look: [_accuracy(make, weights, times, look, s) for s, weights in enumerate(trained)]
                for look in looks
            }
            rows += [_row(name, times, look, found[look], found[None]) for look in looks]
            print(rows[-len(looks) :], file=sys.stderr, flush=True)
    return rows


def _row(name: str, times: int, look: int | None, accuracy: list[float], everything: list[float]) -> Row:
    return {
        "layer": name,
        "blocks": times * BLOCKS,
        "times": times,
        "looks_at": "all" if look is None else f"top {look}",
        "accuracy": round(float(np.mean(accuracy)), 4),
        "worst": round(min(accuracy), 4),
        "best": round(max(accuracy), 4),
        "lost": round(float(np.mean(everything) - np.mean(accuracy)), 4),
    }


def _landmark(blocks: int, look: int | None) -> SequenceLayer:
    return LandmarkAttention(
        WIDTH, num_heads=HEADS, block_size=BLOCK, budget=blocks, top_k=look, rotary=False
    )


def _attention(blocks: int, look: int | None) -> SequenceLayer:
    return CausalAttention(WIDTH, num_heads=HEADS, window=BLOCK * blocks + 1)


def _trained(make: Callable[[], SequenceLayer], steps: int, seed: int) -> dict[str, Tensor]:
    """The weights after training on six blocks with all of them in view."""
    torch.manual_seed(seed)
    network, generator = PairNetwork(lambda _: make()), Generator().manual_seed(2 * seed)
    train(network, _loss, (pairs(BATCH, BLOCKS, generator) for _ in range(steps)), steps=steps, lr=LR)
    return network.state_dict()


def _loss(network: PairNetwork, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    key_BT, value_BT, answer_B = batch
    return F.cross_entropy(network(key_BT, value_BT), answer_B)


@torch.no_grad()
def _accuracy(
    make: Callable[[int, int | None], SequenceLayer],
    weights: dict[str, Tensor],
    times: int,
    look: int | None,
    seed: int,
) -> float:
    network = PairNetwork(lambda _: make(times * BLOCKS, look)).eval()
    network.load_state_dict(weights)
    generator, right = Generator().manual_seed(2 * seed + 1), 0
    for _ in range(JUDGED // 64):
        key_BT, value_BT, answer_B = pairs(64, times * BLOCKS, generator)
        right += int((network(key_BT, value_BT).argmax(-1) == answer_B).sum())
    return right / JUDGED

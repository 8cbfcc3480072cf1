"""Convex hulls as a problem for memory layers: points come from left to right, as a sweep line meets them.

A pointer network reads them in this order and in the other, each with one block around the layer, and writes the
corners with an LSTM. Hulls can be found by one such scan with a stack, so the order tells something.

Shape legend: B batch, N points, L corners.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from ...core.layers.lstm import LSTM
from ...core.pointer_network import PointerNetwork
from ..memory_layers import D_MODEL, PARAMETERS, at_equal_size, count
from ..memory_training import Floor, Layer, Part, Problem, train
from ..module import Batch
from .bench_parts import LOCAL_LR
from .data import Pool, labelled
from .hull_module import HullModule
from .pointer_answers import RULE_OF, figures
from .pointer_module import PointerDecoder, taught_loss

SIZES = (10, 15, 20)
BATCH, STEPS = 64, 250
INSTANCES, JUDGED = 12_000, 400
"""Of each size: trained on, chosen on and judging."""
QUICK_STEPS, QUICK_INSTANCES, QUICK_JUDGED = 3, 64, 10
STREAM: dict[str, int] = {"trained on": 0, "chosen on": 1, "judged": 2}
CLIP = 10.0


def geometry_problems(*, seed: int, root: str | None, quick: bool) -> list[Problem]:
    """Hulls of 10, 15 and 20 uniform points.

    Args:
        seed: of the instances that judge, and of the order of those that are trained on.
        root: not needed; points are drawn.
        quick: few instances and steps.
    """
    pools = _pools("trained on", 0, QUICK_INSTANCES if quick else INSTANCES)
    number, steps = (QUICK_JUDGED, QUICK_STEPS) if quick else (JUDGED, STEPS)
    return [
        Problem(
            task="geometry",
            data="hulls of 10, 15 and 20 points",
            inputs="points from left to right, and back",
            figure="exact_pct",
            lower=False,
            steps=steps,
            make=_network,
            loss=_loss,
            batches=partial(_batches, pools),
            judge=partial(_judge, seed, number),
            floors=partial(_floors, pools, steps, seed, number),
        )
    ]


@cache
def _pools(part: Part | str, seed: int, number: int) -> list[Pool]:
    """So many instances of each size, their points from left to right."""
    random = np.random.default_rng((STREAM[part], seed, number))
    return [labelled("hull", [_from_left(random.random((n, 2))) for _ in range(number)]) for n in SIZES]


def _judge(seed: int, number: int, network: PointerNetwork, part: Part) -> float:
    return _exact(PointerDecoder(network), _pools(part, seed, number))


def _from_left(xy_N2: np.ndarray) -> np.ndarray:
    return xy_N2[np.argsort(xy_N2[:, 0])]


def _network(layer: Layer) -> PointerNetwork:
    network = PointerNetwork(
        RULE_OF["hull"],
        encoder=layer,  # type: ignore[arg-type]
        decoder=LSTM,
        d_model=D_MODEL,
        num_layers=1,
        ff_mult=1,
        both_ways=True,
        clip=CLIP,
    )
    for block in (*network.encoder, *network.backwards):
        at_equal_size(block, PARAMETERS)
    return network


def _loss(network: PointerNetwork, batch: Batch) -> Tensor:
    return taught_loss("hull", network, batch["x"], batch["label"])


def _batches(pools: list[Pool], seed: int) -> Iterator[Batch]:
    random = np.random.default_rng(seed)
    while True:
        pool = pools[random.integers(len(pools))]
        rows = random.integers(len(pool.x), size=BATCH)
        yield {"x": torch.from_numpy(pool.x[rows]), "label": torch.from_numpy(pool.label[rows])}


@torch.no_grad()
def _exact(decoder: PointerDecoder | HullModule, pools: list[Pool]) -> float:
    """Hulls with the right corners in order, in %, over all sizes."""
    shares = []
    for pool in pools:
        xy_BN2 = torch.from_numpy(pool.x)
        if isinstance(decoder, HullModule):
            answer_BL = decoder(xy_BN2)
        else:
            answer_BL, _ = decoder(xy_BN2, torch.ones_like(xy_BN2[..., 0], dtype=torch.bool), graph=False)
        shares.append(figures("hull", xy_BN2, answer_BL, torch.from_numpy(pool.label))["exact"])
    return float(100 * np.mean(shares))


def _floors(pools: list[Pool], steps: int, seed: int, number: int) -> list[Floor]:
    """The pointer in a local frame, which is handed the geometry and needs no order; the same steps."""
    torch.manual_seed(seed)
    module = HullModule()
    seconds = train(module, HullModule.loss, _batches(pools, seed), steps=steps, lr=LOCAL_LR["hull"])
    return [
        Floor("local-frame pointer", _exact(module, _pools("judged", seed, number)), count(module), seconds)
    ]

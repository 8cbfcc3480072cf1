"""Remaining life after every cycle as a problem for memory layers: from raw columns, or from running features.

Every network reads every `STRIDE`-th cycle, the running features too, so what differs is who remembers.

Shape legend: B batch, N sequences, T steps, R rows, F columns.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial

import numpy as np
import torch

from ...core.calibration import ConformalInterval
from ...core.model import SequenceModel
from ...core.preprocess import Standardize
from ...data.split import group_folds
from ...data.windows import Sequences
from ..datamodule import to_batch
from ..memory_layers import D_MODEL, PARAMETERS, at_equal_size
from ..memory_training import Floor, Layer, Part, Problem
from ..module import Batch
from .bench_online import boosted_trees
from .data import BatteryData
from .judge import LATE
from .online_network import COLUMNS, OnlineNetwork, labels_of

STRIDE = 8
"""Cycles from one step to the next."""
FOLDS, BATCH, STEPS = 4, 8, 240
"""Folds of the cells, of which the last is chosen on; cells of a training step; steps."""
QUICK_STEPS = 3
RAW, RUNNING = "raw columns of the cycle", "running features"


def battery_problems(*, seed: int, root: str | None, quick: bool) -> list[Problem]:
    """From raw columns and from running features; of four folds by cell the last is chosen on.

    Test cells of the set are not looked at.

    Args:
        seed: which of the other folds judges: they take turns. All that is left is trained on.
        root: folder of the real sets.
        quick: generated cells and few steps.
    """
    data = _data("generated" if quick else "hust", root)
    cells = data.labelled_cells()
    held = [[cells[i] for i in rows] for _, rows in group_folds(cells, FOLDS, seed=0)]
    judged, chosen = held[seed % (FOLDS - 1)], held[-1]
    problems = []
    for inputs in (RAW, RUNNING):
        sequences = _sequences(data, inputs)
        groups, ids = np.array(sequences.groups), np.array(sequences.ids)
        parts: dict[Part, Sequences] = {
            "judged": sequences.take(np.flatnonzero(np.isin(ids, judged))),
            "chosen on": sequences.take(np.flatnonzero(np.isin(ids, chosen))),
        }
        kept = sequences.take(np.flatnonzero(~np.isin(groups, [*judged, *chosen])))
        problems.append(
            Problem(
                task="battery",
                data=data.cells.source.split(",")[0],
                inputs=inputs,
                figure="mape_pct",
                lower=True,
                steps=QUICK_STEPS if quick else STEPS,
                make=partial(_network, data, kept),
                loss=OnlineNetwork.loss,
                batches=partial(_batches, data, kept),
                judge=partial(_mape, parts),
                floors=partial(_floors, data, kept, parts, seed),
            )
        )
    return problems


@cache
def _data(name: str, root: str | None) -> BatteryData:
    return BatteryData(task="online", set=name, view="sequence", root=root)


@cache
def _sequences(data: BatteryData, inputs: str) -> Sequences:
    """Every `STRIDE`-th cycle, in the columns asked for."""
    whole = data.train_sequences()
    x, mask, position, y = (a[:, ::STRIDE] for a in (whole.x, whole.mask, whole.position, labels_of(whole)))
    thin = replace(whole, x=x, mask=mask, position=position, y=y)
    if inputs == RUNNING:
        return _plain(data).encode(thin)
    return replace(thin, x=thin.x[..., [thin.names.index(name) for name in COLUMNS]], names=COLUMNS)


def _plain(data: BatteryData) -> OnlineNetwork:
    nominal = data.cells.nominal_capacity_ah
    return OnlineNetwork(nominal if isinstance(nominal, float) else dict(nominal), stride=1)


def _network(data: BatteryData, kept: Sequences, layer: Layer) -> OnlineNetwork:
    """One block around the layer, made ready for these training sequences."""
    module = _plain(data)
    module.model = SequenceModel(
        len(kept.names),
        1,
        layer=layer,
        d_model=D_MODEL,
        num_layers=1,
        ff_mult=1,
        preprocess=Standardize(kept.names, flags=False, clip=module.hparams.clip, compress=True),
        calibration=ConformalInterval(),
    )
    at_equal_size(module.model.blocks[0], PARAMETERS)
    module.prepare(kept)
    return module


def _batches(data: BatteryData, kept: Sequences, seed: int) -> Iterator[Batch]:
    """Whole cells in random order, without end; labels where they are learnt from."""
    known_NT = _plain(data).trained_on(kept)
    shown = replace(kept, y=np.where(known_NT, labels_of(kept), np.nan).astype(np.float32))
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(len(shown))
        for first in range(0, len(order) - BATCH + 1, BATCH):
            yield to_batch(shown.take(order[first : first + BATCH]))


@torch.no_grad()
def _mape(parts: dict[Part, Sequences], module: OnlineNetwork, part: Part) -> float:
    """Mean relative error in % over the rows up to 90 % of each life."""
    sequences = parts[part]
    batch = to_batch(sequences)
    point_BT = module.model(batch["x"], mask_BT=batch["mask"])[0][..., 0].numpy()
    return _error(point_BT[_judged(sequences)], sequences)


def _floors(data: BatteryData, kept: Sequences, parts: dict[Part, Sequences], seed: int) -> list[Floor]:
    """Boosted trees on single rows, as in `remem bench battery-online`."""
    since = time.process_time()
    use = _plain(data).trained_on(kept)
    trees = boosted_trees(seed)
    trees.fit(kept.x[use], np.log(labels_of(kept)[use]))
    seconds = time.process_time() - since
    judged = parts["judged"]
    point_R = np.exp(trees.predict(judged.x[_judged(judged)]))
    return [Floor("boosted trees", _error(point_R, judged), None, seconds)]


def _judged(sequences: Sequences) -> np.ndarray:
    """(N, T) rows that judge."""
    rul_NT = labels_of(sequences)
    with np.errstate(invalid="ignore"):
        early_NT = sequences.position <= LATE * (sequences.position + rul_NT)
        return sequences.mask & (rul_NT > 0) & early_NT


def _error(point_R: np.ndarray, sequences: Sequences) -> float:
    rul_R = labels_of(sequences)[_judged(sequences)]
    return float(100 * np.mean(np.abs(point_R - rul_R) / rul_R))

"""`remem bench geometry-parts`: memory layers as encoders and decoders of one pointer network, at equal CPU time.

Every row is trained from nothing for the same CPU seconds of one thread, on the same uniform instances; labels are
made before and not counted. The paper's network and the local-frame pointers, which are handed the geometry, stand
beside them. `faithful_rows` gives longer trained networks for the tables of the tasks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.layers.aaren import Aaren
from ...core.layers.attention import CausalAttention
from ...core.layers.lstm import LSTM
from ...core.layers.lstm_attention import LSTMAttention
from ...core.layers.set_attention import SetAttention
from ..module import TaskModule
from ..schedule import one_cycle
from .data import Pool, Task, labelled
from .pointer_answers import figures
from .pointer_module import PointerModule

SECONDS = 15.0
"""CPU seconds of training a row."""
QUICK_SECONDS = 2.0
TEST = 20_261_128
"""Seed of the instances that judge: `default_rng((TEST, seed, n, i)).random((n, 2))`. No training draws from it."""
JUDGED, FEW_JUDGED = 200, 20
"""Instances of each size; fewer of sizes above `LARGE`, since a polygon is checked pair by pair."""
LARGE = 100

TRAINED: dict[Task, tuple[int, ...]] = {
    "tsp": (10, 15, 20),
    "hull": (5, 10, 20, 30, 40, 50),
    "delaunay": (5, 6, 7, 8, 9, 10),
}
"""Numbers of points that are trained on, equally often."""
TESTED: dict[Task, tuple[int, ...]] = {"tsp": (10, 20), "hull": (10, 50), "delaunay": (5, 10)}
INSTANCES = {"tsp": 12_000, "hull": 42_000, "delaunay": 15_000}
"""Labelled instances; their points are shuffled, and mirrored but for hulls, whenever they are drawn."""
BATCH, LR, CLIP, WIDTH = 64, 2e-3, 1.0, 64
"""Instances a step, learning rate of Adam under a one-cycle schedule, largest gradient norm, width of the networks."""

BOTH_WAYS: dict[str, Callable[[int], nn.Module]] = {
    "LSTM": LSTM,
    "Aaren": Aaren,
    "LSTM + attention": LSTMAttention,
    "causal attention": CausalAttention,
}
"""Layers that read the points from both ends; the decoder beside them is an LSTM."""
LOCAL_LR = {"tsp": 2e-3, "hull": 5e-3, "delaunay": 5e-3}

Row = dict[str, object]
Maker = Callable[[], PointerModule]


def geometry_parts(*, seeds: int = 1, root: str | None = None, quick: bool = False) -> list[Row]:
    """Rows `task, encoder, decoder, parameters, cpu_s, instances` and figures with the number of points behind.

    gap_pct: greedy tours beyond those of our search. exact_pct, area_pct: hulls right in every corner, share of the
    true area (of polygons that do not cross themselves). coverage_pct: true triangles that are there. All are means
    over the seeds; instances are those seen in training, repeats counted.

    Args:
        seeds: trainings of each row.
        root: not needed; there are no data.
        quick: one seed, 2 s of training.
    """
    torch.set_num_threads(1)
    seconds, seeds = (QUICK_SECONDS, 1) if quick else (SECONDS, seeds)
    rows = []
    for task in TRAINED:
        for encoder, decoder, maker in _networks(task):
            rows.append(_mean(task, encoder, decoder, [_one(task, maker, seconds, s) for s in range(seeds)]))
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def faithful_rows(task: str, sizes: Sequence[int], *, minutes: float, seed: int) -> list[dict[str, object]]:
    """The paper's LSTM pointer network and a set transformer, each trained for so many CPU minutes, at the sizes.

    Greedy answers to 200 instances, 20 above n = 100. Columns `n, model, instances`, the figures of the task in %,
    `cpu_ms` an instance, `train_cpu_min` and `source`. Training sees the sizes in `TRAINED`.

    Raises:
        ValueError: where the task is unknown.
    """
    if task not in TRAINED:
        raise ValueError(f"faithful_rows: no task {task!r}; wanted one of {', '.join(TRAINED)}")
    torch.set_num_threads(1)
    rows: list[Row] = []
    for name, maker in _faithful(task).items():
        module, _ = trained(
            task, maker, 60 * minutes, seed, instances=round(INSTANCES[task] * max(1, minutes))
        )
        for n in sizes:
            pool = tests(task, n, 0)
            since = time.process_time()
            answer = module(torch.from_numpy(pool.x))
            cpu_ms = 1e3 * (time.process_time() - since) / len(pool.x)
            row: Row = {
                "n": n,
                "model": name,
                "instances": len(pool.x),
                **_percent(_judged(task, pool, answer)),
            }
            row |= {"cpu_ms": round(cpu_ms, 3), "train_cpu_min": round(minutes, 2), "source": "measured"}
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
    return rows


def trained(
    task: Task, maker: Maker, seconds: float, seed: int, *, instances: int | None = None
) -> tuple[Any, int]:
    """A module after so many CPU seconds of training, in eval mode, and the instances it saw."""
    pools = training(task, instances or INSTANCES[task])
    torch.manual_seed(seed)
    module: Any = maker()
    lr = module.hparams.lr if isinstance(module, PointerModule) else LOCAL_LR[task]
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=0.0)
    rng = np.random.default_rng((seed, 1))
    module.train()
    steps, since = 0, time.process_time()
    while (done := (time.process_time() - since) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = lr * one_cycle(done, warm_up=0.1)
        pool = pools[rng.integers(len(pools))]
        rows = rng.integers(len(pool.x), size=BATCH)
        batch = {"x": torch.from_numpy(pool.x[rows]), "label": torch.from_numpy(pool.label[rows])}
        optimizer.zero_grad()
        module.loss(batch).backward()
        nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        optimizer.step()
        module.on_train_batch_end(None, batch, steps)
        steps += 1
    return module.eval(), steps * BATCH


@cache
def training(task: Task, instances: int) -> list[Pool]:
    """What is trained on: a pool for each size."""
    sizes = TRAINED[task]
    rng = np.random.default_rng((TEST, 1 << 20, instances))
    return [labelled(task, [rng.random((n, 2)) for _ in range(instances // len(sizes))]) for n in sizes]


@cache
def tests(task: Task, n: int, seed: int) -> Pool:
    """What judges."""
    count = JUDGED if n <= LARGE else FEW_JUDGED
    return labelled(task, [np.random.default_rng((TEST, seed, n, i)).random((n, 2)) for i in range(count)])


def _networks(task: Task) -> list[tuple[str, str, Callable[[], Any]]]:
    """Encoder, decoder, and what makes the module."""
    make = partial(PointerModule, task, d_model=WIDTH, lr=LR)
    rows: list[tuple[str, str, Callable[[], Any]]] = [
        ("set attention", "LSTM", make),
        ("set attention", "Aaren", partial(make, decoder=Aaren)),
        ("set attention", "LSTM + attention", partial(make, decoder=LSTMAttention)),
        ("set attention", "causal attention", partial(make, decoder=CausalAttention)),
    ]
    rows += [
        (name, "LSTM", partial(make, encoder=layer, both_ways=True)) for name, layer in BOTH_WAYS.items()
    ]
    rows.append(
        ("LSTM of the paper", "LSTM of the paper", _faithful(task)["LSTM pointer network of the paper"])
    )
    rows.append(("local frame", "local frame", _local(task)))
    return rows


def _faithful(task: Task) -> dict[str, Maker]:
    return {
        "LSTM pointer network of the paper": partial(PointerModule, task, "paper", d_model=2 * WIDTH, lr=LR),
        "set-transformer pointer": partial(
            PointerModule,
            task,
            encoder=SetAttention,
            decoder=CausalAttention,
            d_model=WIDTH,
            num_layers=3,
            lr=LR,
        ),
    }


def _local(task: Task) -> Callable[[], TaskModule]:
    if task == "tsp":
        from .tour_module import TourModule  # noqa: PLC0415

        return TourModule
    if task == "hull":
        from .hull_module import HullModule  # noqa: PLC0415

        return HullModule
    from .delaunay_module import DelaunayModule  # noqa: PLC0415

    return DelaunayModule


def _one(task: Task, maker: Callable[[], Any], seconds: float, seed: int) -> Row:
    module, seen = trained(task, maker, seconds, seed)
    found: Row = {
        "parameters": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "cpu_s": seconds,
        "instances": seen,
    }
    for n in TESTED[task]:
        pool = tests(task, n, seed)
        answer = _answers(task, module, pool)
        found |= {f"{name}_{n}": value for name, value in _percent(_judged(task, pool, answer)).items()}
    return found


def _answers(task: Task, module: Any, pool: Pool) -> Tensor:
    if task == "delaunay" and not isinstance(module, PointerModule):
        return _by_front(module, pool)
    with torch.no_grad():
        return module(torch.from_numpy(pool.x))


def _by_front(module: TaskModule, pool: Pool) -> Tensor:
    """The apex pointer answers edge by edge, from a bundle: what its front proposes, before any repair."""
    from ...serving.geometry.triangles import DelaunayPredictor  # noqa: PLC0415

    with TemporaryDirectory() as scratch:
        module.write_bundle(Path(scratch) / "bundle")
        predictor = DelaunayPredictor(Path(scratch) / "bundle", device="cpu", threads=1)
        proposed = [one.proposed.ravel() for one in predictor.answer(list(pool.x.astype(np.float64)))]
    answer = np.full((len(proposed), max(map(len, proposed))), -1, np.int64)
    for row, flat in zip(answer, proposed, strict=True):
        row[: len(flat)] = flat
    return torch.from_numpy(answer)


def _judged(task: Task, pool: Pool, answer: Tensor) -> dict[str, float]:
    return figures(task, torch.from_numpy(pool.x), answer, torch.from_numpy(pool.label))


def _percent(found: dict[str, float]) -> Row:
    # no valid polygon has no area
    return {
        f"{name}_pct": None if np.isnan(value) else round(100 * value, 3) for name, value in found.items()
    }


def _mean(task: Task, encoder: str, decoder: str, found: list[Row]) -> Row:
    row: Row = {"task": task, "encoder": encoder, "decoder": decoder, "seeds": len(found)}
    for name in found[0]:
        values: list[Any] = [one[name] for one in found if one[name] is not None]
        mean = round(float(np.mean(values)), 3) if values else None
        row[name] = round(mean) if mean is not None and isinstance(values[0], int) else mean
    return row

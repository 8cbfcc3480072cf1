"""`remem bench memory-by-task`: which memory helps where, at equal parameters and equal training.

Every memory layer of `remem.core` (`memory_layers.LAYERS`) stands in the same network of each task, in a block whose
feed-forward part is just so wide that all blocks have the same number of parameters. All see the same batches for the
same steps, with one of two learning rates, which the first seed chooses on a part of the data that never judges. Beside
them: the same network with a block that remembers nothing, and trees or rules that need no network.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ..core.blocks import Block
from ..core.state import SequenceLayer, nbytes
from .battery.memory_task import battery_problems
from .geometry.memory_task import geometry_problems
from .memory_layers import D_MODEL, LAYERS, PARAMETERS, NoMemory, at_equal_size, count
from .memory_training import RATES, Floor, Layer, Problem, best_fit
from .tracing.memory_task import tracing_problems
from .training import quiet

NONE = "no memory"
QUICK = ("LSTM", "Aaren")
"""Layers of the quick form."""
TIMED, ROUNDS = 100, 7
"""Steps whose median is the time of one; the least median of several rounds counts, the layers taking turns, since
other work on the machine makes steps slow for seconds on end."""
TASKS: dict[str, Callable[..., list[Problem]]] = {
    "battery": battery_problems,
    "tracing": tracing_problems,
    "geometry": geometry_problems,
}

Row = dict[str, object]


def memory_by_task(*, seeds: int = 3, root: str | None = None, quick: bool = False) -> list[Row]:
    """One row per task, kind of inputs and memory.

    Args:
        seeds: trainings of each; folds of cells and of students judge in turn.
        root: folder of the real sets.
        quick: two layers, one seed, few steps on generated data, to try the road.

    Returns:
        Rows `task, data, inputs, memory, kind, figure, mean, best, worst`: `kind` is memory, none or floor; mape_pct
        is of rows up to 90 % of a life, auc of the first 500 answers of each student, exact_pct of whole hulls.
        `gain, gain_best, gain_worst`: by how much each is better than "no memory" on the same seed and fold.
        `parameters` of the block or blocks around the layer, and `parameters_in_all`; `lr` chosen;
        `cpu_s` of one training; `state_bytes` and `step_us` (torch, one thread, batch 1, median) of the layer alone.
    """
    quiet()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):  # networks are too small to share between threads
            layers = {NONE: NoMemory, **{name: LAYERS[name] for name in (QUICK if quick else LAYERS)}}
            facts = layer_facts(layers)
            return [
                row | facts.get(str(row["memory"]), {})
                for task in TASKS
                for row in task_rows(task, layers, seeds=range(1 if quick else seeds), root=root, quick=quick)
            ]
    finally:
        torch.set_num_threads(threads)


def task_rows(
    task: str, layers: dict[str, Layer], *, seeds: Sequence[int], root: str | None, quick: bool
) -> list[Row]:
    """The rows of one task, without what does not depend on it; "no memory" must be among the layers."""
    found: dict[tuple[str, str], list[Row]] = {}
    problems: dict[str, Problem] = {}
    for seed in seeds:
        for problem in TASKS[task](seed=seed, root=root, quick=quick):
            problems[problem.inputs] = problem
            for name, layer in layers.items():
                before = found.setdefault((problem.inputs, name), [])
                before.append(_fitted(problem, name, layer, seed, before))
            for floor in problem.floors():
                found.setdefault((problem.inputs, floor.name), []).append(_of_floor(problem, floor, seed))
    return [
        _mean(problems[inputs], name, some, found[inputs, NONE])
        for inputs in problems
        for name, some in ((name, some) for (own, name), some in found.items() if own == inputs)
    ]


def _fitted(problem: Problem, name: str, layer: Layer, seed: int, before: list[Row]) -> Row:
    """Figure and costs of a memory; earlier seeds have chosen its learning rate."""
    rates = (float(str(before[0]["lr"])),) if before else RATES
    fit = best_fit(problem, layer, seed=seed, rates=rates)
    _tell(problem, name, seed, fit.figure, fit.cpu_s)
    return {"figure": fit.figure, "lr": fit.lr, "cpu_s": fit.cpu_s, "in_all": fit.parameters}


def _of_floor(problem: Problem, floor: Floor, seed: int) -> Row:
    _tell(problem, floor.name, seed, floor.figure, floor.cpu_s)
    return {"figure": floor.figure, "lr": None, "cpu_s": floor.cpu_s, "in_all": floor.parameters}


def _tell(problem: Problem, name: str, seed: int, figure: float, seconds: float) -> None:
    print(
        f"{problem.task}, {problem.inputs}, {name}, seed {seed}: {figure:.4f}, {seconds:.1f} s",
        file=sys.stderr,
        flush=True,
    )


def _mean(problem: Problem, name: str, found: list[Row], without: list[Row]) -> Row:
    """One row from all seeds of a memory, beside those without."""
    values, plain = (np.array([one["figure"] for one in some], float) for some in (found, without))
    gains = plain - values if problem.lower else values - plain
    best, worst = (np.min, np.max) if problem.lower else (np.max, np.min)
    known = name == NONE or name in LAYERS
    return {
        "task": problem.task,
        "data": problem.data,
        "inputs": problem.inputs,
        "memory": name,
        "kind": "none" if name == NONE else "memory" if known else "floor",
        "figure": problem.figure,
        "mean": round(float(values.mean()), 4),
        "best": round(float(best(values)), 4),
        "worst": round(float(worst(values)), 4),
        "gain": round(float(gains.mean()), 4),
        "gain_best": round(float(gains.max()), 4),
        "gain_worst": round(float(gains.min()), 4),
        "seeds": len(found),
        "parameters_in_all": found[0]["in_all"],
        "lr": found[0]["lr"],
        "cpu_s": round(float(np.mean([float(str(one["cpu_s"])) for one in found])), 2),
    }


@torch.no_grad()
def layer_facts(layers: dict[str, Layer]) -> dict[str, Row]:
    """Parameters of a block around each layer, and what the layer alone costs in production."""
    torch.manual_seed(0)
    made = {name: layer(D_MODEL) for name, layer in layers.items()}
    facts: dict[str, Row] = {}
    for name, one in made.items():
        block = at_equal_size(Block(one, D_MODEL, ff_mult=1), PARAMETERS).eval()
        facts[name] = {"parameters": count(block), "state_bytes": nbytes(one.init_state(1))}
    rounds = [{name: _step_us(one) for name, one in made.items()} for _ in range(ROUNDS)]
    return {
        name: own | {"step_us": round(min(times[name] for times in rounds))} for name, own in facts.items()
    }


def _step_us(layer: SequenceLayer) -> float:
    """Median microseconds of one step of one row."""
    state, x_1D, times = layer.init_state(1), torch.randn(1, D_MODEL), []
    for _ in range(TIMED):
        since = time.perf_counter()
        _, state = layer.step(x_1D, state)
        times.append(1e6 * (time.perf_counter() - since))
    return float(np.median(times))

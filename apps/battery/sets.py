"""The battery sets by name: where their cells are, what a full cell holds, and which cells are for the last word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from ...data.battery.readers import read_curves, read_cycles
from ...data.battery.schema import near
from ...data.battery.simulate import simulate_curves, simulate_cycles
from ...data.files import find

Task = Literal["early", "online"]


@dataclass(frozen=True)
class BatterySet:
    """files: training cells. tests: label -> file of cells that no choice is made on (used where present)."""

    task: Task
    files: tuple[str, ...]
    tests: Mapping[str, str] = field(default_factory=dict)


SETS: dict[str, BatterySet] = {
    "severson": BatterySet(
        "early",
        ("severson_qv_train.parquet",),
        {"primary test": "severson_qv_test1.parquet", "secondary test": "severson_qv_test2.parquet"},
    ),
    "hust": BatterySet("online", ("hust_percycle.parquet",)),
    "xjtu": BatterySet("online", ("xjtu_percycle.parquet",)),
    "tongji": BatterySet("online", ("tju_percycle.parquet",)),
}
DEFAULT_SET: dict[Task, str] = {"early": "severson", "online": "hust"}


@dataclass(frozen=True)
class Cells:
    """Tables of one task: what a model may be fitted and chosen on, and what only judges it.

    source: one line for people: where the cells come from.
    """

    train: pl.DataFrame
    tests: Mapping[str, pl.DataFrame]
    source: str


def load_cells(
    task: Task,
    *,
    name: str | None = None,
    root: str | None = None,
    paths: Sequence[str] = (),
    test_paths: Sequence[str] = (),
    seed: int = 0,
) -> Cells:
    """The user's own files, else the named real set, else generated cells (and `source` says which).

    Args:
        name: a key of `SETS`; None takes the task's own default.
        root: folder that holds the real sets; None looks at REMEM_DATA and the download cache.
        paths, test_paths: files of the user's own cells; they replace the named set.

    Raises:
        ValueError: an unknown set, a set of the other task, or a file that breaks the schema.
    """
    read = read_curves if task == "early" else read_cycles
    if paths:
        tests = {Path(path).stem: read(path).frame for path in test_paths}
        return Cells(read(list(paths)).frame, tests, f"own cells from {', '.join(Path(p).name for p in paths)}")
    chosen = DEFAULT_SET[task] if name is None else name
    if chosen not in SETS:
        raise ValueError(f"--data.set {near(chosen, SETS)}: no such set; there are {', '.join(SETS)}")
    entry = SETS[chosen]
    if entry.task != task:
        fitting = ", ".join(key for key, value in SETS.items() if value.task == task)
        raise ValueError(f"--data.set {chosen} serves --data.task {entry.task}; for {task} take one of {fitting}")
    folder = find(chosen, root)
    if folder is None:
        if root is not None:
            raise ValueError(f"--data.root {root}: {chosen} is not there; see `remem data check {chosen} --root {root}`")
        return _generated(task, chosen, seed)
    tests = {label: read(folder / file).frame for label, file in entry.tests.items() if (folder / file).exists()}
    train = read([folder / file for file in entry.files]).frame
    return Cells(train, tests, f"{chosen}, {train['cell_id'].n_unique()} training cells")


def _generated(task: Task, wanted: str, seed: int) -> Cells:
    make = simulate_curves if task == "early" else simulate_cycles
    train, test = make(40, seed=seed), make(20, seed=seed + 10_000)
    test = test.with_columns("test_" + pl.col("cell_id"))
    note = f"generated cells (the real set '{wanted}' was not found; set REMEM_DATA or --data.root)"
    return Cells(train, {"generated test": test}, note)

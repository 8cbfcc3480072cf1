"""The battery sets by name: where their cells are, what a full cell holds, and which cells are for the last word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from ...data.battery.online import NOMINAL_CAPACITY_AH, label_rul
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
GENERATED = "generated"
OUTLIERS = ("test1_22",)
"""Cells the re-analysis of Severson et al. leaves out of its figures; every table is printed with and without them."""

DEFAULT_NOMINAL_AH = 1.1
DEFAULT_SET: dict[Task, str] = {"early": "severson", "online": "hust"}


def nominal_of(task: Task, name: str | None, nominal_capacity_ah: float | None) -> float | dict[str, float]:
    """Capacity of a new cell in Ah, by `group` where the cells of a set differ; the user's own word counts first."""
    if nominal_capacity_ah is not None:
        return nominal_capacity_ah
    return NOMINAL_CAPACITY_AH.get(DEFAULT_SET[task] if name is None else name, DEFAULT_NOMINAL_AH)


def with_and_without(label: str, cell_id: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """Which cells count, (n,) bool by the name of the choice: without the outliers if there are any, then all."""
    usual = ~np.isin(cell_id, OUTLIERS)
    everything = (label, np.ones_like(usual))
    return [everything] if usual.all() else [(f"{label} without {', '.join(OUTLIERS)}", usual), everything]


@dataclass(frozen=True)
class Cells:
    """Tables of one task: what a model may be fitted and chosen on, and what only judges it.

    source: one line for people: where the cells come from. nominal_capacity_ah: of a new cell, by `group` where the
    cells differ. Online tables carry a column `rul`, and `ends` says what became of each training cell (see
    `remem.data.battery.online.Labels`).
    """

    train: pl.DataFrame
    tests: Mapping[str, pl.DataFrame]
    source: str
    nominal_capacity_ah: float | Mapping[str, float]
    ends: pl.DataFrame | None = None


def load_cells(
    task: Task,
    *,
    name: str | None = None,
    root: str | None = None,
    paths: Sequence[str] = (),
    test_paths: Sequence[str] = (),
    nominal_capacity_ah: float | None = None,
    eol_fraction: float = 0.8,
    seed: int = 0,
) -> Cells:
    """The user's own files, else the named real set, else generated cells (and `source` says which).

    Args:
        name: a key of `SETS`, or "generated"; None takes the task's own default.
        root: folder that holds the real sets; None looks at REMEM_DATA and the download cache.
        paths, test_paths: files of the user's own cells; `paths` replace the named set, `test_paths` its test cells.
        nominal_capacity_ah: None takes that of the set (own cells: 1.1 Ah).
        seed: of generated cells.

    Raises:
        ValueError: an unknown set, a set of the other task, or a file that breaks the schema.
    """
    chosen = DEFAULT_SET[task] if name is None else name
    if chosen not in (*SETS, GENERATED):
        raise ValueError(
            f"--data.set {near(chosen, SETS)}: no such set; there are {', '.join(SETS)}, {GENERATED}"
        )
    if chosen != GENERATED and SETS[chosen].task != task:
        fitting = ", ".join(key for key, value in SETS.items() if value.task == task)
        raise ValueError(
            f"--data.set {chosen} serves --data.task {SETS[chosen].task}; for {task} take one of {fitting}"
        )
    read = read_curves if task == "early" else read_cycles
    nominal: float | Mapping[str, float] = DEFAULT_NOMINAL_AH
    if paths:
        train = read(list(paths)).frame
        tests: Mapping[str, pl.DataFrame] = {}
        source = f"own cells from {', '.join(Path(path).name for path in paths)}"
    elif chosen != GENERATED and (folder := find(chosen, root)) is not None:
        train = read([folder / file for file in SETS[chosen].files]).frame
        files = {label: folder / file for label, file in SETS[chosen].tests.items()}
        tests = {label: read(file).frame for label, file in files.items() if file.exists()}
        source = f"{chosen}, {train['cell_id'].n_unique()} training cells"
        nominal = NOMINAL_CAPACITY_AH.get(chosen, nominal)
    elif chosen != GENERATED and root is not None:
        raise ValueError(
            f"--data.root {root}: {chosen} is not there; `remem data check {chosen}` says what is"
        )
    else:
        make = simulate_curves if task == "early" else simulate_cycles
        train = make(40, seed=seed)
        tests = {
            "generated test": make(20, seed=seed + 10_000).with_columns(
                pl.format("test_{}", "cell_id").alias("cell_id")
            )
        }
        missed = f" (the real set '{chosen}' was not found; set REMEM_DATA or --data.root)"
        source = f"{train['cell_id'].n_unique()} generated cells{'' if chosen == GENERATED else missed}"
    if test_paths:
        tests = {Path(path).stem: read(path).frame for path in test_paths}
    nominal = nominal if nominal_capacity_ah is None else nominal_capacity_ah
    if task == "early":
        return Cells(train, tests, source, nominal)
    labels = label_rul(train, nominal_capacity_ah=nominal, eol_fraction=eol_fraction)
    judged = {
        label: label_rul(frame, nominal_capacity_ah=nominal, eol_fraction=eol_fraction).frame
        for label, frame in tests.items()
    }
    return Cells(labels.frame, judged, f"{source}, ends of life: {labels.counts}", nominal, labels.cells)

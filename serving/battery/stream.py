"""One observation at a time, for ever, in constant memory: a fixed-size state for each cell, which survives restarts.

Shape legend: N cells, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..bundle import Bundle, open_bundle
from ..session import Device
from ..states import State, StepGraph, load_states, save_states
from .capacity import end_ah

LAST_CYCLE = 2**31 - 1
"""Cycle numbers are 32-bit integers, as in every table."""


class _Memory(NamedTuple):
    cycle: int
    state: State


class StreamSession:
    """Remaining life after every cycle, for any number of cells, each with its own state.

    Args:
        bundle: an online bundle folder, or an opened `Bundle`.
        state: file of an earlier `save` to go on from; a file that is not there yet means a fresh start.
        device: as in `Predictor`; single steps are fastest on the CPU.

    Raises:
        ValueError: where the bundle is broken or not an online one, or the state belongs to another bundle.
    """

    def __init__(
        self, bundle: str | Path | Bundle, state: str | Path | None = None, *, device: Device = "cpu"
    ) -> None:
        self.bundle = open_bundle(bundle)
        if self.bundle.task != "online":
            raise ValueError(
                f"{self.bundle.path}: task is '{self.bundle.task}'; a stream of cycles needs an online bundle "
                "(`remem battery fit --data.task online`), a stream of answers a TracingSession"
            )
        self._step = StepGraph(self.bundle, device=device)
        self._cells: dict[str, _Memory] = {}
        if state is not None and Path(state).exists():
            self.load(state)

    def __len__(self) -> int:
        """Number of cells that were seen."""
        return len(self._cells)

    def __contains__(self, id: object) -> bool:
        return str(id) in self._cells

    @property
    def state_bytes(self) -> int:
        """Bytes that one cell costs, after one cycle as after a million."""
        return self._step.state_bytes

    def update(self, id: str | int, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Take one cycle of one cell and forecast from all that the cell has shown so far.

        Args:
            id: the cell; one not seen before starts fresh.
            observation: `cycle` (whole number, beyond the cell's last one; gaps are allowed) and the features that
                `bundle.features` names; null where a value is missing, which the model knows about. More is ignored.

        Returns:
            `cell_id, cycle, rul, rul_lo, rul_hi, cycle_life, flags` (a list), ready for JSON.

        Raises:
            ValueError: where the observation has no usable cycle or lacks a feature, or the model gives no number; the
                state of the cell stays as it was.
        """
        if not isinstance(id, str | int) or isinstance(id, bool):
            raise ValueError(f"the cell is {id!r}; wanted its name, text or a whole number")
        cell = str(id)
        memory = self._cells.get(cell)
        cycle = _cycle(cell, observation, memory)
        x_F, flags = self._features(cell, observation)
        if memory is not None and cycle > memory.cycle + 1:
            flags.append("cycle_gap")
        y, state = self._step(x_F[None], self._step.fresh if memory is None else memory.state)
        if not np.isfinite(y).all():
            raise ValueError(
                f"cell {cell}: the model gave {y[0].tolist()} at cycle {cycle}; export the bundle again"
            )
        self._cells[cell] = _Memory(cycle, state)
        rul, lo, hi = np.maximum(y[0].astype(np.float64), 0.0).tolist()
        return {
            "cell_id": cell,
            "cycle": cycle,
            "rul": rul,
            "rul_lo": lo,
            "rul_hi": hi,
            "cycle_life": cycle + rul,
            "flags": sorted(set(flags)),
        }

    def save(self, path: str | Path) -> None:
        """Write all states into one npz file, all or nothing: an interrupted write leaves the old file."""
        memories = list(self._cells.values())
        states = {
            name: np.concatenate([part, *(memory.state[i] for memory in memories)])[1:]
            for i, (name, part) in enumerate(zip(self._step.names, self._step.fresh, strict=True))
        }
        ids = np.array(list(self._cells), dtype=np.str_)
        cycle = np.array([memory.cycle for memory in memories], dtype=np.int64)
        save_states(path, self.bundle, states | {"ids": ids, "cycle": cycle})

    def load(self, path: str | Path) -> None:
        """Go on from a saved file; states of this session are forgotten.

        Raises:
            ValueError: where the file is damaged, or was saved with another bundle.
        """
        saved = load_states(path, self.bundle)
        self._cells = {
            str(cell): _Memory(int(cycle), tuple(saved[name][row : row + 1] for name in self._step.names))
            for row, (cell, cycle) in enumerate(zip(saved["ids"], saved["cycle"], strict=True))
        }

    def _features(self, cell: str, observation: Mapping[str, Any]) -> tuple[np.ndarray, list[str]]:
        """(F,) what `online_sequences` makes of one row of a table, and the flags that one row can earn."""
        x_F = np.empty(len(self.bundle.features), np.float32)
        flags: list[str] = []
        for i, name in enumerate(self.bundle.features):
            if name not in observation:
                raise ValueError(
                    f"cell {cell}: the observation lacks {name}; wanted {', '.join(self.bundle.features)}; give null "
                    "where a value is missing"
                )
            with np.errstate(over="ignore"):
                x_F[i] = _number(cell, name, observation[name])
        for flag, bad in (("missing_value", np.isnan(x_F)), ("infinite_value", np.isinf(x_F))):
            if bad.any():
                flags.append(flag)
        x_F[np.isinf(x_F)] = np.nan
        group = observation.get("group")
        end = end_ah(self.bundle, group if isinstance(group, str) else None)
        if "capacity_ah" in self.bundle.features and end is not None:
            capacity = x_F[self.bundle.features.index("capacity_ah")]
            flags += ["already_failing"] if capacity < end else []
        return x_F, flags


def _number(cell: str, name: str, given: Any) -> float:
    if given is None:
        return float("nan")
    if isinstance(given, bool) or not isinstance(given, int | float | np.number):
        raise ValueError(f"cell {cell}: {name} is {given!r}; wanted a number, or null where it is missing")
    try:
        return float(given)
    except OverflowError:  # JSON knows integers of any length
        return float("inf")


def _cycle(cell: str, observation: Mapping[str, Any], memory: _Memory | None) -> int:
    given = observation.get("cycle")
    number = isinstance(given, int | float | np.number) and not isinstance(given, bool)
    if given is None or not number or not 0 <= given <= LAST_CYCLE or given != int(given):
        raise ValueError(
            f"cell {cell}: cycle is {given!r}; every observation needs `cycle`, a whole number from 0 to {LAST_CYCLE}"
        )
    if memory is not None and given <= memory.cycle:
        raise ValueError(
            f"cell {cell}: cycle {int(given)} after cycle {memory.cycle}; observations must move forward: drop it, or "
            "give a new cell its own id"
        )
    return int(given)

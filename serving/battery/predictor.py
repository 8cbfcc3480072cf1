"""Predictions of whole tables: one row per cell (early) or per row of the input (online), never fewer.

Shape legend: N cells, T longest length, F features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from ...data.battery.checks import check
from ...data.battery.early import SHORT, early_features
from ...data.battery.early_sequence import early_sequences
from ...data.battery.flags import Report
from ...data.battery.online import online_sequences
from ...data.battery.schema import Kind, conform
from ...data.windows import Sequences
from ..bundle import Bundle, open_bundle
from ..session import Device
from .capacity import nominal_ah

COLUMNS = ("cell_id", "cycle", "rul", "rul_lo", "rul_hi", "cycle_life", "flags")

CELLS_AT_ONCE = 32
STEPS_AT_ONCE = 32_768
"""Bounds of one call of a graph, so that memory does not grow with the table: cells, and cells x longest length."""

ANSWERED = 0.5
"""Share of its `max_cycle` below which an early bundle does not answer: its interval was not made for so little."""

DEFAULT_EOL = 0.8
"""End of life as a share of nominal capacity, where the manifest names none."""


class Predictor:
    """Forecasts from a bundle, with onnxruntime.

    Args:
        bundle: a bundle folder, or an opened `Bundle`.
        device: "auto" takes a GPU where there is one that works; "cpu" or "cuda" insist.

    Raises:
        ValueError: where the bundle is incomplete, changed or of another version (see `open_bundle`).
    """

    def __init__(self, bundle: str | Path | Bundle, *, device: Device = "auto") -> None:
        self.bundle = open_bundle(bundle)
        if self.bundle.app != "battery":
            raise ValueError(
                f"{self.bundle.path}: the app of this bundle is '{self.bundle.app}'; open it with "
                "remem.serving.open_predictor"
            )
        graph = "model.onnx" if self.bundle.kind == "early_tabular" else "window.onnx"
        self._session = self.bundle.session(graph, device=device)
        width = self._session.get_inputs()[0].shape[-1]
        if width != len(self.bundle.features):
            raise ValueError(
                f"{self.bundle.path}: {graph} takes {width} features, the manifest names {len(self.bundle.features)}; "
                "export the bundle again"
            )

    @property
    def table(self) -> Kind:
        """The table that `predict` takes: "curves" for early prediction, "cycles" for online."""
        return "curves" if self.bundle.task == "early" else "cycles"

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Forecast every cell (early: from its cycles up to the bundle's `max_cycle`) or every row (online).

        Args:
            frame: a `curves` table (early) or a `cycles` table (online) of `remem.data.battery.schema`, rows in any
                order. `remem.data.battery.readers` makes one from a file.

        Returns:
            `cell_id, cycle, rul, rul_lo, rul_hi, cycle_life, flags`. Lives in cycles, bounds at the bundle's
            confidence. Early: one row per cell in order of appearance, `cycle` the last one that was used; a record
            of less than half the cycles the bundle was calibrated for gets null and the flag `short_history`.
            Online: one row per row of `frame`, in its order, from that row's past alone. `flags` are names of
            `remem.data.battery.flags`, joined by ";", empty where nothing was seen; they judge the table as a whole,
            so what comes later may have a say in them.

        Raises:
            ValueError: where the table breaks its schema or a cell has too few cycles; nothing is left out instead.
        """
        if not isinstance(frame, pl.DataFrame):
            raise ValueError(
                f"Predictor.predict: got a {type(frame).__name__}; wanted a polars DataFrame of {self.table}"
            )
        frame, report = conform(
            frame.with_columns(pl.int_range(pl.len()).alias("_row")), self.table, source="frame"
        )
        row = frame["_row"].to_numpy()
        frame = frame.drop("_row")
        if self.bundle.task == "early":
            return pl.concat([self._early(part, report) for part in _cells_at_once(frame)])
        out = pl.concat([self._online(part, report) for part in _steps_at_once(frame)])
        return out[np.argsort(row)]

    def _early(self, frame: pl.DataFrame, report: Report) -> pl.DataFrame:
        limit = int(self.bundle.manifest["input"]["max_cycle"])
        if self.bundle.kind == "early_tabular":
            cells = early_features(frame, max_cycle=limit)
            x_NF = cells.x[:, self._columns(cells.names)].astype(np.float32)
            y_NO = self._session.run(["y"], {"x": x_NF})[0]
            ids, cycle, own_flags = cells.cell_id, cells.last_cycle, cells.flags
        else:
            steps = early_sequences(frame, max_cycle=limit)
            last = steps.lengths - 1
            y_NO = self._window(steps)[np.arange(len(steps)), last]
            ids, cycle = steps.ids, steps.position[np.arange(len(steps)), last]
            own_flags = tuple(("short_history",) if at < SHORT * limit else () for at in cycle)
        life_NO = np.maximum(y_NO.astype(np.float64), cycle[:, None])
        life_NO[cycle < ANSWERED * limit] = np.nan
        seen = self._seen(frame.filter(pl.col("cycle") <= limit), report)
        by_cell = seen.group_by("cell_id").agg(pl.col("flag"))
        flags_of = {str(cell): list(names) for cell, names in by_cell.iter_rows()}
        flags = [_joined([*flags_of.get(cell, []), *own]) for cell, own in zip(ids, own_flags, strict=True)]
        return _table(ids, cycle, life_NO - cycle[:, None], flags)

    def _online(self, frame: pl.DataFrame, report: Report) -> pl.DataFrame:
        steps = online_sequences(frame)
        y_RO = self._window(steps)[steps.mask]
        if len(y_RO) != frame.height:
            raise ValueError(
                f"online features: got {len(y_RO)} steps from {frame.height} rows; wanted one a row"
            )
        rul_RO = np.maximum(y_RO.astype(np.float64), 0.0)
        seen = self._seen(frame, report)
        of_row: dict[tuple[str, int], set[str]] = {}
        of_cell: dict[str, set[str]] = {}
        for cell, cycle, flag in seen.iter_rows():
            if cycle is None:
                of_cell.setdefault(cell, set()).add(flag)
            else:
                of_row.setdefault((cell, cycle), set()).add(flag)
        rows = frame.select("cell_id", "cycle").rows()
        flags = [_joined(of_row.get(row, set()) | of_cell.get(row[0], set())) for row in rows]
        return _table(frame["cell_id"], frame["cycle"].to_numpy(), rul_RO, flags)

    def _seen(self, frame: pl.DataFrame, report: Report) -> pl.DataFrame:
        """`cell_id, cycle, flag` of what checks say of these cells, and of what bringing them into the schema said."""
        by_group = frame.partition_by("group") if "group" in frame.columns else [frame]
        found = [self._checked(part) for part in by_group]
        mine = report.table.join(
            frame.select("cell_id", "cycle").unique(), on=["cell_id", "cycle"], how="semi"
        )
        return pl.concat([*found, mine]).select("cell_id", "cycle", "flag").unique()

    def _checked(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What checks say of cells of one group."""
        group = frame["group"][0] if "group" in frame.columns else None
        fraction = self.bundle.manifest["input"]["eol_fraction"] or DEFAULT_EOL
        return check(frame, nominal_ah=nominal_ah(self.bundle, group), eol_fraction=fraction).table

    def _window(self, steps: Sequences) -> np.ndarray:
        """(N, T, 3) outputs of the window graph, its features picked by name."""
        x_NTF = steps.x[..., self._columns(steps.names)]
        return np.asarray(self._session.run(["y"], {"x": x_NTF, "mask": steps.mask})[0])

    def _columns(self, names: Sequence[str]) -> list[int]:
        """Where the graph's features are among `names`."""
        absent = [name for name in self.bundle.features if name not in names]
        if absent:
            raise ValueError(
                f"frame: the bundle {self.bundle.path} needs columns {absent}; the table gives {list(names)}; "
                "add or rename them (--columns old=new), with nulls where values are missing"
            )
        return [names.index(name) for name in self.bundle.features]


def _joined(flags: Iterable[str]) -> str:
    return ";".join(sorted(set(flags)))


def _table(ids: Iterable[str], cycle: np.ndarray, rul_RO: np.ndarray, flags: list[str]) -> pl.DataFrame:
    rul, lo, hi = rul_RO.T
    columns = (pl.Series(list(ids), dtype=pl.String), cycle, rul, lo, hi, cycle + rul, flags)
    return pl.DataFrame(dict(zip(COLUMNS, columns, strict=True))).with_columns(
        pl.col("cycle").cast(pl.Int64), pl.col("rul", "rul_lo", "rul_hi", "cycle_life").fill_nan(None)
    )


def _cells_at_once(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    cells = frame.partition_by("cell_id", maintain_order=True)
    for start in range(0, len(cells), CELLS_AT_ONCE):
        yield pl.concat(cells[start : start + CELLS_AT_ONCE])


def _steps_at_once(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    batch: list[pl.DataFrame] = []
    longest = 0
    for cell in frame.partition_by("cell_id", maintain_order=True):
        longest = max(longest, cell.height)
        if batch and longest * (len(batch) + 1) > STEPS_AT_ONCE:
            yield pl.concat(batch)
            batch, longest = [], cell.height
        batch.append(cell)
    yield pl.concat(batch)

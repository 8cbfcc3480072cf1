"""Judge a bundle as production will use it: through onnxruntime, beside the simple baselines it carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from ...data.battery.early import early_features
from ...data.battery.metrics import bootstrap_interval, life_metrics
from ...serving.battery.baselines import early_baselines, online_baselines
from ...serving.battery.predictor import Predictor

LATE = 0.9  # share of a life after which relative errors of the little that is left say nothing


@dataclass(frozen=True)
class Verdict:
    """Forecasts of one table beside the truth.

    All arrays (n,), in cycles; `cell` names each row's cell, `flags` says what is odd about it (see
    `remem.data.battery.flags`). `whole` is False where some cells were left out.
    """

    label: str
    cell: np.ndarray
    cycle: np.ndarray
    truth: np.ndarray
    point: np.ndarray
    lo: np.ndarray | None
    hi: np.ndarray | None
    baselines: Mapping[str, np.ndarray] = field(default_factory=dict)
    flags: np.ndarray | None = None
    whole: bool = True

    def rows(self, *, model: str) -> list[dict[str, object]]:
        """One row for the model and one for each baseline: `split, model, cells, rmse, mape, ...`."""
        common = {"split": self.label, "cells": len(np.unique(self.cell))}
        own = life_metrics(self.truth, self.point, self.lo, self.hi)
        low, high = bootstrap_interval(self.truth, self.point, "mape", groups=self.cell)
        table = [common | {"model": model} | own | {"mape_low": low, "mape_high": high}]
        table += [
            common | {"model": name} | life_metrics(self.truth, point)
            for name, point in self.baselines.items()
        ]
        return [_ordered(row) for row in table]

    def beside(self, predictor: Predictor, frame: pl.DataFrame) -> Verdict:
        """The same forecasts beside the baselines that a bundle carries; `frame` holds the rows that were forecast.

        The baselines were fitted on all training cells, so where those are judged they have a small advantage.
        """
        if predictor.bundle.task == "early":
            cells = early_features(frame, max_cycle=int(predictor.bundle.manifest["input"]["max_cycle"]))
            place = {cell: i for i, cell in enumerate(cells.cell_id)}
            rows, points = [place[cell] for cell in self.cell], early_baselines(predictor.bundle, cells)
        else:
            frame = frame.sort("cell_id", "cycle")
            at = {key: i for i, key in enumerate(frame.select("cell_id", "cycle").iter_rows())}
            rows = [at[cell, cycle] for cell, cycle in zip(self.cell, self.cycle.tolist(), strict=True)]
            points = online_baselines(predictor.bundle, frame)
        return replace(self, baselines={name: point[rows] for name, point in points.items()})

    def without(self, cells: Sequence[str], label: str) -> Verdict:
        """The same forecasts with some cells left out, under another label."""
        keep = ~np.isin(self.cell, list(cells))

        def kept(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[keep]

        return Verdict(
            label,
            self.cell[keep],
            self.cycle[keep],
            self.truth[keep],
            self.point[keep],
            kept(self.lo),
            kept(self.hi),
            {name: point[keep] for name, point in self.baselines.items()},
            kept(self.flags),
            whole=False,
        )


def judge_early(predictor: Predictor, curves: pl.DataFrame, label: str) -> Verdict:
    """Cycle lives of all cells of a curves table with a `cycle_life` column."""
    out = predictor.predict(curves)
    silent = out.filter(pl.col("cycle_life").is_null())["cell_id"].to_list()
    if silent:
        raise ValueError(
            f"{label}: {len(silent)} cells have too short a record for this bundle, first {silent[0]}; leave them out, "
            "or fit a model with a smaller --data.max_cycle"
        )
    known = dict(curves.select("cell_id", "cycle_life").unique(maintain_order=True).iter_rows())
    truth = np.array([known[cell] for cell in out["cell_id"]], float)
    cycle = out["cycle"].to_numpy()
    verdict = Verdict(
        label,
        out["cell_id"].to_numpy(),
        cycle,
        truth,
        out["cycle_life"].to_numpy(),
        cycle + out["rul_lo"].to_numpy(),
        cycle + out["rul_hi"].to_numpy(),
        flags=out["flags"].to_numpy(),
    )
    return verdict.beside(predictor, curves)


def judge_online(predictor: Predictor, cycles: pl.DataFrame, label: str, *, late: float = LATE) -> Verdict:
    """Remaining lives at every row of a cycles table with a `rul` column, up to the share `late` of each life.

    Rows without a label (cells that never reach their end of life) and rows past `late` are not judged.
    """
    cycles = cycles.sort("cell_id", "cycle")
    out = predictor.predict(cycles)
    truth, cycle = cycles["rul"].cast(pl.Float64).fill_null(np.nan).to_numpy(), cycles["cycle"].to_numpy()
    with np.errstate(invalid="ignore"):
        judged = np.isfinite(truth) & (truth > 0) & (cycle <= late * (cycle + truth))
    verdict = Verdict(
        label,
        out["cell_id"].to_numpy()[judged],
        cycle[judged],
        truth[judged],
        out["rul"].to_numpy()[judged],
        out["rul_lo"].to_numpy()[judged],
        out["rul_hi"].to_numpy()[judged],
        flags=out["flags"].to_numpy()[judged],
    )
    return verdict.beside(predictor, cycles)


def _ordered(row: Mapping[str, object]) -> dict[str, object]:
    first = ("split", "model", "cells")
    return {name: row[name] for name in first} | {k: v for k, v in row.items() if k not in (*first, "n")}

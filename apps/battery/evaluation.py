"""A battery bundle on a table whose lives are known."""

from __future__ import annotations

import sys

import numpy as np
import polars as pl

from ...data.battery.online import label_rul
from ...data.battery.readers import Reading
from ...serving.battery.predictor import Predictor
from .judge import Verdict, judge_early, judge_online

FAILING = "already_failing"


def evaluate_cells(predictor: Predictor, reading: Reading) -> tuple[list[str], list[dict[str, object]]]:
    """Cells that fade already, and rows of figures: over all cells and (early) without those.

    Raises:
        ValueError: where the table does not hold the labels.
    """
    verdict = _judge(predictor, reading)
    rows = verdict.rows(model="bundle")
    failing = _failing(verdict)
    if predictor.bundle.task == "early" and 0 < len(failing) < len(np.unique(verdict.cell)):
        rows += verdict.without(failing, f"without {FAILING}").rows(model="bundle")
    return failing, rows


def _judge(predictor: Predictor, reading: Reading) -> Verdict:
    if predictor.bundle.task == "online":
        return judge_online(predictor, _labelled(predictor, reading.frame), "to 90 % of life")
    if "cycle_life" not in reading.frame.columns:
        raise ValueError(
            f"the table has no column cycle_life, only {reading.frame.columns}; evaluation needs the known "
            "life of every cell: add it, or rename it with --columns OLD=cycle_life"
        )
    unknown = reading.frame.filter(pl.col("cycle_life").is_null())["cell_id"].unique(maintain_order=True)
    if len(unknown):
        raise ValueError(
            f"{len(unknown)} cells have no cycle_life, first {unknown[0]}; fill it in, "
            "or leave those cells out"
        )
    told = reading.frame.group_by("cell_id", maintain_order=True).agg(pl.col("cycle_life").unique())
    several = told.filter(pl.col("cycle_life").list.len() > 1)
    if several.height:
        cell, lives = several.row(0)
        raise ValueError(
            f"{several.height} cells have more than one cycle_life, first {cell}: {sorted(lives)[:3]}; a cell has one "
            "life: correct the column, or give the cells different cell_id"
        )
    return judge_early(predictor, reading.frame, "all")


def _labelled(predictor: Predictor, cycles: pl.DataFrame) -> pl.DataFrame:
    """The cycles with a column `rul`: their own, else counted back from each cell's end of life."""
    if "rul" in cycles.columns:
        return cycles
    given = predictor.bundle.manifest["input"]
    if given["nominal_capacity_ah"] is None or given["eol_fraction"] is None:
        raise ValueError(
            "the table has no column rul, and the bundle names no nominal capacity from which to find the "
            "end of life; add the column, in cycles"
        )
    labels = label_rul(
        cycles, nominal_capacity_ah=given["nominal_capacity_ah"], eol_fraction=given["eol_fraction"]
    )
    print(f"ends of life: {labels.counts}", file=sys.stderr)
    return labels.frame


def _failing(verdict: Verdict) -> list[str]:
    if verdict.flags is None:
        return []
    flagged = [FAILING in flags.split(";") for flags in verdict.flags]
    return sorted(np.unique(verdict.cell[np.array(flagged, bool)]).tolist())

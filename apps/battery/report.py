"""The pages that a fit and the demo leave: the verdict as a table, and the pictures that go with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from ...data.battery.early import repair
from ...data.battery.schema import curve_matrix
from ..report import Report
from .judge import Verdict
from .plots import alpha_lambda_plot, coverage_plot, delta_q_plot, fade_fan_plot, parity_plot

SEEN_FROM = (0.25, 0.5, 0.75)  # shares of a life from which a fan is drawn

Rows = Sequence[Mapping[str, object]]


def early_report(
    title: str,
    source: str,
    curves: pl.DataFrame,
    verdicts: Sequence[Verdict],
    rows: Rows,
    *,
    confidence: float,
) -> Report:
    """Early prediction: what the cells look like, how good the forecasts are, how honest the intervals."""
    page = Report(title).add("Data", f"Cells: {source}.").add("Verdict", _LEGEND, rows=rows)
    delta_ND, life_N = _delta_q(curves)
    page.add("What tells a long life from a short one", _DELTA, figure=delta_q_plot(delta_ND, life_N))
    groups = {
        v.label: {"truth": v.truth, "point": v.point, "lo": v.lo, "hi": v.hi}
        for v in verdicts
        if v.whole and v.lo is not None and v.hi is not None
    }
    if groups:
        page.add("Forecast against truth", figure=parity_plot(groups, confidence=confidence))
        page.add("Coverage", _COVERAGE, figure=_coverage(verdicts, confidence))
    return page


def online_report(
    title: str,
    source: str,
    cycles: pl.DataFrame,
    verdict: Verdict,
    rows: Rows,
    *,
    confidence: float,
    eol_ah: float,
) -> Report:
    """Online forecasts: errors over whole lives, then a short and a long life as they were lived."""
    page = Report(title).add("Data", f"Cells: {source}.").add("Verdict", _LEGEND, rows=rows)
    if verdict.lo is None or verdict.hi is None:
        raise ValueError(f"online report: the verdict '{verdict.label}' has no interval to show")
    cells, lows, highs = np.unique(verdict.cell), verdict.lo, verdict.hi
    lives = np.array([(verdict.cycle + verdict.truth)[verdict.cell == cell].max() for cell in cells])
    for cell in cells[np.argsort(lives)[[len(cells) // 4, (3 * len(cells)) // 4]]]:
        own = verdict.cell == cell
        cycle, truth, point, lo, hi = (
            a[own] for a in (verdict.cycle, verdict.truth, verdict.point, lows, highs)
        )
        page.add(
            f"Cell {cell}: remaining life as its life went on",
            figure=alpha_lambda_plot(cycle, truth, point, lo, hi, title=str(cell)),
        )
        history = cycles.filter(pl.col("cell_id") == cell).sort("cycle")
        places = [int(share * (len(cycle) - 1)) for share in SEEN_FROM]
        seen = [
            {"cycle": float(cycle[i]), "rul": float(point[i]), "rul_lo": float(lo[i]), "rul_hi": float(hi[i])}
            for i in places
        ]
        page.add(
            f"Cell {cell}: the end of life as it was seen from three moments",
            figure=fade_fan_plot(
                history["cycle"].to_numpy(),
                history["capacity_ah"].to_numpy(),
                seen,
                eol_ah=eol_ah,
                title=str(cell),
            ),
        )
    page.add("Coverage", _COVERAGE, figure=_coverage([verdict], confidence))
    return page


def _coverage(verdicts: Sequence[Verdict], confidence: float) -> Figure:
    bounded = [v for v in verdicts if v.lo is not None and v.hi is not None]
    shares = {v.label: float(np.mean((v.lo <= v.truth) & (v.truth <= v.hi))) for v in bounded}
    sizes = {v.label: len(np.unique(v.cell)) for v in bounded}
    return coverage_plot(shares, sizes, confidence=confidence)


def _delta_q(curves: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(cells, 1000) change of the discharge curve between about cycle 10 and the last one, and (cells,) lives."""
    delta, life = [], []
    for part in curves.sort("cycle").partition_by("cell_id", maintain_order=True):
        q_CV, _ = repair(curve_matrix(part).astype(float))
        cycle = part["cycle"].to_numpy()
        delta.append(q_CV[-3:].mean(axis=0) - q_CV[np.abs(cycle - 10).argsort()[:3]].mean(axis=0))
        life.append(float(part["cycle_life"][0]) if "cycle_life" in part.columns else np.nan)
    return np.array(delta), np.array(life)


_LEGEND = (
    "rmse and mae in cycles; mape, within_15 (share of forecasts within 15 % of the truth), coverage (share of truths "
    "inside the interval) and width (median of interval / truth) as fractions; mape_low and mape_high are a 95 % "
    "bootstrap interval over cells. Baselines stand in the same table, also where they win."
)
_DELTA = (
    "Change of the discharge curve between cycle 10 and the last cycle looked at: the more it has moved, the shorter "
    "the life."
)
_COVERAGE = (
    "Share of true values inside the interval. The bar is where 95 % of perfectly calibrated intervals would fall "
    "for so many cells."
)

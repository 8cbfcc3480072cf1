"""Pictures of a battery forecast. Every function returns a matplotlib Figure and reads plain arrays.

Capacities are in Ah, voltages in V, lives in cycles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

VOLTAGE_GRID_V = np.linspace(3.6, 2.0, 1000)
_INK, _ACCENT, _BAND = "#24292f", "#c2410c", "#fdba74"


def _axes(width: float = 7.0, height: float = 4.5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def delta_q_plot(delta_q: np.ndarray, life: np.ndarray, *, cycles: tuple[int, int] = (10, 100)) -> Figure:
    """Discharge-curve change between two cycles, one line a cell, coloured by life.

    Args:
        delta_q: (cells, 1000) Q_late(V) - Q_early(V) in Ah on `VOLTAGE_GRID_V`.
        life: (cells,) cycle life; NaN draws the line in grey.
    """
    figure, axes = _axes()
    known = life[np.isfinite(life)]
    norm = LogNorm(known.min(), known.max()) if known.size else LogNorm(100, 2000)
    palette = colormaps["viridis"]
    for curve, cycles_to_eol in zip(delta_q, life, strict=True):
        colour = palette(norm(cycles_to_eol)) if np.isfinite(cycles_to_eol) else "0.7"
        axes.plot(curve, VOLTAGE_GRID_V, color=colour, lw=0.9)
    axes.set(xlabel=f"Q{cycles[1]}(V) - Q{cycles[0]}(V)  [Ah]", ylabel="voltage [V]")
    low, high = np.quantile(delta_q, [0.002, 0.998])
    axes.set_xlim(low * 1.1, max(high * 1.1, 0.005))
    bar = figure.colorbar(ScalarMappable(norm, palette), ax=axes, label="cycle life")
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    bar.ax.yaxis.set_major_formatter(ScalarFormatter())
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    return figure


def parity_plot(groups: Mapping[str, Mapping[str, np.ndarray]], *, confidence: float) -> Figure:
    """Forecast against truth with intervals.

    Args:
        groups: label -> {"truth", "point", "lo", "hi"}, each (n,) cycles.
        confidence: nominal coverage of the interval, printed in the title.
    """
    figure, axes = _axes(5.5, 5.5)
    both = np.concatenate([np.concatenate([g["truth"], g["point"]]) for g in groups.values()])
    low, high = both.min() * 0.8, both.max() * 1.25
    axes.plot([low, high], [low, high], color="0.5", lw=1)
    for (label, group), colour in zip(groups.items(), ("#0969da", _ACCENT, "#1a7f37"), strict=False):
        below, above = group["point"] - group["lo"], group["hi"] - group["point"]
        inside = np.mean((group["lo"] <= group["truth"]) & (group["truth"] <= group["hi"]))
        axes.errorbar(
            group["truth"],
            group["point"],
            yerr=np.maximum([below, above], 0),
            fmt="o",
            ms=4,
            lw=0.8,
            alpha=0.8,
            color=colour,
            label=f"{label}: {inside:.0%} of {len(group['truth'])} inside",
        )
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    axes.set(
        xlabel="true life [cycles]", ylabel="forecast life [cycles]", title=f"{confidence:.0%} intervals"
    )
    axes.legend(frameon=False, loc="upper left")
    return figure


def coverage_plot(coverage: Mapping[str, float], sizes: Mapping[str, int], *, confidence: float) -> Figure:
    """Share of truths inside the interval, one bar a split, with the binomial 95 % range of a perfect interval."""
    figure, axes = _axes(6.5, 0.9 + 0.6 * len(coverage))
    for i, (name, share) in enumerate(coverage.items()):
        spread = 1.96 * np.sqrt(confidence * (1 - confidence) / sizes[name])
        axes.barh(i, 2 * spread, left=confidence - spread, color=_BAND, alpha=0.6, height=0.6)
        axes.plot(share, i, "o", color=_INK)
        axes.annotate(f"{share:.1%}", (share, i), textcoords="offset points", xytext=(0, 8), ha="center")
    axes.axvline(confidence, color=_ACCENT, lw=1)
    axes.set_yticks(range(len(coverage)), [f"{name} (n={sizes[name]})" for name in coverage])
    axes.set(
        xlim=(min(0.5, *coverage.values()) - 0.03, 1.03),
        ylim=(-0.6, len(coverage) - 0.3),
        xlabel="share of truths inside",
    )
    return figure


def alpha_lambda_plot(
    position: np.ndarray,
    truth: np.ndarray,
    point: np.ndarray,
    lo: np.ndarray,
    hi: np.ndarray,
    *,
    title: str,
    alpha: float = 0.15,
) -> Figure:
    """Remaining life over a cell's whole life, with the cone truth*(1 +- alpha) (Saxena et al. 2010).

    Args:
        position: (T,) cycle number. truth, point, lo, hi: (T,) remaining cycles.
    """
    figure, axes = _axes()
    axes.fill_between(position, lo, hi, color=_BAND, alpha=0.6, lw=0, label="interval")
    axes.plot(position, point, color=_ACCENT, lw=1.4, label="forecast")
    axes.plot(position, truth, color=_INK, lw=1.2, label="truth")
    axes.plot(position, truth * (1 + alpha), "--", color="0.5", lw=0.8, label=f"truth ± {alpha:.0%}")
    axes.plot(position, truth * (1 - alpha), "--", color="0.5", lw=0.8)
    axes.set(xlabel="cycle", ylabel="remaining cycles", title=title, ylim=(0, float(truth.max()) * 1.8))
    axes.legend(frameon=False)
    return figure


def fade_fan_plot(
    position: np.ndarray,
    capacity_ah: np.ndarray,
    forecasts: Sequence[Mapping[str, float]],
    *,
    eol_ah: float,
    title: str,
) -> Figure:
    """Measured fade with the end-of-life fan as seen from a few moments of the cell's life.

    Args:
        position, capacity_ah: (T,) cycle number and measured capacity.
        forecasts: each {"cycle", "rul", "rul_lo", "rul_hi"}; a fan is drawn from that cycle to the end of life.
    """
    figure, axes = _axes()
    axes.plot(position, capacity_ah, color=_INK, lw=1.2, label="measured")
    axes.axhline(eol_ah, color="0.5", lw=0.8, ls="--", label=f"end of life, {eol_ah:.3g} Ah")
    for i, seen in enumerate(forecasts):
        start = float(np.interp(seen["cycle"], position, capacity_ah))
        ends = seen["cycle"] + np.array([seen["rul_lo"], seen["rul"], seen["rul_hi"]])
        axes.fill(
            [seen["cycle"], ends[0], ends[2]],
            [start, eol_ah, eol_ah],
            color=_BAND,
            alpha=0.45,
            lw=0,
            label="interval of the end of life" if i == 0 else None,
        )
        axes.plot(
            [seen["cycle"], ends[1]],
            [start, eol_ah],
            color=_ACCENT,
            lw=1.0,
            label="forecast" if i == 0 else None,
        )
        axes.plot(seen["cycle"], start, "o", color=_ACCENT, ms=4)
    axes.set(xlabel="cycle", ylabel="discharge capacity [Ah]", title=title)
    axes.legend(frameon=False, loc="lower left")
    return figure

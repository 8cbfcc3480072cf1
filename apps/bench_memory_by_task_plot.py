"""The picture of `remem bench memory-by-task`: a panel for each task and kind of inputs, a line for each memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

UNITS = {"mape_pct": "points of MAPE", "auc": "AUC", "exact_pct": "points of exact hulls"}
_INK, _ACCENT, _FLOOR, _GREY = "#24292f", "#c2410c", "#1d4ed8", "#6b7280"
FAR = 2.0
"""What stands beside is drawn up to so many times the width of what the memories take; farther off it is told."""

Row = dict[str, Any]


def plot_memory_by_task(rows: list[dict[str, object]], path: Path) -> None:
    """By how much each memory is better than none: mean of the seeds, the best and the worst, as a PNG.

    Args:
        rows: of `bench_memory_by_task.memory_by_task`.
        path: where the picture goes.
    """
    panels = list(dict.fromkeys((str(row["task"]), str(row["inputs"])) for row in rows))
    names = list(dict.fromkeys(str(row["memory"]) for row in rows if row["kind"] == "memory"))
    figure = Figure(figsize=(2.6 * len(panels) + 1.6, 0.24 * len(names) + 1.9), layout="constrained")
    for axes, (task, inputs) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True
    ):
        _panel(axes, [row for row in rows if (row["task"], row["inputs"]) == (task, inputs)], names)
        axes.set_title(f"{task}\n{inputs}", fontsize=9)
    figure.savefig(path, dpi=90, format="png")


def _panel(axes: Axes, rows: list[Row], names: list[str]) -> None:
    """Memories from above in the order of `names`; no memory and the others are lines from top to bottom."""
    by_name = {str(row["memory"]): row for row in rows}
    own = [by_name[name] for name in names]
    first = max(own, key=lambda row: row["gain"])
    for place, row in enumerate(own):
        colour = _ACCENT if row is first else _INK
        axes.plot(
            [row["gain_best"], row["gain_worst"]], [place, place], color=colour, linewidth=1.5, alpha=0.6
        )
        axes.plot([row["gain"]], [place], "o", color=colour, markersize=4.5)
    ends = [0.0, *(row["gain_worst"] for row in own), *(row["gain_best"] for row in own)]
    width = max(ends) - min(ends)
    for row in rows:
        if row["kind"] != "memory":
            near = abs(row["gain"]) <= FAR * width
            axes.plot(
                [row["gain"] if near else 0.0] * 2,
                [-1, len(names)],
                color=_GREY if row["kind"] == "none" else _FLOOR,
                linestyle="--" if near else "none",
                linewidth=1.3,
                label=f"{row['memory']}: {_said(row)}" + ("" if near else " (off the scale)"),
            )
    axes.set_yticks(range(len(names)), names, fontsize=8.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(f"{UNITS[own[0]['figure']]} won", fontsize=8.5)
    axes.tick_params(axis="x", labelsize=8)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize=8, frameon=False)


def _said(row: Row) -> str:
    return f"{row['mean']:.3f}" if row["figure"] == "auc" else f"{row['mean']:.1f} %"

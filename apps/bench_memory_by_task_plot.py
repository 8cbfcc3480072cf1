"""The picture of `remem bench memory-by-task`: a panel for each task and kind of inputs, a line for each memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

TITLES = {"mape_pct": "MAPE, %", "auc": "AUC", "exact_pct": "exact hulls, %"}
BETTER = {"mape_pct": "← better", "auc": "better →", "exact_pct": "better →"}
_INK, _ACCENT, _FLOOR, _GREY = "#24292f", "#c2410c", "#1d4ed8", "#9ca3af"

Row = dict[str, Any]


def plot_memory_by_task(rows: list[dict[str, object]], path: Path) -> None:
    """Mean of each memory with its best and worst seed, beside no memory and trees or rules, as a PNG.

    Args:
        rows: of `bench_memory_by_task.memory_by_task`.
        path: where the picture goes.
    """
    panels = list(dict.fromkeys((str(row["task"]), str(row["inputs"])) for row in rows))
    names = list(dict.fromkeys(str(row["memory"]) for row in rows if row["kind"] == "memory"))
    figure = Figure(figsize=(2.6 * len(panels) + 1.6, 0.24 * len(names) + 1.7), layout="constrained")
    for axes, (task, inputs) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True
    ):
        _panel(axes, [row for row in rows if (row["task"], row["inputs"]) == (task, inputs)], names)
        axes.set_title(f"{task}\n{inputs}", fontsize=9)
    figure.savefig(path, dpi=90, format="png")


def _panel(axes: Axes, rows: list[Row], names: list[str]) -> None:
    """Memories from above in the order of `names`; the others are lines from top to bottom."""
    by_name = {str(row["memory"]): row for row in rows}
    own = [by_name[name] for name in names]
    lower = own[0]["figure"] == "mape_pct"
    first = (min if lower else max)(own, key=lambda row: row["mean"])
    for place, row in enumerate(own):
        colour = _ACCENT if row is first else _INK
        axes.plot([row["best"], row["worst"]], [place, place], color=colour, linewidth=1.5, alpha=0.6)
        axes.plot([row["mean"]], [place], "o", color=colour, markersize=4.5)
    for row in rows:
        if row["kind"] != "memory":
            colour = _GREY if row["kind"] == "none" else _FLOOR
            axes.axvline(row["mean"], color=colour, linestyle="--", linewidth=1.3, label=row["memory"])
    axes.set_yticks(range(len(names)), names, fontsize=8.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(f"{TITLES[own[0]['figure']]}   {BETTER[own[0]['figure']]}", fontsize=8.5)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=7.5, frameon=False, ncols=1)

"""The picture of `remem bench recall`: accuracy over bytes of state, a panel for each task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

FAMILIES = {
    "attention": ("attention", "#1d4ed8"),
    "landmark": ("attention", "#1d4ed8"),
    "routing": ("attention", "#1d4ed8"),
    "LSTM": ("summary", "#6b7280"),
    "Aaren": ("summary", "#6b7280"),
    "linear": ("sum of features", "#15803d"),
    "Based": ("sum of features", "#15803d"),
    "Titans as": ("memory and attention", "#7c3aed"),
}
"""Beginning of a layer's name -> family and colour; everything else learns while it runs."""
LEARNS = ("learns while it runs", "#c2410c")

Row = dict[str, Any]


def plot_recall(rows: list[dict[str, object]], path: Path) -> None:
    """Mean accuracy with worst and best seed over the bytes of the state, as a PNG.

    Args:
        rows: of `bench.recall`.
        path: where the picture goes.
    """
    tasks = list(dict.fromkeys(str(row["task"]) for row in rows))
    names = list(dict.fromkeys(str(row["layer"]) for row in rows))
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=True):
        _panel(axes, [row for row in rows if row["task"] == task], names)
        axes.set_title(task, fontsize=10)
    panels[0].set_ylabel("accuracy at the trained length", fontsize=9)
    seen: dict[str, Any] = {}
    for mark in panels[0].collections:
        seen.setdefault(str(mark.get_label()), mark)
    families = {label: mark for label, mark in seen.items() if not label.startswith("_")}
    panels[0].legend(families.values(), families, fontsize=7.5, loc="center left")
    numbered = [f"{number}  {name}" for number, name in enumerate(names, 1)]
    figure.text(1.005, 0.95, "\n".join(numbered), fontsize=7.5, va="top", linespacing=1.45)
    figure.savefig(path, dpi=90, format="png", bbox_inches="tight")


def _panel(axes: Axes, rows: list[Row], names: list[str]) -> None:
    placed: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda row: (row["state_bytes"], row["accuracy"])):
        label, colour = next(
            (told for start, told in FAMILIES.items() if row["layer"].startswith(start)), LEARNS
        )
        x, y = row["state_bytes"], row["accuracy"]
        axes.vlines(x, row["worst"], row["best"], color=colour, alpha=0.5, linewidth=1.5, label="_")
        axes.scatter([x], [y], s=16, color=colour, label=label, zorder=3)
        # numbers of points at one place stand one above the other, downwards from the top
        crowd = sum(abs(y - other) < 0.05 and 0.7 < x / place < 1.45 for place, other in placed)
        down = y > 0.5
        axes.annotate(
            str(names.index(row["layer"]) + 1),
            (x, y),
            (4, (-9 if down else 4) + (-9 if down else 9) * crowd),
            textcoords="offset points",
            fontsize=7.5,
            color=colour,
        )
        placed.append((x, y))
    axes.set_xscale("log")
    axes.set_ylim(-0.03, 1.05)
    axes.set_xlabel("bytes of state", fontsize=9)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)

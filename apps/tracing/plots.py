"""Pictures of what students know. Every function returns a matplotlib Figure and reads tables of plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

_INK, _ACCENT, _BAND = "#24292f", "#c2410c", "#fdba74"
_LINES = (_ACCENT, "#0969da", "#1a7f37", "#8250df", _INK)
_UNKNOWN = "#f0f1f3"
MOST_SHOWN = 40
"""Students, or concepts, of one picture."""


def _axes(width: float = 7.0, height: float = 4.5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def mastery_heatmap(
    history: pl.DataFrame,
    log: pl.DataFrame | None = None,
    *,
    names: Mapping[str, str] | None = None,
    title: str | None = None,
) -> Figure:
    """Mastery of every concept after every answer of one student.

    Args:
        history: `answer, concept, mastery`, of one student, as `TracingPredictor.mastery_history` gives it.
        log: the answers themselves (`concepts, correct`), in order: a filled mark is a right answer, an open one a
            wrong answer. The rows of a concept are empty before its first answer.
        names: of concepts, by their id.
        title: default: the student's id where the history has one.

    Raises:
        ValueError: the history is empty or of several students.
    """
    if not history.height:
        raise ValueError("mastery_heatmap: the history has no rows; give that of a student with answers")
    if "student_id" in history.columns:
        students = history["student_id"].unique().to_list()
        if len(students) > 1:
            raise ValueError(
                f"mastery_heatmap: the history is of {len(students)} students, first {min(students)}; filter it to one"
            )
        title = f"Student {students[0]}" if title is None else title
    last = int(history["answer"].max())  # type: ignore[arg-type]
    marks = [] if log is None else _marks(log)
    counts = {name: sum(concept == name for _, concept, _ in marks) for name in history["concept"].unique()}
    order = history["concept"].unique(maintain_order=True).to_list()
    # the most practised first; those of equal practice in the order of the history
    order = sorted(order, key=lambda name: -counts[name])[:MOST_SHOWN]
    place = {name: i for i, name in enumerate(order)}
    shown = history.filter(pl.col("concept").is_in(order))
    grid = np.full((len(order), last), np.nan)
    grid[
        [place[name] for name in shown["concept"]],
        shown["answer"].to_numpy() - 1,
    ] = shown["mastery"].to_numpy()
    for name in order:
        own = [at for at, concept, _ in marks if concept == name]
        if own:
            grid[place[name], : min(own)] = np.nan

    figure, axes = _axes(min(14.0, 3.5 + 0.11 * last), 1.4 + 0.26 * len(order))
    palette = colormaps["RdYlBu"].with_extremes(bad=_UNKNOWN)
    image = axes.imshow(
        grid,
        aspect="auto",
        cmap=palette,
        vmin=0,
        vmax=1,
        interpolation="nearest",
        extent=(0.5, last + 0.5, len(order) - 0.5, -0.5),
    )
    size = float(np.clip(900 / last, 3, 16))
    for right, face in ((1, _INK), (0, "none")):
        at = [(x + 1, place[name]) for x, name, correct in marks if name in place and correct == right]
        if at:
            x, y = zip(*at, strict=True)
            axes.scatter(
                x,
                y,
                s=size,
                facecolors=face,
                edgecolors=_INK,
                linewidths=0.7,
                label="right" if right else "wrong",
            )
    axes.set_yticks(range(len(order)), [_short((names or {}).get(name, name)) for name in order], fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="answer", title=title)
    axes.tick_params(axis="y", length=0)
    if marks:
        figure.legend(frameon=False, ncols=2, loc="outside lower right", fontsize=8)
    figure.colorbar(image, ax=axes, label="mastery", format=PercentFormatter(1), pad=0.01)
    return figure


def learning_curves_plot(curves: pl.DataFrame, *, names: Mapping[str, str] | None = None) -> Figure:
    """Observed and forecast share of right answers by opportunity, one panel a concept.

    Args:
        curves: `concept, opportunity, n, observed, lo, hi, forecast`, of `curves.learning_curves`; `lo, hi` is the
            range in which the observed share of so few students may lie by chance.
        names: of concepts, by their id.
    """
    concepts = curves["concept"].unique(maintain_order=True).to_list()
    columns = min(3, len(concepts))
    rows = math.ceil(len(concepts) / columns)
    figure = Figure(figsize=(3.4 * columns + 0.4, 2.5 * rows + 0.7), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, name in zip(panels, concepts, strict=False):
        own = curves.filter(pl.col("concept") == name).sort("opportunity")
        x = own["opportunity"].to_numpy()
        axes.fill_between(
            x, own["lo"], own["hi"], color=_BAND, alpha=0.5, lw=0, label="95 % range of observed"
        )
        axes.plot(x, own["observed"], "o-", ms=3, lw=1, color=_INK, label="observed")
        axes.plot(x, own["forecast"], color=_ACCENT, lw=1.6, label="forecast")
        axes.set_title(f"{_short((names or {}).get(name, name))} (n={own['n'][0]})", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in panels[len(concepts) :]:
        axes.set_visible(False)
    figure.supxlabel("opportunity: n-th answer of a student on the concept", fontsize=9)
    figure.supylabel("share right", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=3, loc="outside upper right", fontsize=8)
    return figure


def reliability_plot(tables: Mapping[str, pl.DataFrame], errors: Mapping[str, float]) -> Figure:
    """Share of right answers against the forecast; below, how often each forecast is made.

    Args:
        tables: label -> `lo, hi, n, mean_p, share_correct`, as `data.tracing.metrics.reliability` gives it.
        errors: label -> expected calibration error, for the legend.
    """
    figure = Figure(figsize=(5.5, 6.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    above.plot([0, 1], [0, 1], color="0.6", lw=1, ls="--")
    for (label, table), colour in zip(tables.items(), _LINES, strict=False):
        n, share = table["n"].to_numpy(), table["share_correct"].to_numpy()
        spread = 1.96 * np.sqrt(np.maximum(share * (1 - share), 0) / n)
        above.errorbar(
            table["mean_p"],
            share,
            yerr=[np.minimum(spread, share), np.minimum(spread, 1 - share)],
            fmt="o-",
            ms=4,
            lw=1.2,
            elinewidth=0.8,
            color=colour,
            label=f"{label}: ECE {errors[label]:.4f}",
        )
        below.stairs(n / n.sum(), [*table["lo"], table["hi"][-1]], color=colour) if _gapless(
            table
        ) else below.bar(
            table["lo"], n / n.sum(), width=table["hi"] - table["lo"], align="edge", color=colour, alpha=0.5
        )
    above.set(ylabel="share right", ylim=(0, 1), xlim=(0, 1), aspect="auto")
    above.legend(frameon=False, loc="upper left", fontsize=8)
    below.set(xlabel="forecast", ylabel="share of answers")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return figure


def class_overview(mastery: pl.DataFrame, *, names: Mapping[str, str] | None = None) -> Figure:
    """Students by concepts: who knows what, and what nobody knows.

    Args:
        mastery: `student_id, concept, mastery`, as `TracingPredictor.mastery` gives it. The students with the lowest
            mean stand first, then come the concepts with the most students; empty where a student never tried.
        names: of concepts, by their id.
    """
    by_student = mastery.group_by("student_id").agg(pl.col("mastery").mean(), pl.len()).sort("mastery")
    by_concept = mastery.group_by("concept").agg(pl.col("mastery").mean(), pl.len())
    students = by_student["student_id"].head(MOST_SHOWN).to_list()
    most = by_concept.sort("len", "concept", descending=[True, False]).head(MOST_SHOWN)
    concepts = most.sort("mastery")["concept"].to_list()
    grid = np.full((len(students), len(concepts)), np.nan)
    rows, columns = ({name: i for i, name in enumerate(part)} for part in (students, concepts))
    for student, concept, value in mastery.select("student_id", "concept", "mastery").iter_rows():
        if student in rows and concept in columns:
            grid[rows[student], columns[concept]] = value
    figure = Figure(
        figsize=(2.6 + 0.3 * len(concepts), 1.9 + 0.19 * len(students) + 1.0), layout="constrained"
    )
    above, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1.1, 0.3 + 0.19 * len(students)))
    mean = dict(zip(by_concept["concept"], by_concept["mastery"], strict=True))
    tried = dict(zip(by_concept["concept"], by_concept["len"], strict=True))
    palette = colormaps["RdYlBu"].with_extremes(bad=_UNKNOWN)
    heights = [mean[name] for name in concepts]
    above.bar(range(len(concepts)), heights, color=palette(np.array(heights)), edgecolor=_INK, linewidth=0.4)
    for i, name in enumerate(concepts):
        above.annotate(str(tried[name]), (i, heights[i]), ha="center", va="bottom", fontsize=6)
    above.set(ylim=(0, 1.15), ylabel="class mean", yticks=(0, 0.5, 1))
    above.yaxis.set_major_formatter(PercentFormatter(1))
    above.spines[["top", "right"]].set_visible(False)
    image = axes.imshow(grid, aspect="auto", cmap=palette, vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks(
        range(len(concepts)),
        [_short((names or {}).get(name, name), 18) for name in concepts],
        rotation=90,
        fontsize=7,
    )
    axes.set_yticks(range(len(students)), students, fontsize=7)
    axes.set(xlabel="concept, the hardest first", ylabel="student, the weakest first")
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="mastery", format=PercentFormatter(1), pad=0.01)
    return figure


def _gapless(table: pl.DataFrame) -> bool:
    return bool((table["lo"][1:] == table["hi"][:-1]).all())


def _marks(log: pl.DataFrame) -> list[tuple[int, str, int]]:
    """(place from 0, concept, 0 or 1) of every answer and each of its concepts."""
    return [
        (i, concept, correct)
        for i, (concepts, correct) in enumerate(log.select("concepts", "correct").iter_rows())
        if correct is not None
        for concept in concepts or []
    ]


def _short(name: str, most: int = 32) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"

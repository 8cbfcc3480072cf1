"""`remem bench NAME`: every published figure comes from one of these."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

BENCHES: dict[str, tuple[str, str, str]] = {
    "battery-table": (
        "..battery.bench",
        "battery_table",
        "early prediction: regressors of the field and ours on the Severson cells",
    ),
    "battery-networks": (
        "..battery.bench_networks",
        "battery_networks",
        "early prediction: memory layers beside the default, with fewer and with missing cycles",
    ),
    "battery-online": (
        "..battery.bench_online",
        "battery_online",
        "remaining life after every cycle on HUST, XJTU and Tongji, five folds by cell",
    ),
    "tracing-table": (
        "..tracing.bench",
        "tracing_table",
        "every tracing model and baseline on ASSISTments, cross-validated over folds 1 to 4 by student",
    ),
    "tracing-leak": (
        "..tracing.bench_leak",
        "tracing_leak",
        "what rows that repeat a label do to a plain LSTM on ASSISTments 2009",
    ),
    "tracing-step": (
        "..tracing.bench_step",
        "tracing_step",
        "time and memory of one more answer beside replayed and cached models",
    ),
    "tracing-baselines": (
        "..tracing.bench_baselines",
        "tracing_baselines",
        "the field on ASSISTments 2009: BKT, PFA, Best-LR and boosted trees, cross-validated",
    ),
    "tracing-features": (
        "..tracing.bench_baselines",
        "tracing_features",
        "seconds for the features of every answer of a set",
    ),
    "tracing-mastery": (
        "..tracing.bench_mastery",
        "tracing_mastery",
        "what monotone mastery costs, how true bands are, what recommendations lead to",
    ),
    "recall": (
        "..recall.bench",
        "recall",
        "what every memory layer can find again: accuracy beside bytes of state and CPU seconds",
    ),
    "memory-by-task": (
        "..bench_memory_by_task",
        "memory_by_task",
        "which memory helps where: every layer in the battery, tracing and geometry tasks, at equal size",
    ),
    "landmark": (
        "..recall.bench_landmark",
        "landmark",
        "landmark attention: what looking into two blocks loses, at one to eight times the trained length",
    ),
    "reweaving": (
        "..recall.bench_reweaving",
        "reweaving",
        "attention to the states of lower layers beside one more attention layer of equal size",
    ),
    "aaren-scan": (
        "..bench_aaren",
        "aaren_scan",
        "Aaren's parallel form beside causal attention: time, memory and errors on one thread",
    ),
    "kernels": (
        "..bench_kernels",
        "kernels",
        "on a GPU: kernels beside plain torch and beside its memory, steps in CUDA graphs",
    ),
    "tsp": (
        "..geometry.bench_tsp",
        "tsp",
        "tours by the network, by search and by other solvers: gap against CPU time, in one run",
    ),
    "hull": ("..geometry.bench_hull", "hull", "convex hulls by pointers of several kinds, and qhull"),
    "delaunay": (
        "..geometry.bench_delaunay",
        "delaunay",
        "Delaunay triangulations by pointers of several kinds, and qhull",
    ),
    "geometry-parts": (
        "..geometry.bench_parts",
        "geometry_parts",
        "memory layers as encoders and decoders of pointer networks, at equal CPU time",
    ),
    "geometry-onnx": (
        "..geometry.bench_onnx",
        "geometry_onnx",
        "tours of the shipped graphs beside those of torch, and what both cost",
    ),
    "geometry-properties": (
        "..geometry.bench_properties",
        "geometry_properties",
        "thousands of odd cases: every answer valid, every bound below",
    ),
    "tsp-routes": (
        "..geometry.bench_routes",
        "tsp_routes",
        "learning what drivers' routes cost them: agreement with routes held back",
    ),
    "tsp-search": (
        "..geometry.bench_search",
        "tsp_search",
        "tours by search beside constructions, and what the lower bound certifies",
    ),
    "tracing-practice": (
        "..tracing.bench_practice",
        "tracing_practice",
        "CAKT beside LSTMs on simulated practice effects",
    ),
}
"""Name -> module, its function `(*, seeds, root, quick) -> list of rows`, and a line for the help."""
PLOTS: dict[str, tuple[str, str]] = {
    "recall": ("..recall.plot", "plot_recall"),
    "memory-by-task": ("..bench_memory_by_task_plot", "plot_memory_by_task"),
}
"""Name -> module and its function `(rows, path)` that draws them."""


def main(argv: Sequence[str]) -> int:
    """Run one benchmark and print its rows."""
    width = max(map(len, BENCHES))
    parser = argparse.ArgumentParser(
        prog="remem bench",
        description="Print a published table.",
        epilog="\n".join(f"  {name:<{width}}  {text}" for name, (_, _, text) in BENCHES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", choices=BENCHES, help=", ".join(BENCHES))
    parser.add_argument("--seeds", type=int, default=5, help="random seeds per model (default: 5)")
    parser.add_argument(
        "--data.root", dest="root", metavar="DIR", help="folder of the real data (default: REMEM_DATA)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few rows, to try the road; not the published table"
    )
    parser.add_argument("--json", action="store_true", help="rows as JSON instead of a table")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.png", help=f"draw the rows here ({', '.join(PLOTS)})"
    )
    options = parser.parse_args(argv)
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    if options.plot and (options.name not in PLOTS or options.plot.suffix != ".png"):
        parser.error(
            f"--plot {options.plot}: wanted a name in .png, and one of the benches {', '.join(PLOTS)}"
        )

    module, function, _ = BENCHES[options.name]
    print(f"{options.name}: {options.seeds} seeds", file=sys.stderr)
    rows = getattr(import_module(module, __package__), function)(
        seeds=options.seeds, root=options.root, quick=options.quick
    )
    if options.plot:
        module, function = PLOTS[options.name]
        getattr(import_module(module, __package__), function)(rows, options.plot)
        print(f"picture in {options.plot}", file=sys.stderr)
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    from ..report import text_table  # noqa: PLC0415  (a template engine that --json does not need)

    print(text_table(rows))
    return 0

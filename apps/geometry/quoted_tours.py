"""Figures of papers for the table of tours. Their instances and machines were others: quoted, not measured here."""

from __future__ import annotations

POINTER = "Vinyals, Fortunato, Jaitly 2015 (Pointer Networks), table of TSP"
POMO = "Kwon et al. 2020 (POMO), table of TSP"
AM = f"Kool et al. 2019, as run again in {POMO}"
LEHD = "Luo et al. 2023 (LEHD), tables 1 and 2"
GLOP = "Ye et al. 2024 (GLOP), table 1"

LENGTHS = (
    ("optimum", {5: 2.12, 10: 2.87}, POINTER),
    ("Christofides", {50: 5.79}, POINTER),
    ("Ptr-Net", {5: 2.12, 10: 2.88}, POINTER),
    ("Ptr-Net, trained on another heuristic at 50 (A1)", {50: 6.42}, POINTER),
    ("Ptr-Net, trained on Christofides at 50", {50: 6.09}, POINTER),
    ("Ptr-Net, trained on 5 to 20", {30: 4.72, 50: 7.66}, POINTER),
)
"""Solver, {nodes: mean length}, source. Points uniform in the unit square."""

GAPS = (
    ("AM, greedy", {20: 0.19, 50: 1.21, 100: 3.51}, AM),
    ("AM, 1280 samples", {20: 0.07, 50: 0.39, 100: 1.98}, AM),
    ("POMO, one start", {20: 0.12, 50: 0.64, 100: 1.07}, POMO),
    ("POMO, n starts", {20: 0.04, 50: 0.21, 100: 0.46}, POMO),
    ("POMO, n starts, x8", {20: 0.00, 50: 0.03, 100: 0.14}, POMO),
    ("BQ, greedy", {100: 0.58}, LEHD),
    ("BQ, beam 16", {100: 0.046}, LEHD),
    ("LEHD, greedy", {20: 0.96, 50: 0.52, 100: 0.577}, LEHD),
    ("LEHD, 1000 reconstructions", {100: 0.0016}, LEHD),
    ("GLOP", {100: 0.091}, GLOP),
)
"""Solver, {nodes: mean gap to the optimum in %}, source. The same, on GPUs."""

TSPLIB = (
    ("POMO, x8", 0.79, LEHD),
    ("BQ, greedy", 1.08, LEHD),
    ("LEHD, greedy", 0.98, LEHD),
)
"""Solver, mean gap in % on the TSPLIB files below 100 nodes, source."""


def quoted() -> list[dict[str, object]]:
    """Rows `instances, solver, kind, gap_pct, length, source`."""
    rows: list[tuple[object, ...]] = []
    for solver, by_nodes, source in LENGTHS:
        rows += [(f"uniform {n}", solver, None, value, source) for n, value in by_nodes.items()]
    for solver, by_nodes, source in GAPS:
        rows += [(f"uniform {n}", solver, value, None, source) for n, value in by_nodes.items()]
    rows += [("TSPLIB below 100", solver, value, None, source) for solver, value, source in TSPLIB]
    names = ("instances", "solver", "gap_pct", "length", "source")
    return [dict(zip(names, row, strict=True)) | {"kind": "quoted"} for row in rows]

"""`remem bench delaunay`: the shipped apex pointer beside the paper, other networks, its parts, and qhull.

qhull is exact and far quicker: it wins, and stands in the table. The rows of the paper are quoted. What the network
proposes is judged before anything is repaired; the rows with flips add exact arithmetic, and Lawson's flips need no
network either, as the row of the sweep shows.

The local frame is an inductive bias: it hands the network the geometry of the empty circle. The rows of faithful
pointer networks beside it show what one has to learn without.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import Delaunay

from ...core.local_apex import ApexDecoder, ApexPointer
from ...data.geometry.delaunay import (
    delaunay_triangles,
    same_triangles,
    triangle_coverage,
    triangle_precision,
)
from ...data.geometry.lawson import flip_to_delaunay
from ...data.geometry.triangulation import sweep_triangulation
from ...serving.geometry.triangles import DelaunayPredictor
from .local_weights import read_pointer

TEST = 20_261_128
"""Seed of the instances: `default_rng((TEST, seed, n, i)).random((n, 2))`. No training draws from it."""
PER_SEED = {5: 200, 10: 200, 50: 100, 200: 20, 1000: 4}
"""Instances of each size for each seed."""
FAITHFUL_MINUTES = 1.0
"""CPU time of training of each faithful pointer network, about that of the shipped one."""

PAPER = {5: (80.7, 93.0), 10: (22.6, 81.3), 50: (0.0, 52.8)}
"""Vinyals et al. 2015, section 4.3, a network for each n: accuracy and triangle coverage in %, as quoted by a
re-implementation."""

Row = dict[str, object]
Answers = list[tuple[np.ndarray, bool]]
"""Triangles of an instance, and whether they would need a repair."""


def delaunay(*, seeds: int = 5, root: str | None = None, quick: bool = False) -> list[Row]:
    """Rows `n, model, exact_pct, coverage_pct, precision_pct, repaired_pct, cpu_ms, train_cpu_min, source`.

    exact: instances with all triangles and no other. coverage: mean share of the true triangles that are there.
    precision: mean share of the triangles there that are true. repaired: instances whose proposal is no triangulation
    of all points. cpu_ms: an instance, one thread, repairs included.

    Args:
        seeds: sets of `PER_SEED` instances.
        root: not needed; there are no data.
        quick: 10 instances up to n = 50, and no faithful networks.
    """
    torch.set_num_threads(1)
    instances = {
        n: [
            np.random.default_rng((TEST, seed, n, i)).random((n, 2))
            for seed in range(1 if quick else seeds)
            for i in range(10 if quick else count)
        ]
        for n, count in PER_SEED.items()
        if n <= 50 or not quick
    }
    truth = {n: [delaunay_triangles(xy) for xy in points] for n, points in instances.items()}
    plain = DelaunayPredictor("delaunay", device="cpu", threads=1)
    flips = DelaunayPredictor("delaunay", flips=True, device="cpu", threads=1)
    minutes = plain.bundle.manifest["training"].get("cpu_seconds", 0.0) / 60
    trained = {"train_cpu_min": round(minutes, 1)}
    rows = [
        row | trained
        for row in _rows("local-frame pointer, shipped", lambda p: _proposed(plain, p), instances, truth)
    ]
    rows += [
        row | trained
        for row in _rows(
            "the same, repaired and flipped",
            lambda p: [(one.triangles, one.repaired) for one in flips.answer(p)],
            instances,
            truth,
        )
    ]
    rows += [row | trained for row in _parts(plain, instances, truth)]
    rows += [_quoted(n) for n in instances if n in PAPER]
    rows += _rows("qhull (scipy)", lambda p: [(Delaunay(xy).simplices, False) for xy in p], instances, truth)
    rows += _rows(
        "sweep and flips, no network (Python, remem.data)",
        lambda p: [(flip_to_delaunay(xy, sweep_triangulation(xy), checked=True), False) for xy in p],
        instances,
        truth,
    )
    if not quick:
        from .bench_parts import faithful_rows  # noqa: PLC0415  (networks that --quick does not train)

        rows += faithful_rows(
            "delaunay", tuple(n for n in instances if n in PAPER), minutes=FAITHFUL_MINUTES, seed=0
        )
    return rows


def _proposed(predictor: DelaunayPredictor, points: list[np.ndarray]) -> Answers:
    return [(one.proposed, one.repaired) for one in predictor.answer(points)]


def _rows(
    model: str,
    answer: Callable[[list[np.ndarray]], Answers],
    instances: dict[int, list[np.ndarray]],
    truth: dict[int, list[np.ndarray]],
) -> list[Row]:
    answer(next(iter(instances.values()))[:2])  # what a first call costs is not timed
    rows = []
    for n, points in instances.items():
        since = time.process_time()
        found = answer(points)
        cpu_ms = 1e3 * (time.process_time() - since) / len(points)
        pairs = [(one, true) for (one, _), true in zip(found, truth[n], strict=True)]
        row: Row = {
            "n": n,
            "model": model,
            "instances": len(points),
            "exact_pct": _percent([same_triangles(*pair) for pair in pairs]),
            "coverage_pct": _percent([triangle_coverage(*pair) for pair in pairs]),
            "precision_pct": _percent([triangle_precision(*pair) for pair in pairs]),
            "repaired_pct": _percent([repaired for _, repaired in found]),
            "cpu_ms": round(cpu_ms, 3),
            "train_cpu_min": None,
            "source": "measured",
        }
        print(row, file=sys.stderr)
        rows.append(row)
    return rows


def _percent(shares: list[float]) -> float:
    return round(100 * float(np.mean(shares)), 3)


def _quoted(n: int) -> Row:
    exact, coverage = PAPER[n]
    blank: Row = dict.fromkeys(("instances", "precision_pct", "repaired_pct", "cpu_ms", "train_cpu_min"))
    row: Row = {"n": n, "model": "Ptr-Net of the paper", "exact_pct": exact, "coverage_pct": coverage}
    return row | blank | {"source": "Vinyals et al. 2015, section 4.3"}


def _parts(
    plain: DelaunayPredictor, instances: dict[int, list[np.ndarray]], truth: dict[int, list[np.ndarray]]
) -> list[Row]:
    """The same weights in torch with fewer glimpses, and with as many: what glimpses bring, what the graph spares."""
    pointer = read_pointer(plain.bundle)
    if not isinstance(pointer, ApexPointer):
        raise ValueError(f"{plain.bundle.path}: weights of no apex pointer; export the bundle again")
    predictor = _InTorch(plain, pointer)
    rows, full = [], pointer.num_glimpses
    for pointer.num_glimpses in range(1, full + 1):
        name = (
            "the same in torch"
            if pointer.num_glimpses == full
            else f"the same in torch, glimpses: {pointer.num_glimpses}"
        )
        rows += _rows(name, lambda p: _proposed(predictor, p), instances, truth)
    return rows


class _InTorch(DelaunayPredictor):
    """The same front, which asks a pointer instead of its graph."""

    def __init__(self, plain: DelaunayPredictor, pointer: ApexPointer) -> None:
        super().__init__(plain.bundle, device="cpu", threads=1)
        self.decoder = ApexDecoder(pointer)

    @torch.no_grad()
    def _ask(self, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [part.numpy() for part in self.decoder(*(torch.from_numpy(array) for array in given.values()))]

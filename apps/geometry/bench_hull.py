"""`remem bench hull`: the shipped hull pointer beside the paper, other networks, what it owes to its parts, and qhull.

qhull is exact and far quicker: it wins, and stands in the table. The rows of the paper are quoted. What the network
decodes is judged before anything is repaired.

The local frame is an inductive bias: it hands the network the geometry of gift wrapping. The rows of faithful pointer
networks beside it show what one has to learn without.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.spatial import ConvexHull

from ...core.decode import greedy
from ...core.local_hull import HullPointer, HullPolicy
from ...data.geometry.hull import area_ratio, convex_hull, is_simple, same_place
from ...data.geometry.instances import generate
from ...serving.geometry.hulls import HullPredictor
from ...serving.geometry.plane import to_unit
from .local_weights import read_pointer

TEST = 20_261_128
"""Seed of the instances: `default_rng((TEST, seed, n, i)).random((n, 2))`. No training draws from it."""
SIZES = (5, 10, 50, 100, 200, 500)
PER_SEED = {5: 200, 10: 200, 50: 200, 100: 200, 200: 100, 500: 100}
"""Instances of each size for each seed."""
OTHERS = (("clustered", 200), ("grid", 200), ("grid", 1000), ("circle", 200))
"""Kinds and sizes of 20 instances each that are not uniform: lattices have corners and points on one line, circles
corners alone."""
FAITHFUL_MINUTES = 1.0
"""CPU time of training of each faithful pointer network, about that of the shipped one."""

PAPER = {
    5: (92.0, 99.6),
    10: (87.0, 99.8),
    50: (69.6, 99.9),
    100: (50.3, 99.9),
    200: (22.1, 99.9),
    500: (1.3, 99.2),
}
"""Vinyals et al. 2015, table 1, trained on n = 5 to 50, a million pairs: sequence accuracy and area in %.
n = 50 to 500 and the area at 500 as quoted by a re-implementation; the other areas from memory."""

Row = dict[str, object]
Decode = Callable[[list[np.ndarray]], list[np.ndarray]]


def hull(*, seeds: int = 5, root: str | None = None, quick: bool = False) -> list[Row]:
    """Rows `n, model, exact_pct, area_pct, corners_right_pct, invalid_pct, cpu_ms, train_cpu_min, source`.

    exact: hulls whose corners are right in number and order. area: mean share of the true area, of the valid ones.
    corners_right: share of the corners named that are corners. invalid: decoded polygons that cross themselves, turn
    right or are flat, before the repair. cpu_ms: an instance, one thread, in batches.

    Args:
        seeds: sets of `PER_SEED` instances.
        root: not needed; there are no data.
        quick: 20 instances up to n = 100, and no faithful networks.
    """
    torch.set_num_threads(1)
    sizes = SIZES[:4] if quick else SIZES
    instances = {
        n: [
            np.random.default_rng((TEST, seed, n, i)).random((n, 2))
            for seed in range(1 if quick else seeds)
            for i in range(20 if quick else PER_SEED[n])
        ]
        for n in sizes
    }
    predictor = HullPredictor("hull", device="cpu", threads=1)
    minutes = predictor.bundle.manifest["training"].get("cpu_seconds", 0.0) / 60
    rows = _rows(
        "local-frame pointer, shipped", lambda p: [one.proposed for one in predictor.answer(p)], instances
    )
    for kind, n in OTHERS[: 1 if quick else None]:
        points = [generate(kind, n, np.random.default_rng((TEST, n, i))) for i in range(20)]
        rows += _rows(
            f"local-frame pointer, shipped: {kind}",
            lambda p: [o.proposed for o in predictor.answer(p)],
            {n: points},
        )
    rows = [row | {"train_cpu_min": round(minutes, 1)} for row in rows]
    rows += [row | {"train_cpu_min": round(minutes, 1)} for row in _parts(predictor, instances)]
    rows += [_quoted(n) for n in sizes]
    rows += _rows("qhull (scipy)", lambda p: [_canonical(xy, ConvexHull(xy).vertices) for xy in p], instances)
    rows += _rows("exact hull (Python, remem.data)", lambda p: [convex_hull(xy) for xy in p], instances)
    if not quick:
        from .bench_parts import faithful_rows  # noqa: PLC0415  (networks that --quick does not train)

        rows += faithful_rows("hull", sizes, minutes=FAITHFUL_MINUTES, seed=0)
    return rows


def _rows(model: str, decode: Decode, instances: dict[int, list[np.ndarray]]) -> list[Row]:
    decode(next(iter(instances.values()))[:2])  # what a first call costs is not timed
    return [_row(model, n, decode, points) for n, points in instances.items()]


def _row(model: str, n: int, decode: Decode, points: list[np.ndarray]) -> Row:
    since = time.process_time()
    found = decode(points)
    cpu_ms = 1e3 * (time.process_time() - since) / len(points)
    truth = [convex_hull(xy) for xy in points]
    valid = [
        is_simple(xy, one) and len(convex_hull(xy[one])) == len(one)
        for xy, one in zip(points, found, strict=True)
    ]
    three = list(zip(points, found, truth, strict=True))
    named = [len(np.intersect1d(one, true)) / max(len(one), 1) for _, one, true in three]
    area = [area_ratio(*one) for one, fine in zip(three, valid, strict=True) if fine]
    row: Row = {
        "n": n,
        "model": model,
        "instances": len(points),
        "exact_pct": round(100 * float(np.mean([same_place(*one) for one in three])), 2),
        "area_pct": round(100 * float(np.mean(area)), 3) if area else None,
        "corners_right_pct": round(100 * float(np.mean(named)), 2),
        "invalid_pct": round(100 * (1 - float(np.mean(valid))), 2),
        "cpu_ms": round(cpu_ms, 3),
        "train_cpu_min": None,
        "source": "measured",
    }
    print(row, file=sys.stderr)
    return row


def _quoted(n: int) -> Row:
    exact, area = PAPER[n]
    blank: Row = dict.fromkeys(("instances", "corners_right_pct", "invalid_pct", "cpu_ms", "train_cpu_min"))
    row: Row = {"n": n, "model": "Ptr-Net of the paper", "exact_pct": exact, "area_pct": area}
    return row | blank | {"source": "Vinyals et al. 2015, table 1"}


def _parts(predictor: HullPredictor, instances: dict[int, list[np.ndarray]]) -> list[Row]:
    """The same weights in torch with fewer glimpses, and with as many: what glimpses bring, what the graph spares."""
    pointer = read_pointer(predictor.bundle)
    if not isinstance(pointer, HullPointer):
        raise ValueError(f"{predictor.bundle.path}: weights of no hull pointer; export the bundle again")
    few = {n: points[: max(1, 50_000 // n)] for n, points in instances.items()}
    rows, full = [], pointer.num_glimpses
    for pointer.num_glimpses in range(1, full + 1):
        name = (
            "the same in torch"
            if pointer.num_glimpses == full
            else f"the same in torch, glimpses: {pointer.num_glimpses}"
        )
        rows += _rows(name, lambda p: _in_torch(pointer, p), few)
    return rows


@torch.no_grad()
def _in_torch(pointer: HullPointer, points: Sequence[np.ndarray]) -> list[np.ndarray]:
    policy: Any = HullPolicy(pointer)
    out: list[np.ndarray] = []
    for at in range(0, len(points), 200):
        xy = torch.from_numpy(np.stack([to_unit(one) for one in points[at : at + 200]]))
        state, _ = greedy(
            policy, policy.start(xy, torch.ones_like(xy[..., 0], dtype=torch.bool)), xy.shape[1] + 1
        )
        out += [row[row >= 0].numpy() for row in state.hull]
    return out


def _canonical(xy: np.ndarray, corners: np.ndarray) -> np.ndarray:
    return np.roll(corners, -int(np.lexsort((xy[corners, 1], xy[corners, 0]))[0]))

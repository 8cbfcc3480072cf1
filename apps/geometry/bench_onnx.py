"""`remem bench geometry-onnx`: tours of the shipped graphs beside torch's, one by one, and what both cost."""

from __future__ import annotations

import time

import numpy as np
import torch

from ...core.local_tour import TourDecoder
from ...serving.bundle import open_bundle
from .tour_bundle import WIDTH
from .tour_weights import read_policy

SIZES = (5, 20, 50, 100, 200)
BATCHES = (1, 7, 32)
SEED = 20_261_129

Row = dict[str, object]


@torch.no_grad()
def geometry_onnx(*, seeds: int = 5, root: str | None = None, quick: bool = False) -> list[Row]:
    """Rows `graph, n, batch, instances, equal` (share of tours that are the same), `onnx_ms, torch_ms` (CPU ms an
    instance, one thread) and `ratio`.

    Args:
        seeds: 40 greedy tours of each size and batch size for each; with five, 3,000 in all, and 150 by beam.
        root: not looked at.
        quick: few instances.
    """
    torch.set_num_threads(1)
    bundle, policy, rng = open_bundle("tsp"), read_policy("tsp"), np.random.default_rng(SEED)
    rows: list[Row] = []
    for name, width, most in (("greedy", 1, 40 * seeds), ("beam", WIDTH, 2 * seeds)):
        session = bundle.session(f"{name}.onnx", device="cpu", threads=1)
        decoder = TourDecoder(policy, width)
        for n in SIZES[:2] if quick else SIZES:
            for batch in BATCHES:
                equal, spent = [], np.zeros(2)
                for _ in range(1 if quick else max(1, most // batch)):
                    xy = rng.random((batch, n, 2)).astype(np.float32)
                    real, ends = np.ones((batch, n), bool), rng.integers(n, size=batch)
                    since = time.process_time()
                    tour, _ = session.run(None, {"xy": xy, "real": real, "head": ends, "tail": ends})
                    spent[0] += time.process_time() - since
                    given = [torch.from_numpy(part) for part in (xy, real, ends, ends)]
                    since = time.process_time()
                    wanted, _ = decoder(*given, graph=False)
                    spent[1] += time.process_time() - since
                    equal.append((tour == wanted.numpy()).all(1))
                same = np.concatenate(equal)
                onnx_ms, torch_ms = 1000 * spent / len(same)
                rows.append(
                    {
                        "graph": name,
                        "n": n,
                        "batch": batch,
                        "instances": len(same),
                        "equal": float(same.mean()),
                        "onnx_ms": onnx_ms,
                        "torch_ms": torch_ms,
                        "ratio": onnx_ms / torch_ms,
                    }
                )
    return rows

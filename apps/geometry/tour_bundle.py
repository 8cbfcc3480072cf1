"""The folder that production gets of a tour policy: greedy and beam search as one graph each, weights, a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.export_decoder import export_decoder
from ...core.local_tour import PathPolicy, TourDecoder
from .local_bundle import write_local_bundle
from .tour_weights import FILE, write_weights

WIDTH = 8
"""Of the beam that a bundle holds."""
TRACED, PROBES = (3, 11), ((1, 5), (2, 64), (5, 23))
"""Batch and number of points that are traced, and at which the graphs are compared with torch."""


def write_tour_bundle(folder: str | Path, policy: PathPolicy, record: Mapping[str, Any]) -> None:
    """Export `policy` and write the manifest; the folder appears whole or not at all, replacing an older bundle.

    Args:
        record: plain numbers and text: "training" {...}, "baselines" {...}.

    Raises:
        ValueError: where a graph does not decode as torch does, or `folder` exists and is no bundle.
    """
    batch, points = {0: "batch"}, {0: "batch", 1: "n"}

    def export(part: Path) -> None:
        for name, width in (("greedy.onnx", 1), ("beam.onnx", WIDTH)):
            export_decoder(
                TourDecoder(policy, width),
                part / name,
                inputs={"xy": points, "real": points, "head": batch, "tail": batch},
                outputs={"tour": points, "log_p": batch},
                example=_problems(*TRACED),
                probes=[_problems(*shape) for shape in PROBES],
                half=True,
            )
        write_weights(part / FILE, policy)

    write_local_bundle(folder, "tsp", export, record)


def _problems(batch: int, n: int) -> tuple[Tensor, ...]:
    """Closed tours and paths, one of them shorter than the others where there are several."""
    random = torch.Generator().manual_seed(batch * 1000 + n)
    xy_BN2 = torch.rand(batch, n, 2, generator=random)
    real_BN = torch.ones(batch, n, dtype=torch.bool)
    real_BN[1:2, n - n // 3 :] = False
    head_B = torch.arange(batch) % 3
    return xy_BN2, real_BN, head_B, torch.where(torch.arange(batch) % 2 == 1, head_B + 1, head_B)

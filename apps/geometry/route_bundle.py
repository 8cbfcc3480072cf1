"""The folder that production gets of a learned cost of routes: one graph from places to costs, and a manifest."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.export import write_manifest
from ...core.export_decoder import export_decoder
from ...core.route_cost import RouteCost
from ...serving.bundle import OUTPUTS, SCHEMA_VERSION

TRACED, PROBES = (3, 11), ((1, 5), (2, 64), (5, 23))
"""Batch and number of places that are traced, and at which the graph is compared with torch."""


class _Graph(nn.Module):
    def __init__(self, cost: RouteCost) -> None:
        super().__init__()
        self.cost = cost

    def forward(self, xy: Tensor, graph: bool = True) -> tuple[Tensor]:
        return (self.cost(xy),)


def write_route_bundle(folder: str | Path, cost: RouteCost, record: Mapping[str, Any]) -> None:
    """Export the cost as `cost.onnx` and write the manifest; the folder appears whole or not at all.

    Args:
        folder: replaced where it is a bundle.
        record: plain numbers and text: "training" {...}, "baselines" {...}; each may be left out.

    Raises:
        ValueError: the graph does not give torch's costs; `folder` exists and is no bundle.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / "manifest.json").exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: exists and is no bundle; choose another folder, nothing was overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    points = {0: "batch", 1: "n"}
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        part = Path(scratch) / "bundle"
        part.mkdir()
        export_decoder(
            _Graph(cost),
            part / "cost.onnx",
            inputs={"xy": points},
            outputs={"cost": points | {2: "n"}},
            example=(_places(cost, *TRACED),),
            probes=[(_places(cost, *shape),) for shape in PROBES],
        )
        write_manifest(
            part,
            {
                "schema_version": SCHEMA_VERSION,
                "app": "geometry",
                "task": "tsp",
                "input": {"kind": "routes", "features": ["x", "y"], "units": {}},
                "output": OUTPUTS["tsp"],
                "confidence": 0.9,
                "training": dict(record.get("training", {})),
                "baselines": dict(record.get("baselines", {})),
            },
        )
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)


def _places(cost: RouteCost, batch: int, n: int) -> Tensor:
    """(B, N, 2) places of the city, some beyond its rim."""
    random = torch.Generator().manual_seed(batch * 1000 + n)
    return cost.centre.cpu() + cost.spread.cpu() * torch.randn(batch, n, 2, generator=random)

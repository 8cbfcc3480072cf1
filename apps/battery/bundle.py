"""The folder that production gets: graphs checked against torch, and a manifest that says what they are."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.export import export_step, export_tabular, export_window, write_manifest
from ...data.battery.early import UNITS as EARLY_UNITS
from ...serving.bundle import OUTPUTS, SCHEMA_VERSION


@dataclass(frozen=True)
class Contract:
    """What a bundle takes and gives, beyond its weights.

    kind: "early_tabular", "early_sequence" or "online_sequence". features: columns of the graph's input.
    max_cycle: early: the last cycle looked at; None online. nominal_capacity_ah, eol_fraction: the end of life.
    """

    kind: str
    features: Sequence[str]
    max_cycle: int | None
    nominal_capacity_ah: float | Mapping[str, float] | None
    eol_fraction: float
    confidence: float

    @property
    def task(self) -> str:
        return self.kind.split("_")[0]


def write_battery_bundle(
    folder: Path, model: nn.Module, example: Tensor, contract: Contract, record: Mapping[str, Any]
) -> None:
    """Export `model` and write the manifest; the folder appears whole or not at all, replacing an older bundle.

    Args:
        example: x_BF (tabular) or x_BTF (sequences), as the model will meet it.
        record: {"training": {...}, "baselines": {...}}, plain numbers and text.

    Raises:
        ValueError: where a graph does not reproduce torch's numbers; or `folder` exists and is no bundle.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / "manifest.json").exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: exists and is no bundle; choose another folder, nothing was overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        part = Path(scratch) / "bundle"
        part.mkdir()
        with torch.no_grad():
            if contract.kind == "early_tabular":
                export_tabular(model, part / "model.onnx", example=example)
            else:
                export_window(model, part / "window.onnx", example=example)
                export_step(model, part / "step.onnx", example=example)
        write_manifest(part, _manifest(contract, record))
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)


def _manifest(contract: Contract, record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "app": "battery",
        "task": contract.task,
        "input": {
            "kind": contract.kind,
            "features": list(contract.features),
            "units": {name: EARLY_UNITS.get(name, _unit(name)) for name in contract.features},
            "max_cycle": contract.max_cycle,
            "nominal_capacity_ah": _plain(contract.nominal_capacity_ah),
            "eol_fraction": contract.eol_fraction,
        },
        "output": OUTPUTS[contract.task],
        "confidence": contract.confidence,
        "training": dict(record.get("training", {})),
        "baselines": dict(record.get("baselines", {})),
    }


def _plain(nominal: float | Mapping[str, float] | None) -> float | dict[str, float] | None:
    return dict(nominal) if isinstance(nominal, Mapping) else nominal


def _unit(name: str) -> str:
    """The unit that a column carries in its name."""
    suffixes = {"_ah": "Ah", "_v": "V", "_a": "A", "_s": "s", "_c": "degC"}
    return next((unit for suffix, unit in suffixes.items() if name.endswith(suffix)), "1")

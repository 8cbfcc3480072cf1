"""Bundles of the local-frame pointers: one graph, and the manifest that `serving/bundle.py` reads."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...core.export import write_manifest
from ...serving.bundle import OUTPUTS, SCHEMA_VERSION

CONFIDENCE = 0.9


def write_local_bundle(
    folder: str | Path, task: str, export: Callable[[Path], object], record: Mapping[str, Any]
) -> None:
    """Let `export` write its graphs and add the manifest; the folder appears whole or not at all.

    Args:
        folder: replaced where it is a bundle.
        task: "hull" or "delaunay".
        export: writes graphs into the folder it is given.
        record: plain numbers and text: "training" {...} and "baselines" {...}; each may be left out.

    Raises:
        ValueError: a graph does not reproduce torch's answers; `folder` exists and is no bundle.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / "manifest.json").exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: exists and is no bundle; choose another folder, nothing was overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        part = Path(scratch) / "bundle"
        part.mkdir()
        export(part)
        write_manifest(
            part,
            {
                "schema_version": SCHEMA_VERSION,
                "app": "geometry",
                "task": task,
                "input": {"kind": "points", "features": ["x", "y"], "units": {}},
                "output": OUTPUTS[task],
                "confidence": CONFIDENCE,
                "training": dict(record.get("training", {})),
                "baselines": dict(record.get("baselines", {})),
            },
        )
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)

"""The folder that production gets: graphs checked against torch, the vocabulary, and a manifest."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...core.export import export_step, export_window, write_manifest
from ...core.tracing import TracingModel
from ...data.tracing.encode import Vocabulary
from ...serving.bundle import SCHEMA_VERSION

CONFIDENCE = 0.8


def write_tracing_bundle(
    folder: str | Path, model: TracingModel, vocabulary: Vocabulary, record: Mapping[str, Any]
) -> None:
    """Export `model` and write the manifest; the folder appears whole or not at all, replacing an older bundle.

    Args:
        record: plain numbers and text: "training" {...}, "baselines" {...}, "spread" (None, or standard deviations of
            the true probability by number of answers: {"answers": [...], "sd": [...]}); each may be left out.

    Raises:
        ValueError: where a graph does not reproduce torch's numbers, model and vocabulary do not fit, or `folder`
            exists and is no bundle.
    """
    folder, memory = Path(folder), model.memory
    sizes = (memory.num_questions, memory.num_concepts, memory.slots)
    wanted = (len(vocabulary.questions) - 1, len(vocabulary.concepts) - 1, vocabulary.slots)
    if sizes != wanted:
        raise ValueError(
            f"{folder}: the model is made for {sizes} questions, concepts and slots, the vocabulary holds {wanted}; "
            "give the vocabulary that the model was made with"
        )
    if folder.exists() and not (folder / "manifest.json").exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: exists and is no bundle; choose another folder, nothing was overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        part = Path(scratch) / "bundle"
        part.mkdir()
        example = example_answers(*sizes)
        with torch.no_grad():
            export_window(model, part / "window.onnx", example=example)
            export_step(model, part / "step.onnx", example=example)
        (part / "vocabulary.json").write_text(vocabulary.to_json(), encoding="utf-8")
        write_manifest(part, _manifest(model, vocabulary, record))
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)


def example_answers(num_questions: int, num_concepts: int, slots: int) -> torch.Tensor:
    """Rows (4, 64, F) of everything a graph may meet: known and unknown ids, repeats, missing answers and times."""
    random = torch.Generator().manual_seed(0)
    shape = (4, 64)
    question_BT = torch.randint(0, min(num_questions, 9) + 2, shape, generator=random)
    concept_BTK = torch.randint(0, min(num_concepts, 6) + 2, (*shape, slots), generator=random)
    correct_BT = torch.randint(0, 2, shape, generator=random).float()
    minutes_BT = torch.randint(0, 900, shape, generator=random).cumsum(1).float()
    for number_BT, share in ((correct_BT, 0.1), (minutes_BT, 0.2)):
        number_BT[torch.rand(shape, generator=random) < share] = torch.nan
    return torch.cat(
        [torch.stack([question_BT.float(), correct_BT, minutes_BT], -1), concept_BTK.float()], -1
    )


def _manifest(model: TracingModel, vocabulary: Vocabulary, record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "app": "tracing",
        "task": "tracing",
        "input": {"kind": "answers", "features": list(vocabulary.features), "units": {"minutes": "min"}},
        "output": list(model.out_names),
        "confidence": CONFIDENCE,
        "spread": record.get("spread"),
        "training": dict(record.get("training", {})),
        "baselines": dict(record.get("baselines", {})),
    }

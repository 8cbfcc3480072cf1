"""The probe is silent on causal models and names the leaks of published ones."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from remem.apps.tracing.audit import audit_causality
from remem.core import Aaren
from remem.core.export import export_step, export_window, write_manifest
from remem.core.layers.concept_memory import ConceptMemory
from remem.core.layers.distance_attention import DistanceAttention
from remem.core.layers.same_concept import SameConcept
from remem.core.recall import Recall, Recurrent
from remem.core.tracing import TracingModel, TracingNetwork


class Attention(nn.Module):
    """Attention from a question to the answers before it, with and without two published mistakes.

    leak "distance": as AKT of July 2020, the softmax inside its distance runs over scores not yet masked, so how far an
    answer counts as away depends on later ones. leak "mask": as EduKTM, `masked_fill` is called and its result dropped.
    """

    def __init__(self, leak: str | None, width: int = 16) -> None:
        super().__init__()
        self.leak, self.width = leak, width
        self.question = nn.Embedding(16, width)
        self.answer = nn.Embedding(32, width)
        self.out = nn.Linear(2 * width, 1)

    def forward(self, x_BTF: Tensor) -> Tensor:
        question_BT, right_BT = x_BTF[..., 0].long(), x_BTF[..., 1].long()
        q_BTD, a_BTD = self.question(question_BT), self.answer(question_BT + 16 * right_BT)
        s_BTT = (q_BTD + 0.1) @ a_BTD.transpose(1, 2) / math.sqrt(self.width)
        future_TT = torch.ones_like(s_BTT[0], dtype=torch.bool).triu()
        masked_BTT = s_BTT.masked_fill(future_TT, -1e9)
        distance_BTT = (s_BTT if self.leak == "distance" else masked_BTT).softmax(-1).cumsum(-1)
        distance_BTT = (1 - distance_BTT).clamp(min=0).detach()
        s_BTT = s_BTT * (-distance_BTT).exp()
        if self.leak == "mask":
            s_BTT.masked_fill(future_TT, -1e9)
        else:
            s_BTT = s_BTT.masked_fill(future_TT, -1e9)
        weight_BTT = s_BTT.softmax(-1) * (s_BTT > -1e8)
        return self.out(torch.cat([weight_BTT @ a_BTD, q_BTD], -1))[..., 0].sigmoid()


def model(recall: Recall) -> TracingModel:
    torch.manual_seed(0)
    memory = ConceptMemory(8, 4, slots=2)
    network = TracingNetwork(memory, recall=recall, d_model=16)
    for parameter in (*network.head[-1].parameters(), *network.skip.parameters()):
        nn.init.normal_(parameter, std=0.2)
    return TracingModel(memory, {"network": network})


@pytest.mark.parametrize(
    "recall", [Recurrent(Aaren, 16), SameConcept(16), DistanceAttention(16)], ids=["aaren", "cakt", "akt"]
)
def test_ours_do_not_move_at_all(recall: Recall) -> None:
    assert audit_causality(model(recall)) == 0.0


class Counts(nn.Module):
    """A sequence layer small enough to export in a test: the smoothed share of right answers before each step."""

    def init_state(self, batch_size: int, **_: object) -> tuple[Tensor]:
        return (torch.zeros(batch_size, 2),)

    def forward(
        self, x_BTF: Tensor, state: tuple[Tensor] | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor]]:
        (before_B2,) = self.init_state(x_BTF.shape[0]) if state is None else state
        real_BT = (
            torch.isfinite(x_BTF[..., 1]) if mask_BT is None else mask_BT & torch.isfinite(x_BTF[..., 1])
        )
        new_BT2 = torch.stack([(x_BTF[..., 1] > 0.5) & real_BT, real_BT], -1).float()
        after_BT2 = before_B2[:, None] + new_BT2.cumsum(1)
        then_BT2 = after_BT2 - new_BT2 + torch.tensor([1.0, 2.0])
        return then_BT2[..., :1] / then_BT2[..., 1:], (before_B2 + new_BT2.sum(1),)

    def step(self, x_BF: Tensor, state: tuple[Tensor]) -> tuple[Tensor, tuple[Tensor]]:
        y_B1O, state = self.forward(x_BF[:, None], state)
        return y_B1O[:, 0], state


def test_a_bundle_is_probed_through_its_graph(tmp_path: Path) -> None:
    example = torch.tensor([[[1, 1, 5, 1], [2, 0, math.nan, 2], [3, math.nan, 9, 3]]])
    export_window(Counts(), tmp_path / "window.onnx", example=example)
    export_step(Counts(), tmp_path / "step.onnx", example=example)
    (tmp_path / "vocabulary.json").write_text("{}")
    given = {"kind": "answers", "features": ["question", "correct", "minutes", "concept_1"], "units": {}}
    manifest = {"schema_version": 1, "app": "tracing", "task": "tracing", "input": given}
    rest = {"output": ["p_correct"], "confidence": 0.8, "spread": None, "training": {}, "baselines": {}}
    write_manifest(tmp_path, manifest | rest)
    assert audit_causality(tmp_path) == 0.0


def test_causal_attention_passes_and_published_leaks_are_found() -> None:
    torch.manual_seed(0)
    assert audit_causality(Attention(None)) == 0.0
    assert audit_causality(Attention("distance")) > 1e-4
    assert audit_causality(Attention("mask")) > 1e-3


def shares(x_BTF: np.ndarray) -> np.ndarray:
    """The share of right answers before each step."""
    right_BT = x_BTF[..., 1]
    return (right_BT.cumsum(1) - right_BT + 1) / (np.arange(right_BT.shape[1]) + 2)


def test_plain_functions_are_probed_by_size_of_the_leak() -> None:
    assert audit_causality(shares) == 0.0
    assert audit_causality(lambda x: shares(x) + 0.25 * x[..., 1]) == pytest.approx(0.25)
    assert audit_causality(lambda x: shares(x) + 0.5 * x[:, -1:, 1]) == pytest.approx(0.5)
    assert audit_causality(lambda x: np.where(x[..., 1] > 0, np.nan, shares(x))) == np.inf


def test_what_tells_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no forecast moved"):
        audit_causality(lambda x: np.zeros(x.shape[:2]))
    with pytest.raises(ValueError, match="wanted one for every answer"):
        audit_causality(lambda x: shares(x)[:, 1:])
    with pytest.raises(ValueError, match=r"wanted .students, 2 or more"):
        audit_causality(shares, np.zeros((3, 1, 4)))

"""The laws of a recall, read before write: `check_recall(MyRecall)`.

A recall is called with queries and with what is to be written; seen as a layer from both to its reads it obeys every
law of `remem.core.testing`, and two more: its read does not depend on what it writes at the same step, and a masked
step, a question that is asked and not answered, is read like any other.

Needs hypothesis. Shape legend: B batch, T time, D model width, X = 2 D + 1 columns of the layer's input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .state import State
from .testing import LawBroken, check_layer

CONCEPTS = 5
COLUMNS = 4
"""Of the answers handed to the recall; the last one holds the concept, the others are 0."""


class RecallLayer(nn.Module):
    """A recall as a sequence layer: input columns are query, written, and a number that the concept is made of."""

    def __init__(self, recall: Any, d_model: int) -> None:
        super().__init__()
        self.recall, self.d_model = recall, d_model

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> State:
        return self.recall.init_state(batch_size, device=device, dtype=dtype)

    def forward(
        self, x_BTX: Tensor, state: State = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        query, written, answers = self._parts(x_BTX)
        if state is None:
            state = self.init_state(len(x_BTX), dtype=x_BTX.dtype)
        if mask_BT is None:
            mask_BT = torch.ones_like(x_BTX[..., 0], dtype=torch.bool)
        return self.recall(query, written, state, x_BTF=answers, mask_BT=mask_BT)

    def step(self, x_BX: Tensor, state: State, *, mask_B: Tensor | None = None) -> tuple[Tensor, State]:
        query, written, answers = self._parts(x_BX)
        if mask_B is None:
            mask_B = torch.ones_like(x_BX[:, 0], dtype=torch.bool)
        return self.recall.step(query, written, state, x_BF=answers, mask_B=mask_B)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, written, number = x.split([self.d_model, self.d_model, 1], -1)
        concept = (2 * number.float()).round().abs() % CONCEPTS
        return query, written, torch.cat([torch.zeros_like(concept)] * (COLUMNS - 1) + [concept], -1)


def check_recall(
    factory: Callable[[int], Any], *, d_model: int, examples: int = 4, export: bool = True
) -> dict[str, int]:
    """Run every law on a recall made by `factory(d_model)`; it finds the concept in column 3 of the answers.

    Returns:
        How many cases each law was run on, by name.

    Raises:
        LawBroken, ExportError: as `check_layer`.
    """

    def layer(width: int) -> RecallLayer:
        return RecallLayer(factory((width - 1) // 2), (width - 1) // 2)

    checks = check_layer(layer, width=2 * d_model + 1, examples=examples, export=export)
    torch.manual_seed(0)
    _reads_before_writing(layer(2 * d_model + 1).eval(), d_model)
    return checks | {"reads_before_writing": 1}


@torch.no_grad()
def _reads_before_writing(layer: RecallLayer, d_model: int) -> None:
    """Bit for bit: reads up to t with other things written from t on, and of t asked without an answer."""
    x_BTX = torch.randn(3, 20, 2 * d_model + 1)
    read_BTD, _ = layer(x_BTX)
    for t in (0, 7, 19):
        changed_BTX = x_BTX.clone()
        changed_BTX[:, t:, d_model : 2 * d_model] += 10
        if not layer(changed_BTX)[0][:, : t + 1].equal(read_BTD[:, : t + 1]):
            raise LawBroken(f"reads before writing: what is written at step {t} moves a read up to it")
        if t + 1 < x_BTX.shape[1] and layer(changed_BTX)[0][:, t + 1 :].equal(read_BTD[:, t + 1 :]):
            raise LawBroken(f"reads before writing: what is written at step {t} is never read")
        asked_BT = torch.ones(3, 20, dtype=torch.bool)
        asked_BT[:, t] = False
        error = (layer(x_BTX, mask_BT=asked_BT)[0][:, : t + 1] - read_BTD[:, : t + 1]).abs().max()
        if not error <= 1e-6:
            raise LawBroken(f"reads before writing: step {t}, asked but not answered, differs by {error:.1e}")

"""Every law on every layer; and layers that break one law each, to show that the laws bite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from remem.core import Aaren, CausalAttention, LSTMAttention, SequenceModel, Standardize
from remem.core.testing import LawBroken, check_layer

NUM_LAWS, NUM_GRAPH_LAWS, EXAMPLES = 13, 4, 8
NUM_EDGES = 3


def model(width: int) -> SequenceModel:
    """Two blocks of two kinds of state, behind a fitted preprocessing."""
    preprocess = Standardize([f"x{i}" for i in range(width)], flags=True)
    preprocess.fit(torch.randn(100, width).where(torch.rand(100, width) > 0.1, torch.nan))
    kinds = iter([lambda d: Aaren(d, decay=True), LSTMAttention])

    def layer(d_model: int) -> Any:
        return next(kinds)(d_model)

    return SequenceModel(width, 2, layer=layer, d_model=16, num_layers=2, preprocess=preprocess)


LAYERS: dict[str, Callable[[int], Any]] = {
    "aaren": Aaren,
    "aaren with decay": lambda d: Aaren(d, num_heads=2, decay=True),
    "lstm": lambda d: LSTMAttention(d, num_heads=2),
    "attention": lambda d: CausalAttention(d, num_heads=2, window=6),
    "model": model,
}


@pytest.mark.parametrize("name", LAYERS)
def test_laws(name: str, record_property: Callable[[str, object], None]) -> None:
    checks = check_layer(LAYERS[name], examples=EXAMPLES)
    record_property("told", f"{name}: {len(checks)} laws held on {sum(checks.values())} cases")
    assert len(checks) == NUM_LAWS + NUM_GRAPH_LAWS
    assert sum(checks.values()) >= NUM_LAWS * (EXAMPLES + NUM_EDGES) + NUM_GRAPH_LAWS


class StepForgets(Aaren):
    def step(self, x_BD: Tensor, state: Any, *, mask_B: Tensor | None = None) -> Any:
        return super().step(x_BD, self.init_state(len(x_BD), dtype=x_BD.dtype), mask_B=mask_B)


class ForwardForgets(Aaren):
    def forward(self, x_BTD: Tensor, state: Any = None, *, mask_BT: Tensor | None = None) -> Any:
        return super().forward(x_BTD, None, mask_BT=mask_BT)


class IgnoresMask(Aaren):
    def forward(self, x_BTD: Tensor, state: Any = None, *, mask_BT: Tensor | None = None) -> Any:
        return super().forward(x_BTD, state)

    def step(self, x_BD: Tensor, state: Any, *, mask_B: Tensor | None = None) -> Any:
        return super().step(x_BD, state)


class MixesRows(Aaren):
    def forward(self, x_BTD: Tensor, state: Any = None, *, mask_BT: Tensor | None = None) -> Any:
        return super().forward(x_BTD + x_BTD.mean(0), state, mask_BT=mask_BT)

    def step(self, x_BD: Tensor, state: Any, *, mask_B: Tensor | None = None) -> Any:
        return super().step(x_BD + x_BD.mean(0), state, mask_B=mask_B)


class SeesFuture(Aaren):
    def forward(self, x_BTD: Tensor, state: Any = None, *, mask_BT: Tensor | None = None) -> Any:
        return super().forward(x_BTD + 1e-3 * x_BTD.roll(-1, 1), state, mask_BT=mask_BT)


class CutsGradient(Aaren):
    def forward(self, x_BTD: Tensor, state: Any = None, *, mask_BT: Tensor | None = None) -> Any:
        y_BTD, state = super().forward(x_BTD, state, mask_BT=mask_BT)
        return y_BTD, type(state)(*(t.detach() for t in state))


class Overflows(Aaren):
    def forward(self, x_BTD: Tensor, state: Any = None, *, mask_BT: Tensor | None = None) -> Any:
        y_BTD, state = super().forward(x_BTD, state, mask_BT=mask_BT)
        return y_BTD + 0 * x_BTD.exp(), state


class Narrow(Aaren):
    def forward(self, x_BTD: Tensor, state: Any = None, *, mask_BT: Tensor | None = None) -> Any:
        y_BTD, state = super().forward(x_BTD, state, mask_BT=mask_BT)
        return y_BTD, type(state)(*(t.to(y_BTD.dtype) for t in state))


class History(NamedTuple):
    attention: Any
    x_BTD: Tensor


class Grows(Aaren):
    def init_state(self, batch_size: int, *, device: Any = None, dtype: Any = None) -> Any:
        attention = super().init_state(batch_size, device=device, dtype=dtype)
        return History(attention, torch.zeros(batch_size, 0, 8, dtype=attention.m.dtype))

    def forward(self, x_BTD: Tensor, state: Any = None, *, mask_BT: Tensor | None = None) -> Any:
        state = self.init_state(len(x_BTD), dtype=x_BTD.dtype) if state is None else state
        y_BTD, attention = super().forward(x_BTD, state.attention, mask_BT=mask_BT)
        return y_BTD, History(attention, torch.cat([state.x_BTD, x_BTD], 1))

    def step(self, x_BD: Tensor, state: Any, *, mask_B: Tensor | None = None) -> Any:
        y_BD, attention = super().step(x_BD, state.attention, mask_B=mask_B)
        return y_BD, History(attention, torch.cat([state.x_BTD, x_BD[:, None]], 1))


class Hides(Aaren):
    calls = 0

    def forward(self, x_BTD: Tensor, state: Any = None, *, mask_BT: Tensor | None = None) -> Any:
        self.calls += 1
        y_BTD, state = super().forward(x_BTD, state, mask_BT=mask_BT)
        return y_BTD + 1e-3 * (self.calls % 7), state


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (StepForgets, "step is forward"),
        (ForwardForgets, "split is whole"),
        (IgnoresMask, "masked is absent"),
        (MixesRows, "masked is absent|rows are independent"),
        (SeesFuture, "step is forward|future is unseen"),
        (CutsGradient, "gradients agree"),
        (Overflows, "extremes are finite"),
        (Narrow, "state is wide"),
        (Grows, "state x_BTD: shape"),
        (Hides, "differs by"),
    ],
)
def test_broken_layers_are_caught(broken: Callable[[int], Any], law: str) -> None:
    with pytest.raises(LawBroken, match=law):
        check_layer(broken, examples=10, export=False)

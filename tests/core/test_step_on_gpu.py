"""A step on a GPU never waits for the host: fixed shapes, nothing read back, nothing sent over.

Without a GPU, as far as stand-ins for its tensors can tell; with one, by capturing the step of every layer in a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import remem.core
from remem.core.state import flatten

WIDTH = 16
OTHERS: dict[str, Callable[[], Any]] = {
    "SequenceModel": lambda: remem.core.SequenceModel(
        WIDTH, 2, layer=remem.core.Aaren, d_model=WIDTH, num_layers=2
    ),
    "Block": lambda: remem.core.Block(remem.core.Aaren(WIDTH), WIDTH),
}
"""Exported things with a `step` that want more than a width."""

NO_VECTORS = {
    "ConceptMemory",
    "DistanceAttention",
    "PointerNetwork",
    "Recall",
    "Recurrent",
    "SameConcept",
    "SequenceLayer",
    "TracingModel",
    "TracingNetwork",
}
"""Those whose steps take something else than (B, D) numbers, or that are no layers."""


def layers() -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any]] = {}
    for name in remem.core.__all__:
        thing = getattr(remem.core, name)
        if isinstance(thing, type) and hasattr(thing, "step") and name not in NO_VECTORS:
            found[name] = OTHERS.get(name, lambda thing=thing: thing(WIDTH))
    return found


class NothingSentOver(TorchDispatchMode):
    """Tensors made of numbers of the host are errors: on a GPU each is a copy that waits."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.lift_fresh.default, torch.ops.aten._local_scalar_dense.default):
            raise AssertionError(f"{func}: numbers go between the host and the device")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", layers())
def test_step_reads_nothing_back(name: str) -> None:
    """Fake tensors hold no numbers, so whatever needs one, for a size or a branch, raises."""
    with FakeTensorMode(), torch.no_grad():
        layer = layers()[name]().eval()
        state = layer.init_state(2)
        x_BD, mask_B = torch.empty(2, WIDTH), torch.ones(2, dtype=torch.bool)
        sizes = {part: t.shape for part, t in flatten(state).items()}
        with NothingSentOver():
            for _ in range(2):
                y_BD, state = layer.step(x_BD, state, mask_B=mask_B)
        assert y_BD.shape[0] == 2
        assert {part: t.shape for part, t in flatten(state).items()} == sizes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", layers())
def test_step_in_a_graph_of_the_device(name: str) -> None:
    from remem.apps.bench_kernels import captured_step

    torch.manual_seed(0)
    layer = layers()[name]().cuda().eval()
    x_TBD = torch.randn(20, 2, WIDTH, device="cuda")
    with torch.no_grad():
        step = captured_step(layer, layer.init_state(2, device=x_TBD.device), x_TBD[0])
        state = layer.init_state(2, device=x_TBD.device)
        for x_BD in x_TBD:
            y_BD, state = layer.step(x_BD, state)
            torch.testing.assert_close(step(x_BD), y_BD, rtol=1e-5, atol=1e-5)


def test_what_waits_is_seen() -> None:
    class Waits(remem.core.Aaren):
        def step(self, x_BD: Any, state: Any, *, mask_B: Any = None) -> Any:
            return super().step(x_BD * torch.tensor([2.0]), state, mask_B=mask_B)

    with FakeTensorMode(), NothingSentOver():
        layer, x_BD = Waits(WIDTH), torch.empty(2, WIDTH)
        state = layer.init_state(2)
        with pytest.raises(AssertionError, match="between the host"):
            layer.step(x_BD, state)

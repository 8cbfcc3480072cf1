"""torch.compile takes the parallel form of the layers as one graph: values and gradients are those of eager torch."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from remem.core import (
    LSTM,
    Aaren,
    Based,
    CausalAttention,
    LandmarkAttention,
    LinearAttention,
    LSTMAttention,
    Memory,
    MemoryAsContext,
    MemoryAsGate,
    RoutingAttention,
    RoutingSetAttention,
)

LAYERS: dict[str, Callable[[int], Any]] = {
    "aaren": partial(Aaren, num_heads=2, decay=True),
    "lstm": LSTM,
    "lstm and attention": partial(LSTMAttention, num_heads=2),
    "attention": partial(CausalAttention, num_heads=2, window=5),
    "linear attention": partial(LinearAttention, num_heads=2),
    "based": partial(Based, num_heads=2, key_width=3, window=4),
    "landmark": partial(LandmarkAttention, num_heads=2, block_size=3, budget=2),
    "routing, nearest": partial(RoutingAttention, num_heads=2, num_clusters=2, budget=4),
    "routing of sets": partial(RoutingSetAttention, num_heads=2, num_clusters=2),
    "routing, threshold": partial(
        RoutingAttention, num_heads=2, num_clusters=2, budget=4, assign="threshold"
    ),
    **{
        rule: partial(Memory, num_heads=2, rule=rule, chunk_size=4)  # type: ignore[arg-type]
        for rule in ("delta", "titans", "memora")
    },
    "2-layer net": partial(Memory, num_heads=2, rule="titans", net="mlp", chunk_size=4),
    "context": partial(MemoryAsContext, num_heads=2, segment=3),
    "gate": partial(MemoryAsGate, num_heads=2, window=4),
}


BREAKS = ("lstm", "lstm and attention")
"""torch 2.13 cannot trace into `nn.LSTM`: these run as several graphs."""


def passes(run: Any, x_BTD: Tensor, state: Any, mask_BT: Tensor) -> list[Tensor]:
    """Outputs at real steps, and the gradients to the input and the parameters."""
    x_BTD = x_BTD.clone().requires_grad_()
    y_BTD, _ = run(x_BTD, state, mask_BT=mask_BT)
    y_BTD = y_BTD * mask_BT[..., None]
    found = torch.autograd.grad(y_BTD.square().sum(), [x_BTD, *run.parameters()], allow_unused=True)
    return [y_BTD.detach(), *(torch.zeros(()) if g is None else g for g in found)]


def check_compiled(layer: Any, compiled: Any, length: int) -> None:
    x_BTD = torch.randn(3, length, 8)
    mask_BT = torch.rand(3, length) > 0.2
    # a state of its own for each: the first memory is learned, and its graph is there once
    found, wanted = (passes(run, x_BTD, layer.init_state(3), mask_BT) for run in (compiled, layer))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_compiled_is_eager(name: str) -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    layer = LAYERS[name](8).eval()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=name not in BREAKS)
    for length in (7, 10) if name in ("aaren", "attention", "delta") else (7,):
        check_compiled(layer, compiled, length)


def test_centroids_move_beside_the_graph() -> None:
    """In training they ask whether they were placed, which breaks the graph: a fit compiles without `fullgraph`."""
    torch.manual_seed(0)
    torch.compiler.reset()
    layer = RoutingAttention(8, num_heads=2, num_clusters=3, follow=0.5).train()
    twin = copy.deepcopy(layer)
    compiled = torch.compile(layer, backend="aot_eager", dynamic=False)
    for _ in range(2):
        check_compiled(twin, compiled, 9)
    assert layer.centroids.placed
    torch.testing.assert_close(layer.centroids.centroid_HCK, twin.centroids.centroid_HCK)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_machine_code_is_eager() -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    layer = CausalAttention(8, num_heads=2, window=6).eval()
    check_compiled(layer, torch.compile(layer, fullgraph=True, dynamic=False), 7)

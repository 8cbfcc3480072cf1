"""Every memory layer of `remem.core` with options chosen once, for the benches that compare them on the applications.

Windows and budgets hold about 64 steps, all of a small point set and a part of a battery's life or a student's
answers. The layers differ in size; `at_equal_size` makes up for it in the feed-forward part behind them.

Shape legend: B batch, T time, D model width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ..core.blocks import Block
from ..core.layers.aaren import Aaren
from ..core.layers.attention import CausalAttention
from ..core.layers.based import Based
from ..core.layers.landmark import LandmarkAttention
from ..core.layers.linear_attention import LinearAttention
from ..core.layers.lstm import LSTM
from ..core.layers.lstm_attention import LSTMAttention
from ..core.layers.memory import Memory
from ..core.layers.memory_context import MemoryAsContext
from ..core.layers.routing import RoutingAttention
from ..core.layers.titans_blocks import MemoryAsGate, MemoryAsLayer
from ..core.state import SequenceLayer, State

D_MODEL = 32
"""Width of the layers."""
PARAMETERS = 14_000
"""Of a block at equal size, norms and feed-forward part included."""
HEADS = 2
WINDOW = 64
"""Steps that softmax attention sees: alone, in four blocks beside the current one, in four clusters together."""
SHORT = 16
"""Steps that attention sees beside another memory, and of a block."""
CHUNK = 16
"""Tokens that Yaad, Moneta and Memora write at once; one at a time takes minutes to train."""

LAYERS: dict[str, Callable[[int], SequenceLayer]] = {
    "causal attention": partial(CausalAttention, num_heads=HEADS, window=WINDOW),
    "LSTM": LSTM,
    "LSTM + attention": partial(LSTMAttention, num_heads=HEADS),
    "Aaren": partial(Aaren, num_heads=HEADS),
    "linear attention": partial(LinearAttention, num_heads=HEADS),
    "Based": partial(Based, num_heads=HEADS, window=SHORT),
    "landmark attention": partial(
        LandmarkAttention, num_heads=HEADS, block_size=SHORT, budget=WINDOW // SHORT, top_k=2
    ),
    "routing attention": partial(
        RoutingAttention, num_heads=HEADS, num_clusters=4, budget=WINDOW // 4, follow=0.99
    ),
    "memory, delta": partial(Memory, num_heads=HEADS, rule="delta"),
    "memory, gated delta": partial(Memory, num_heads=HEADS, rule="gated_delta"),
    "memory, Titans": partial(Memory, num_heads=HEADS, rule="titans"),
    "memory, Yaad": partial(Memory, num_heads=HEADS, rule="yaad", chunk_size=CHUNK),
    "memory, Moneta": partial(Memory, num_heads=HEADS, rule="moneta", chunk_size=CHUNK),
    "memory, Memora": partial(Memory, num_heads=HEADS, rule="memora", chunk_size=CHUNK),
    "Titans as context": partial(MemoryAsContext, num_heads=HEADS, segment=SHORT),
    "Titans as gate": partial(MemoryAsGate, num_heads=HEADS, window=SHORT),
    "Titans as layer": partial(MemoryAsLayer, num_heads=HEADS, window=SHORT),
}
"""Name -> makes a layer of a width."""


class NoMemory(nn.Module):
    """A layer that remembers nothing: its output is 0, so a block around it is a feed-forward part alone.

    Args:
        d_model: width D; not needed.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> State:
        return ()

    def forward(
        self, x_BTD: Tensor, state: State = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        return torch.zeros_like(x_BTD), ()

    def step(self, x_BD: Tensor, state: State, *, mask_B: Tensor | None = None) -> tuple[Tensor, State]:
        return torch.zeros_like(x_BD), ()


def at_equal_size(block: Block, parameters: int) -> Block:
    """The block with a feed-forward part just so wide that it has about so many parameters; returns it.

    Raises:
        ValueError: where the layer alone has more.
    """
    norm, _, _, last, dropout = block.feedforward
    d_model = len(last.get_parameter("bias"))
    others = count(block) - count(block.feedforward) + 3 * d_model  # norm and last bias stay
    hidden = round((parameters - others) / (2 * d_model + 1))
    if hidden < 1:
        raise ValueError(
            f"at_equal_size: {type(block.layer).__name__} of width {d_model} leaves no room for a feed-forward part in "
            f"{parameters} parameters; give at least {others + 2 * d_model + 1}"
        )
    block.feedforward = nn.Sequential(
        norm, nn.Linear(d_model, hidden), nn.GELU(), nn.Linear(hidden, d_model), dropout
    )
    return block


def count(module: nn.Module) -> int:
    """Trained parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)

"""Every memory layer of `remem.core` with options chosen once, for the benches that compare them on the applications.

Windows and budgets hold about 64 steps, all of a small point set and a part of a battery's life or a student's
answers; so what a layer keeps of the steps before is what is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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
from ..core.state import SequenceLayer

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

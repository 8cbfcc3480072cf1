"""The layers that `remem bench recall` compares, with states of about a thousand floats where that can be chosen."""

from __future__ import annotations

from collections.abc import Callable

from ...core.layers.aaren import Aaren
from ...core.layers.attention import CausalAttention
from ...core.layers.based import Based
from ...core.layers.landmark import LandmarkAttention
from ...core.layers.linear_attention import LinearAttention
from ...core.layers.lstm import LSTM
from ...core.layers.lstm_attention import LSTMAttention
from ...core.layers.memory import Memory, Rule
from ...core.layers.memory_context import MemoryAsContext
from ...core.layers.routing import RoutingAttention
from ...core.layers.titans_blocks import MemoryAsGate, MemoryAsLayer
from ...core.state import SequenceLayer

Sized = Callable[[int, int], SequenceLayer]
"""(d_model, length) -> a layer; `length` is what a layer whose memory grows with the past shall hold."""

WINDOW, SEGMENT, BLOCK, HEADS = 16, 16, 8, 2
CHUNK = 8
"""Tokens written at once by the rules whose gradients are taken at the start of a chunk: part of those models."""


def _memory(rule: Rule, chunk_size: int | None = None) -> Sized:
    return lambda width, _: Memory(
        width, num_heads=1, rule=rule, key_width=16, value_width=64, conv_width=1, chunk_size=chunk_size
    )


MEMORIES: dict[str, Sized] = {
    "attention": lambda width, length: CausalAttention(width, num_heads=HEADS, window=length),
    "attention, window 16": lambda width, _: CausalAttention(width, num_heads=HEADS, window=WINDOW),
    "landmark, top 2 blocks": lambda width, length: LandmarkAttention(
        width, num_heads=HEADS, block_size=BLOCK, budget=length // BLOCK
    ),
    "routing, 4 clusters": lambda width, length: RoutingAttention(
        width, num_heads=HEADS, num_clusters=4, budget=length // 2, follow=0.99
    ),
    "LSTM": lambda width, _: LSTM(width),
    "LSTM + attention": lambda width, _: LSTMAttention(width),
    "Aaren": lambda width, _: Aaren(width),
    "linear attention, 16 features": lambda width, _: LinearAttention(width, num_heads=1, num_features=16),
    "linear attention, 64 features": lambda width, _: LinearAttention(width, num_heads=1, num_features=64),
    "Based, keys of 8": lambda width, _: Based(width, num_heads=1, window=None, conv_width=1),
    "Based, keys of 8, window 16": lambda width, _: Based(width, num_heads=1, window=WINDOW, conv_width=1),
    "delta 16 x 64": _memory("delta"),
    "gated delta 16 x 64": _memory("gated_delta"),
    "Titans 16 x 64": _memory("titans"),
    "Yaad 16 x 64": _memory("yaad", CHUNK),
    "Moneta 16 x 64": _memory("moneta", CHUNK),
    "Memora 16 x 64": _memory("memora", CHUNK),
    "Titans, 2-layer net": lambda width, _: Memory(
        width,
        num_heads=2,
        rule="titans",
        key_width=16,
        value_width=16,
        net="mlp",
        conv_width=1,
        chunk_size=CHUNK,
    ),
    "Titans as context": lambda width, _: MemoryAsContext(width, num_heads=HEADS, segment=SEGMENT),
    "Titans as gate": lambda width, _: MemoryAsGate(width, num_heads=HEADS, window=WINDOW),
    "Titans as layer": lambda width, _: MemoryAsLayer(width, num_heads=HEADS, window=WINDOW),
}
"""Name -> layer. The memories have the convolution of the network only, so that none has two."""

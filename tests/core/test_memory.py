"""The memory layers: the laws on every variant, and what each can hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from remem.core.export import export_step, export_window
from remem.core.layers.memory import Memory
from remem.core.layers.memory_context import MemoryAsContext
from remem.core.layers.persistent_attention import PersistentAttention
from remem.core.layers.titans_blocks import MemoryAsGate, MemoryAsLayer
from remem.core.state import nbytes
from remem.core.testing import check_layer

VARIANTS: dict[str, Callable[[int], Any]] = {
    "delta": lambda d: Memory(d, num_heads=2),
    "gated delta": lambda d: Memory(
        d, num_heads=1, rule="gated_delta", key_width=3, value_width=5, chunk_size=4
    ),
    "titans": lambda d: Memory(d, num_heads=2, rule="titans", conv_width=1, chunk_size=5),
    "yaad": lambda d: Memory(d, num_heads=2, rule="yaad"),
    "moneta": lambda d: Memory(d, num_heads=2, rule="moneta", conv_width=1, chunk_size=3),
    "memora": lambda d: Memory(d, num_heads=2, rule="memora", conv_width=2),
    "titans, 2 layers": lambda d: Memory(d, num_heads=2, rule="titans", net="mlp", chunk_size=4),
    "yaad, 2 layers": lambda d: Memory(d, num_heads=2, rule="yaad", net="mlp", conv_width=1),
    "moneta, 2 layers": lambda d: Memory(d, num_heads=1, rule="moneta", net="mlp", chunk_size=2),
    "memora, 2 layers": lambda d: Memory(
        d, num_heads=2, rule="memora", net="mlp", conv_width=1, chunk_size=5
    ),
    "persistent attention": lambda d: PersistentAttention(d, num_heads=2, window=4, num_persistent=2),
    "memory as gate": lambda d: MemoryAsGate(d, num_heads=2, window=5),
    "memory as layer": lambda d: MemoryAsLayer(d, num_heads=2, window=3, num_persistent=1),
    "memory as context": lambda d: MemoryAsContext(d, num_heads=2, segment=5),
    "memory as context, 2 layers": lambda d: MemoryAsContext(
        d, num_heads=2, segment=4, num_persistent=0, rule="yaad", net="mlp", chunk_size=3
    ),
}


COMPOSED = ("yaad, 2 layers", "moneta, 2 layers", "memora, 2 layers", "memory as layer", "memory as context")
"""Rules, nets and attention that other variants run too, each beside other company: fewer cases."""

STEPS = (
    "delta",
    "gated delta",
    "titans",
    "yaad",
    "moneta",  # a linear map, powers
    "memora",  # the simplex
    "titans, 2 layers",  # the net, momentum
    "memory as layer",
    "memory as gate",  # titans on a matrix, attention to persistent tokens
)
WINDOWS = (
    "titans",  # an exact rule, in chunks
    "yaad, 2 layers",  # Huber's loss, token by token
    "memory as context, 2 layers",  # its own step, token by token: that graph holds the step's
)
"""All code of a step and of a window once: tracing is slow."""


@pytest.mark.parametrize("name", VARIANTS)
def test_laws(name: str, record_property: Callable[[str, object], None]) -> None:
    checks = check_layer(VARIANTS[name], examples=2 if name in COMPOSED else 4, export=False)
    record_property("told", f"{name}: {len(checks)} laws held on {sum(checks.values())} cases")
    assert len(checks) == 13


@pytest.mark.parametrize("name", STEPS)
def test_step_graph_for_50_chained_steps(name: str) -> None:
    """The export itself chains them and compares outputs and states with the layer to 1e-5."""
    torch.manual_seed(0)
    export_step(VARIANTS[name](8).eval(), example=torch.randn(3, 40, 8))


@pytest.mark.parametrize("name", WINDOWS)
def test_window_graph_of_any_length(name: str) -> None:
    """It is refused where it differs from the layer by more than 1e-5, also at lengths that were never traced."""
    torch.manual_seed(0)
    export_window(VARIANTS[name](8).eval(), example=torch.randn(3, 40, 8))


def test_state_bytes_do_not_depend_on_what_was_seen() -> None:
    layer = Memory(64, num_heads=1, key_width=16, value_width=64, conv_width=1)
    _, state = layer(torch.randn(1, 100, 64))
    assert nbytes(state) == nbytes(layer.init_state(1)) == 4 * 16 * 64


def test_a_pair_is_recalled_by_its_key_after_many_others() -> None:
    """Sixteen orthogonal keys fill the memory; each still gives its own value, which a running mean cannot."""
    layer = Memory(32, num_heads=1, key_width=16, value_width=16, conv_width=1)
    with torch.no_grad():
        identity, zero = torch.eye(16), torch.zeros(16, 16)
        key, value = torch.cat([identity, zero], 1), torch.cat([zero, identity], 1)
        layer.qkv.weight.copy_(torch.cat([key, key, value]))
        layer.write.weight.zero_()
        layer.write.bias.fill_(30.0)
        layer.out.weight.copy_(value.T)
        layer.out.bias.zero_()
        pairs = torch.cat([identity, torch.randn(16, 16)], 1)[None]
        _, state = layer(pairs)
        layer.write.bias.fill_(-30.0)  # asked, not told
        asked = torch.cat([pairs[..., :16], 0 * pairs[..., 16:]], -1)
        recalled, _ = layer(asked.flip(1), state)
    torch.testing.assert_close(recalled.flip(1)[..., 16:], pairs[..., 16:], rtol=0, atol=1e-3)


def test_reading_is_not_writing() -> None:
    torch.manual_seed(1)
    for layer in (
        Memory(8, num_heads=2, rule="delta", conv_width=1),
        Memory(8, num_heads=2, rule="titans", conv_width=1),
        Memory(8, num_heads=2, rule="moneta", net="mlp", conv_width=1, chunk_size=2),
    ):
        x_BTD = torch.randn(2, 7, 8)
        y_BTD, state = layer(x_BTD)
        read_BTD = layer.read(x_BTD, state)
        torch.testing.assert_close(read_BTD[:, -1], y_BTD[:, -1])
        torch.testing.assert_close(layer.read(x_BTD[:, :1], state), read_BTD[:, :1])
    with pytest.raises(ValueError, match="make it with conv_width=1"):
        Memory(8).read(x_BTD, state)


def test_attention_sees_the_window_and_the_persistent_tokens() -> None:
    torch.manual_seed(2)
    layer = PersistentAttention(8, num_heads=2, window=5, num_persistent=3)
    x_BTD = torch.randn(1, 12, 8, requires_grad=True)
    inputs = torch.autograd.grad(layer(x_BTD)[0][0, 9].sum(), [x_BTD, layer.persistent_PE])
    assert (inputs[0][0].abs().sum(-1) > 0).tolist() == [5 <= t <= 9 for t in range(12)]
    assert (inputs[1].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("make", [MemoryAsGate, MemoryAsLayer])
def test_the_memory_reaches_beyond_the_window(make: Callable[..., Any]) -> None:
    torch.manual_seed(3)
    layer = make(8, num_heads=2, window=3)
    x_BTD = torch.randn(1, 20, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x_BTD)[0][0, -1].sum(), x_BTD)
    assert (gradient[0].abs().sum(-1) > 0).all()


def test_context_is_what_was_known_before_the_segment() -> None:
    """A new segment reads the memory that the last one left, and a whole one starts with an empty buffer."""
    torch.manual_seed(4)
    layer = MemoryAsContext(8, num_heads=2, segment=4)
    x_BTD = torch.randn(1, 11, 8)
    _, at_4 = layer(x_BTD[:, :4])
    _, at_7 = layer(x_BTD[:, 4:7], at_4)
    assert torch.equal(at_4.start.memory.w, at_4.memory.memory.w)
    assert torch.equal(at_7.start.memory.w, at_4.memory.memory.w)
    assert not torch.equal(at_7.memory.memory.w, at_4.memory.memory.w)
    assert (int(at_4.place), int(at_7.place)) == (0, 3)
    assert not at_4.kv.any()
    assert (at_7.kv[0].abs().sum(-1) > 0).tolist() == [True, True, True, False]


def test_errors_name_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"rule is 'delat'; use one of \['delta'"):
        Memory(8, rule="delat")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_heads 3 does not divide d_model 8; give key_width"):
        Memory(8, num_heads=3)
    with pytest.raises(ValueError, match=r"\{'conv_width': 0\} must be positive"):
        Memory(8, conv_width=0)
    with pytest.raises(ValueError, match=r"net is 'deep'; use one of \['linear', 'mlp'\]"):
        Memory(8, net="deep")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="window is 0, it must be at least 1"):
        MemoryAsGate(8, window=0)
    with pytest.raises(ValueError, match="segment is 0, it must be at least 1"):
        MemoryAsContext(8, segment=0)
    assert Memory(8, num_heads=3, key_width=2, value_width=4).out.in_features == 12

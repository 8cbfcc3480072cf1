"""The memory layers: the laws on every variant, and what each can hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from remem.core.layers.memory import Memory
from remem.core.state import nbytes
from remem.core.testing import check_layer

VARIANTS: dict[str, Callable[[int], Any]] = {
    "delta": lambda d: Memory(d, num_heads=2),
    "gated delta": lambda d: Memory(
        d, num_heads=1, rule="gated_delta", key_width=3, value_width=5, chunk_size=4
    ),
    "titans": lambda d: Memory(d, num_heads=2, rule="titans", conv_width=1, chunk_size=5),
}


class Chain(nn.Module):
    """All variants one after the other: their graphs are made, checked and chained in one go."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(make(d_model) for make in VARIANTS.values())
        self.norm = nn.LayerNorm(d_model)

    def init_state(self, batch_size: int, *, device: Any = None, dtype: Any = None) -> Any:
        return tuple(layer.init_state(batch_size, device=device, dtype=dtype) for layer in self.layers)

    def forward(self, x_BTD: Tensor, state: Any = None, *, mask_BT: Tensor | None = None) -> Any:
        state = [None] * len(self.layers) if state is None else state
        after = []
        for layer, before in zip(self.layers, state, strict=True):
            y_BTD, now = layer(x_BTD, before, mask_BT=mask_BT)
            x_BTD, after = self.norm(x_BTD + y_BTD), [*after, now]
        return x_BTD, tuple(after)

    def step(self, x_BD: Tensor, state: Any, *, mask_B: Tensor | None = None) -> Any:
        after = []
        for layer, before in zip(self.layers, state, strict=True):
            y_BD, now = layer.step(x_BD, before, mask_B=mask_B)
            x_BD, after = self.norm(x_BD + y_BD), [*after, now]
        return x_BD, tuple(after)


@pytest.mark.parametrize("name", VARIANTS)
def test_laws(name: str, record_property: Callable[[str, object], None]) -> None:
    checks = check_layer(VARIANTS[name], examples=4, export=False)
    record_property("told", f"{name}: {len(checks)} laws held on {sum(checks.values())} cases")
    assert len(checks) == 13


def test_graphs_of_every_variant() -> None:
    checks = check_layer(Chain, examples=1)
    assert len(checks) == 17


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
    torch.testing.assert_close(recalled.flip(1)[..., 16:], pairs[..., 16:], rtol=0, atol=1e-4)


def test_errors_name_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"rule is 'delat'; use one of \['delta'"):
        Memory(8, rule="delat")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_heads 3 does not divide d_model 8; give key_width"):
        Memory(8, num_heads=3)
    with pytest.raises(ValueError, match=r"\{'conv_width': 0\} must be positive"):
        Memory(8, conv_width=0)
    assert Memory(8, num_heads=3, key_width=2, value_width=4).out.in_features == 12

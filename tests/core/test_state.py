"""Tree functions on a nested state."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from remem.core import Aaren, CausalAttention, LSTMAttention, SequenceLayer, SequenceModel
from remem.core.state import detach, flatten, nbytes, select, to, unflatten, where


class Leaf(NamedTuple):
    a: Tensor
    b: Tensor


class Tree(NamedTuple):
    features: tuple[()]
    blocks: tuple[Leaf, Leaf]


def tree(start: float) -> Tree:
    number = torch.arange(3.0) + start
    return Tree((), (Leaf(number, number[:, None].repeat(1, 2)), Leaf(number.double(), number.long())))


def test_names_are_the_path() -> None:
    assert list(flatten(tree(0))) == ["blocks.0.a", "blocks.0.b", "blocks.1.a", "blocks.1.b"]
    assert flatten(()) == {}


def test_unflatten_rebuilds_and_refuses() -> None:
    rebuilt = unflatten(tree(0), flatten(tree(5)))
    assert isinstance(rebuilt, Tree)
    assert isinstance(rebuilt.blocks[1], Leaf)
    assert torch.equal(rebuilt.blocks[0].b, tree(5).blocks[0].b)
    tensors = flatten(tree(5))
    tensors["blocks.2.a"] = tensors.pop("blocks.1.a")
    with pytest.raises(ValueError, match=r"\['blocks.1.a'\] are missing, \['blocks.2.a'\] are unknown"):
        unflatten(tree(0), tensors)


def test_rows() -> None:
    picked = select(tree(0), torch.tensor([2, 0, 2]))
    assert picked.blocks[1].b.tolist() == [2, 0, 2]
    mixed = where(torch.tensor([True, False, True]), tree(10), tree(0))
    assert mixed.blocks[0].b.tolist() == [[10, 10], [1, 1], [12, 12]]
    assert mixed.blocks[1].b.dtype == torch.int64


def test_bytes_devices_and_gradients() -> None:
    assert nbytes(tree(0)) == 3 * 4 + 6 * 4 + 3 * 8 + 3 * 8
    grown = Leaf(torch.ones(2, requires_grad=True) * 2, torch.ones(2))
    assert not detach(grown).a.requires_grad
    assert to(grown, "meta").b.device.type == "meta"


@pytest.mark.parametrize("layer", [Aaren, LSTMAttention, CausalAttention, lambda d: SequenceModel(d, 1)])
def test_layers_satisfy_the_protocol(layer: type) -> None:
    assert isinstance(layer(8), SequenceLayer)


def test_declared_bytes_of_one_row() -> None:
    assert nbytes(Aaren(64).init_state(1)) == 4 * (64 + 2 * 4)
    assert nbytes(LSTMAttention(64).init_state(1)) == 4 * (3 * 64 + 2 * 4)
    assert nbytes(CausalAttention(64, window=10).init_state(1)) == 4 * 2 * 64 * 10 + 8


@pytest.mark.parametrize("layer", [Aaren, LSTMAttention, CausalAttention])
def test_heads_divide_the_width(layer: type) -> None:
    with pytest.raises(ValueError, match="num_heads 3 does not divide d_model 8"):
        layer(8, num_heads=3)

"""The protocol every layer obeys, and the tree functions that handle its state.

A layer is trained on whole sequences with `forward` and run for ever with `step`; both give the same numbers,
because everything a layer remembers lives in an explicit state. A state is a `NamedTuple` of tensors, or a
tuple of such states: rows of a batch along axis 0 of every tensor, sizes that do not depend on how much has
been seen.

Shape legend: B batch, T time, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

State: TypeAlias = Any
"""A NamedTuple of tensors, or a (named) tuple of states; `()` for a layer without memory."""


@runtime_checkable
class SequenceLayer(Protocol):
    """A causal layer with explicit memory. Laws and a checker: `remem.core.testing.check_layer`."""

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """The state before anything was seen."""

    def forward(
        self, x_BTD: Tensor, state: State = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Outputs (B, T, D) of any T >= 0 steps after `state` (None: `init_state`), and the state behind them.

        `mask_BT` is True on real steps. A masked step leaves the state as it was; its output means nothing.
        """

    def step(self, x_BD: Tensor, state: State, *, mask_B: Tensor | None = None) -> tuple[Tensor, State]:
        """One step of `forward`: output (B, D) and the state after it."""


def accumulator_dtype(dtype: torch.dtype | None) -> torch.dtype:
    """The type in which states are kept: float64 for float64, float32 for anything narrower and for None."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def flatten(state: State) -> dict[str, Tensor]:
    """The tensors of a state by name: field names and tuple positions joined by dots, as in `blocks.0.m`."""
    if isinstance(state, Tensor):
        return {"": state}
    fields = getattr(state, "_fields", None) or [str(i) for i in range(len(state))]
    return {
        f"{field}.{name}" if name else field: tensor
        for field, part in zip(fields, state, strict=True)
        for name, tensor in flatten(part).items()
    }


def unflatten(like: State, tensors: Mapping[str, Tensor]) -> State:
    """A state of the structure of `like` with the tensors of a `flatten` result.

    Raises:
        ValueError: where names are missing or left over.
    """
    names = list(flatten(like))
    if set(names) != set(tensors):
        missing, extra = sorted(set(names) - set(tensors)), sorted(set(tensors) - set(names))
        raise ValueError(f"state: tensors {missing} are missing, {extra} are unknown; wanted {names}")
    ordered = iter([tensors[name] for name in names])
    return _map(lambda _: next(ordered), like)


def detach(state: State) -> State:
    """The state cut from the autograd graph, for truncated backpropagation through time."""
    return _map(Tensor.detach, state)


def to(state: State, device: torch.device | str) -> State:
    """The state on another device; types are kept, since accumulators are never narrowed."""
    return _map(lambda t: t.to(device), state)


def select(state: State, index: Tensor) -> State:
    """Rows `index` (integers or booleans) of the batch: reorder, repeat or drop sequences."""
    return _map(lambda t: t[index], state)


def where(mask_B: Tensor, new: State, old: State) -> State:
    """Row by row: `new` where `mask_B` is True, `old` elsewhere, bit for bit."""
    return _map(lambda n, o: torch.where(mask_B.view(-1, *[1] * (n.ndim - 1)), n, o), new, old)


def nbytes(state: State) -> int:
    """Bytes held by the state: the whole memory of the layer."""
    return sum(t.numel() * t.element_size() for t in flatten(state).values())


def _map(function: Callable[..., Tensor], state: State, *others: State) -> State:
    if isinstance(state, Tensor):
        return function(state, *others)
    parts = [_map(function, *group) for group in zip(state, *others, strict=True)]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)

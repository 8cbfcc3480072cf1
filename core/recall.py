"""Recalls: memories that are read before they are written, and any sequence layer as one.

At a step a recall is asked with a query and given what to write. What it reads may depend on the query and on what was
written at earlier steps, and exactly not on what is written now: knowledge tracing writes the answer it is to predict.
Laws and a checker: `remem.core.recall_laws.check_recall`.

Shape legend: B batch, T time, D model width, F columns of the raw answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from .blocks import Block
from .ops.history import extend, newest, real_before, take
from .state import SequenceLayer, State, accumulator_dtype, where


@runtime_checkable
class Recall(Protocol):
    """A memory with explicit state that is read before it is written."""

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """The state before anything was written."""

    def forward(
        self,
        query_BTD: Tensor,
        written_BTD: Tensor,
        state: State = None,
        *,
        x_BTF: Tensor,
        mask_BT: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Reads (B, T, D) of every step and the state after the last.

        `x_BTF` are the raw answers, for recalls that look at ids; outcomes in it are not to be read. `mask_BT` is
        True where the step is written. A masked step is read all the same: a question asked and not answered.
        """

    def step(
        self,
        query_BD: Tensor,
        written_BD: Tensor,
        state: State,
        *,
        x_BF: Tensor,
        mask_B: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """One step of `forward`: read (B, D) and the state after it."""


class RecurrentState(NamedTuple):
    """Output of the last block at the last written step (B, 1, D), 0 before the first, and the blocks' states."""

    last: Tensor
    blocks: tuple[State, ...]


class Recurrent(nn.Module):
    """Blocks of a sequence layer over what is written; the read is their output at the last written step.

    Args:
        layer: makes a layer of a given width, once per block.
        d_model: width D.
        num_layers: number of blocks, at least 1.
        ff_mult: hidden width of the feed-forward parts, in units of `d_model`.
        dropout: probability, in every block.

    Raises:
        ValueError: where there is no block.
    """

    def __init__(
        self,
        layer: Callable[[int], SequenceLayer],
        d_model: int,
        *,
        num_layers: int = 1,
        ff_mult: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"Recurrent: num_layers is {num_layers}; it must be at least 1")
        self.d_model = d_model
        self.blocks: Any = nn.ModuleList(
            Block(layer(d_model), d_model, ff_mult=ff_mult, dropout=dropout) for _ in range(num_layers)
        )

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> RecurrentState:
        last_B1D = torch.zeros(batch_size, 1, self.d_model, device=device, dtype=accumulator_dtype(dtype))
        states = [block.init_state(batch_size, device=device, dtype=dtype) for block in self.blocks]
        return RecurrentState(last_B1D, tuple(states))

    def forward(
        self,
        query_BTD: Tensor,
        written_BTD: Tensor,
        state: RecurrentState | None = None,
        *,
        x_BTF: Tensor,
        mask_BT: Tensor | None = None,
    ) -> tuple[Tensor, RecurrentState]:
        if state is None:
            state = self.init_state(len(written_BTD), device=written_BTD.device, dtype=written_BTD.dtype)
        if mask_BT is None:
            mask_BT = torch.ones_like(written_BTD[..., 0], dtype=torch.bool)
        h_BTD, states = written_BTD, []
        for block, before in zip(self.blocks, state.blocks, strict=True):
            h_BTD, after = block(h_BTD, before, mask_BT=mask_BT)
            states.append(after)
        h_BSD = extend(state.last, h_BTD, mask_BT)
        read_BTD = take(h_BSD, real_before(mask_BT)).to(written_BTD.dtype)
        return read_BTD, RecurrentState(newest(h_BSD, mask_BT), tuple(states))

    def step(
        self,
        query_BD: Tensor,
        written_BD: Tensor,
        state: RecurrentState,
        *,
        x_BF: Tensor,
        mask_B: Tensor | None = None,
    ) -> tuple[Tensor, RecurrentState]:
        h_BD, states = written_BD, []
        for block, before in zip(self.blocks, state.blocks, strict=True):
            h_BD, after = block.step(h_BD, before, mask_B=mask_B)
            states.append(after)
        last_B1D = h_BD[:, None].to(state.last.dtype)
        if mask_B is not None:
            last_B1D = where(mask_B, last_B1D, state.last)
        return state.last[:, 0].to(written_BD.dtype), RecurrentState(last_B1D, tuple(states))

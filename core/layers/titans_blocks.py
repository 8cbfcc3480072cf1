"""Attention as short-term memory beside a long-term one: memory as a gate and memory as a layer.

    MemoryAsGate (MAG)     y = out(norm(A(x)) * silu(norm(M(x))))
    MemoryAsLayer (MAL)    y = A(norm(x + M(x)))

A: attention over a window, beside persistent tokens; M: a `Memory`. Attention is exact inside its window, the memory
reaches back without end. The third of the paper's three, memory as context, is in memory_context.py. The sum with x
in MAL is ours: attention then sees the steps themselves too.

Source: Behrouz et al. 2025, "Titans: Learning to Memorize at Test Time" (arXiv 2501.00663, section 4).
Shape legend: B batch, T time, D model width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.memory_net import Net
from .memory import Memory, MemoryState, Rule
from .persistent_attention import PersistentAttention, WindowState


class BranchState(NamedTuple):
    """The states of the attention and of the memory."""

    attention: WindowState
    memory: MemoryState


class MemoryAsGate(nn.Module):
    """Two branches read the input, and the memory gates the attention.

    Args:
        d_model: width D of inputs and outputs.
        num_heads: heads of the attention and of the memory; divides `d_model`.
        window: steps that attention sees.
        num_persistent: learned tokens that attention always sees.
        rule: of the memory, see `Memory`.
        net: of the memory, see `Memory`.
        chunk_size: of the memory, see `Memory`.

    Raises:
        ValueError: as `Memory` and `PersistentAttention` do.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 4,
        window: int = 32,
        num_persistent: int = 4,
        rule: Rule = "titans",
        net: Net = "linear",
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        self.attention = PersistentAttention(
            d_model, num_heads=num_heads, window=window, num_persistent=num_persistent
        )
        self.memory = Memory(d_model, num_heads=num_heads, rule=rule, net=net, chunk_size=chunk_size)
        self.gate = Gate(d_model)

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> BranchState:
        return BranchState(
            self.attention.init_state(batch_size, device=device, dtype=dtype),
            self.memory.init_state(batch_size, device=device, dtype=dtype),
        )

    def forward(
        self, x_BTD: Tensor, state: BranchState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, BranchState]:
        if state is None:
            state = self.init_state(x_BTD.shape[0], device=x_BTD.device, dtype=x_BTD.dtype)
        a_BTD, attention = self.attention(x_BTD, state.attention, mask_BT=mask_BT)
        m_BTD, memory = self.memory(x_BTD, state.memory, mask_BT=mask_BT)
        return self.gate(a_BTD, m_BTD), BranchState(attention, memory)

    def step(
        self, x_BD: Tensor, state: BranchState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, BranchState]:
        a_BD, attention = self.attention.step(x_BD, state.attention, mask_B=mask_B)
        m_BD, memory = self.memory.step(x_BD, state.memory, mask_B=mask_B)
        return self.gate(a_BD, m_BD), BranchState(attention, memory)


class MemoryAsLayer(nn.Module):
    """The memory compresses the past, and attention reads what it put out.

    Args and errors: as for `MemoryAsGate`.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 4,
        window: int = 32,
        num_persistent: int = 4,
        rule: Rule = "titans",
        net: Net = "linear",
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        self.memory = Memory(d_model, num_heads=num_heads, rule=rule, net=net, chunk_size=chunk_size)
        self.norm = nn.LayerNorm(d_model)
        self.attention = PersistentAttention(
            d_model, num_heads=num_heads, window=window, num_persistent=num_persistent
        )

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> BranchState:
        return BranchState(
            self.attention.init_state(batch_size, device=device, dtype=dtype),
            self.memory.init_state(batch_size, device=device, dtype=dtype),
        )

    def forward(
        self, x_BTD: Tensor, state: BranchState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, BranchState]:
        if state is None:
            state = self.init_state(x_BTD.shape[0], device=x_BTD.device, dtype=x_BTD.dtype)
        m_BTD, memory = self.memory(x_BTD, state.memory, mask_BT=mask_BT)
        y_BTD, attention = self.attention(self.norm(x_BTD + m_BTD), state.attention, mask_BT=mask_BT)
        return y_BTD, BranchState(attention, memory)

    def step(
        self, x_BD: Tensor, state: BranchState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, BranchState]:
        m_BD, memory = self.memory.step(x_BD, state.memory, mask_B=mask_B)
        y_BD, attention = self.attention.step(self.norm(x_BD + m_BD), state.attention, mask_B=mask_B)
        return y_BD, BranchState(attention, memory)


class Gate(nn.Module):
    """out(norm(a) * silu(norm(m))), (..., D)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model)
        self.memory_norm = nn.LayerNorm(d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, a: Tensor, m: Tensor) -> Tensor:
        return self.out(self.attention_norm(a) * F.silu(self.memory_norm(m)))

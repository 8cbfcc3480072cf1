"""Memory as context (MAC): attention over a segment, and over what a long-term memory says about it.

Tokens come in segments of C. With M' the memory as it was when the segment began, and M the memory now,

    h_t = M'(x_t)                                      what is known of this from before the segment
    y_t = attention of x_t to persistent tokens, h_i and x_i, i <= t, of the segment
    M learns y_t,     z_t = out(norm(y_t) * silu(norm(M(y_t))))

Attention decides from both what the memory ought to keep. The paper lets every token of a segment see the h of all;
here only those up to its own, for an h of the future is made of the input of the future.

The state holds the keys and values of the segment so far, and both memories: segments are counted in real tokens, row
by row, and may begin in one call and end in another.

Source: Behrouz et al. 2025, "Titans: Learning to Memorize at Test Time" (arXiv 2501.00663, section 4.1).
Shape legend: B batch, T time, D model width, N segments of C tokens, E = 4 D.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..ops.chunks import exporting, fold, from_places, places, to_places
from ..ops.memory_net import Net
from ..state import accumulator_dtype, flatten, unflatten, where
from .memory import Memory, MemoryState, Rule
from .persistent_attention import attend
from .titans_blocks import Gate


class ContextState(NamedTuple):
    """Where a segment stands.

    kv: keys and values of h and of x in it (B, C, E), zeros where nothing came yet; place: tokens of it seen (B,);
    start, memory: the memory when it began, and now.
    """

    kv: Tensor
    place: Tensor
    start: MemoryState
    memory: MemoryState


class MemoryAsContext(nn.Module):
    """Attention inside segments, a memory across them.

    Args:
        d_model: width D of inputs and outputs.
        num_heads: heads of the attention and of the memory; divides `d_model`.
        segment: tokens C of a segment.
        num_persistent: learned tokens that attention always sees.
        rule: of the memory, see `Memory`.
        net: of the memory, see `Memory`.
        chunk_size: of the memory, see `Memory`.

    Raises:
        ValueError: where `segment` is not positive or `num_heads` does not divide `d_model`, and as `Memory` does.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 4,
        segment: int = 16,
        num_persistent: int = 4,
        rule: Rule = "titans",
        net: Net = "linear",
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        if segment < 1 or num_persistent < 0 or d_model % num_heads:
            raise ValueError(
                f"MemoryAsContext: segment is {segment}, it must be at least 1; num_persistent is {num_persistent}, "
                f"it must be at least 0; num_heads is {num_heads}, it must divide d_model {d_model}"
            )
        self.d_model, self.num_heads, self.segment = d_model, num_heads, segment
        self.memory = Memory(
            d_model, num_heads=num_heads, rule=rule, net=net, conv_width=1, chunk_size=chunk_size
        )
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.kv = nn.Linear(d_model, 2 * d_model, bias=False)
        self.persistent_PE = nn.Parameter(0.5 * torch.randn(num_persistent, 2 * d_model))
        self.gate = Gate(d_model)

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> ContextState:
        shape = (batch_size, self.segment, 4 * self.d_model)
        return ContextState(
            torch.zeros(shape, device=device, dtype=accumulator_dtype(dtype)),
            torch.zeros(batch_size, device=device, dtype=torch.long),
            self.memory.init_state(batch_size, device=device, dtype=dtype),
            self.memory.init_state(batch_size, device=device, dtype=dtype),
        )

    def forward(
        self, x_BTD: Tensor, state: ContextState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, ContextState]:
        if state is None:
            state = self.init_state(x_BTD.shape[0], device=x_BTD.device, dtype=x_BTD.dtype)
        if mask_BT is None:
            mask_BT = torch.ones_like(x_BTD[..., 0], dtype=torch.bool)
        if exporting():
            return self._scanned(x_BTD, state, mask_BT)
        place_BT, segments = places(mask_BT, state.place, self.segment)
        x_BNCD = to_places(x_BTD, place_BT, segments, self.segment)
        real_BNC = to_places(mask_BT, place_BT, segments, self.segment)
        outputs = []
        for x_BCD, real_BC in zip(x_BNCD.unbind(1), real_BNC.unbind(1), strict=True):
            y_BCD, state = self._segment(x_BCD, state, real_BC)
            outputs.append(y_BCD)
        return from_places(torch.stack(outputs, 1), place_BT), state

    def step(
        self, x_BD: Tensor, state: ContextState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, ContextState]:
        if mask_B is None:
            mask_B = torch.ones_like(x_BD[..., 0], dtype=torch.bool)
        number_C = torch.arange(self.segment, device=x_BD.device)
        here_BC = (number_C == state.place[:, None]) & mask_B[:, None]
        kv_BCE = torch.where(here_BC[..., None], self._kv(x_BD[:, None], state).to(state.kv.dtype), state.kv)
        y_BD = self._attend(x_BD[:, None], kv_BCE, (number_C <= state.place[:, None])[:, None])[:, 0]
        m_BD, memory = self.memory.step(y_BD, state.memory, mask_B=mask_B)
        return self.gate(y_BD, m_BD), self._after(kv_BCE, mask_B.long(), memory, state)

    def _segment(self, x_BCD: Tensor, state: ContextState, real_BC: Tensor) -> tuple[Tensor, ContextState]:
        """What one call brings of one segment, each token at its place."""
        kv_BCE = torch.where(real_BC[..., None], self._kv(x_BCD, state).to(state.kv.dtype), state.kv)
        number_C = torch.arange(self.segment, device=x_BCD.device)
        causal_BCC = (number_C <= number_C[:, None]).expand(x_BCD.shape[0], -1, -1)
        y_BCD = self._attend(x_BCD, kv_BCE, causal_BCC)
        m_BCD, memory = self.memory(y_BCD, state.memory, mask_BT=real_BC)
        return self.gate(y_BCD, m_BCD), self._after(kv_BCE, real_BC.sum(1), memory, state)

    def _scanned(self, x_BTD: Tensor, state: ContextState, mask_BT: Tensor) -> tuple[Tensor, ContextState]:
        like = state

        def step(carry: list[Tensor], now: list[Tensor]) -> tuple[list[Tensor], Tensor]:
            before = unflatten(like, dict(zip(flatten(like), carry, strict=True)))
            y_BD, after = self.step(now[0], before, mask_B=now[1])
            return [*flatten(after).values()], y_BD

        carry, y_TBD = fold(step, [*flatten(state).values()], [x_BTD.transpose(0, 1), mask_BT.T])
        return y_TBD.transpose(0, 1), unflatten(like, dict(zip(flatten(like), carry, strict=True)))

    def _kv(self, x_BTD: Tensor, state: ContextState) -> Tensor:
        """Keys and values (B, T, E) of what the memory knew of x when the segment began, and of x."""
        h_BTD = self.memory.read(x_BTD, state.start)
        return torch.cat([self.kv(h_BTD), self.kv(x_BTD)], -1)

    def _attend(self, x_BTD: Tensor, kv_BCE: Tensor, allowed_BTC: Tensor) -> Tensor:
        kv_BSE = torch.cat(kv_BCE.chunk(2, -1), 1)
        allowed_BTS = torch.cat([allowed_BTC, allowed_BTC], -1)
        return attend(self.query(x_BTD), kv_BSE, self.persistent_PE, allowed_BTS, self.num_heads)

    def _after(
        self, kv_BCE: Tensor, tokens_B: Tensor, memory: MemoryState, state: ContextState
    ) -> ContextState:
        place_B = state.place + tokens_B
        full_B = place_B == self.segment
        return ContextState(
            torch.where(full_B[:, None, None], 0.0, kv_BCE),
            place_B.masked_fill(full_B, 0),
            where(full_B, memory, state.start),
            memory,
        )

"""Memories that learn while they run: a small map from keys to values, one gradient step at every token.

Full attention keeps every key and value; these layers keep the weights of a map M that was trained on them. A token
writes its value at its key by one step of gradient descent on an inner loss, and reads M at its query. So a memory
looks up by content, as attention does, in constant space. What differs from rule to rule is one equation; it stands
with its source in the file named.

    delta          M(k) -> v, the correction of what was wrong       ops/delta_rule.py
    gated_delta    the same, and old entries fade
    titans         the same, and corrections carry on for a while    ops/titans.py

Keys and queries have length 1. Gates come from the input, one number a head: write (size of the step), keep, momentum.

Shape legend: B batch, T time, D model width, H heads, K key width, V value width, P = H (2 K + V), W filter width.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.delta_rule import CHUNK, delta_rule, delta_step
from ..ops.short_conv import short_conv, short_conv_step
from ..ops.titans import MomentumState, titans, titans_step
from ..state import accumulator_dtype

Rule: TypeAlias = Literal["delta", "gated_delta", "titans"]

SHORTEST = 1e-6
"""Added to the squared length of a key: a key of zeros stays one, with a finite gradient."""


class MemoryState(NamedTuple):
    """Last inputs of the filters (B, W - 1, P), `()` without filters, and the memory itself."""

    past: Any
    memory: Any


class Inputs(NamedTuple):
    """What one token (or a sequence of them) brings: vectors (..., H, width) and gates (..., H)."""

    q: Tensor
    k: Tensor
    v: Tensor
    write: Tensor
    log_keep: Tensor | None
    log_momentum: Tensor | None


class Memory(nn.Module):
    """Associative memory with a constant state.

    Args:
        d_model: width D of inputs and outputs.
        num_heads: memories H side by side.
        rule: how a token changes the memory; see the head of this file.
        key_width: K of each head; None for `d_model / num_heads`.
        value_width: V of each head; None for `d_model / num_heads`.
        conv_width: steps W that keys, values and queries see of the past, themselves included; 1 for none.
        chunk_size: steps solved for at once in training; a matter of speed only.
        max_write: upper bound of the write gate. From 2 on a step overshoots and the memory may diverge.

    Raises:
        ValueError: where a width is asked for that does not divide `d_model`, a rule is unknown, or a size is not
            positive.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 4,
        rule: Rule = "delta",
        key_width: int | None = None,
        value_width: int | None = None,
        conv_width: int = 4,
        chunk_size: int = CHUNK,
        max_write: float = 1.0,
    ) -> None:
        super().__init__()
        if rule not in get_args(Rule):
            raise ValueError(f"Memory: rule is {rule!r}; use one of {list(get_args(Rule))}")
        if d_model % num_heads and None in (key_width, value_width):
            raise ValueError(
                f"Memory: num_heads {num_heads} does not divide d_model {d_model}; give key_width and value_width"
            )
        key_width, value_width = key_width or d_model // num_heads, value_width or d_model // num_heads
        sizes = {"conv_width": conv_width, "chunk_size": chunk_size, "max_write": max_write}
        wrong = {name: size for name, size in sizes.items() if size <= 0}
        if wrong:
            raise ValueError(f"Memory: {wrong} must be positive; conv_width 1 means no filter")
        self.d_model, self.num_heads, self.rule = d_model, num_heads, rule
        self.key_width, self.value_width = key_width, value_width
        self.chunk_size, self.max_write = chunk_size, max_write
        self.qkv = nn.Linear(d_model, num_heads * (2 * key_width + value_width), bias=False)
        self.out = nn.Linear(num_heads * value_width, d_model)
        self.filter_WP = nn.Parameter(_filters(conv_width, self.qkv.out_features)) if conv_width > 1 else None
        self.start_HKV = nn.Parameter(torch.zeros(num_heads, key_width, value_width))
        self.write = _gate(d_model, torch.zeros(num_heads))
        # at the start an entry fades to 1/e after 20 to 150 tokens, and a correction at once to 3 tokens
        self.keep = _gate(d_model, torch.linspace(3, 5, num_heads)) if rule != "delta" else None
        self.momentum = _gate(d_model, torch.linspace(-3, 0, num_heads)) if rule == "titans" else None

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> MemoryState:
        dtype = accumulator_dtype(dtype)
        w_BHKV = self.start_HKV.to(device, dtype).expand(batch_size, -1, -1, -1).clone()
        memory = MomentumState(w_BHKV, torch.zeros_like(w_BHKV)) if self.rule == "titans" else w_BHKV
        if self.filter_WP is None:
            return MemoryState((), memory)
        width, channels = self.filter_WP.shape
        return MemoryState(torch.zeros(batch_size, width - 1, channels, device=device, dtype=dtype), memory)

    def forward(
        self, x_BTD: Tensor, state: MemoryState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        if state is None:
            state = self.init_state(x_BTD.shape[0], device=x_BTD.device, dtype=x_BTD.dtype)
        qkv_BTP, past = self.qkv(x_BTD), state.past
        if self.filter_WP is not None:
            qkv_BTP, past = short_conv(qkv_BTP, self.filter_WP, past, mask_BT=mask_BT)
        q, k, v, write, log_keep, log_momentum = (
            None if part is None else part.transpose(1, 2) for part in self._inputs(x_BTD, qkv_BTP)
        )
        if log_momentum is not None:
            y_BHTV, memory = titans(
                q,
                k,
                v,
                write,
                log_keep,
                log_momentum,
                state.memory,
                mask_BT=mask_BT,
                chunk_size=self.chunk_size,
            )
        else:
            y_BHTV, memory = delta_rule(
                q,
                k,
                v,
                write,
                state.memory,
                log_keep_BHT=log_keep,
                mask_BT=mask_BT,
                chunk_size=self.chunk_size,
            )
        return self._output(y_BHTV.transpose(1, 2), x_BTD.dtype), MemoryState(past, memory)

    def step(
        self, x_BD: Tensor, state: MemoryState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        qkv_BP, past = self.qkv(x_BD), state.past
        if self.filter_WP is not None:
            qkv_BP, past = short_conv_step(qkv_BP, self.filter_WP, past, mask_B=mask_B)
        q, k, v, write, log_keep, log_momentum = self._inputs(x_BD, qkv_BP)
        if log_momentum is not None:
            y_BHV, memory = titans_step(q, k, v, write, log_keep, log_momentum, state.memory, mask_B=mask_B)
        else:
            y_BHV, memory = delta_step(q, k, v, write, state.memory, log_keep_BH=log_keep, mask_B=mask_B)
        return self._output(y_BHV, x_BD.dtype), MemoryState(past, memory)

    def _inputs(self, x: Tensor, qkv: Tensor) -> Inputs:
        """Inputs (..., D) and filtered projections (..., P) to vectors and gates, in float32 or wider."""
        dtype = accumulator_dtype(x.dtype)
        widths = [self.key_width, self.key_width, self.value_width]
        q, k, v = qkv.to(dtype).unflatten(-1, (self.num_heads, -1)).split(widths, -1)
        return Inputs(
            _unit(q),
            _unit(k),
            v,
            self.max_write * self.write(x).to(dtype).sigmoid(),
            None if self.keep is None else F.logsigmoid(self.keep(x).to(dtype)),
            None if self.momentum is None else F.logsigmoid(self.momentum(x).to(dtype)),
        )

    def _output(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        return self.out(y.flatten(-2).to(dtype))


def _gate(d_model: int, bias_H: Tensor) -> nn.Linear:
    gate = nn.Linear(d_model, len(bias_H))
    gate.bias.data.copy_(bias_H)
    return gate


def _filters(width: int, channels: int) -> Tensor:
    """Filters (W, P) that start near "the newest step alone"."""
    filter_WP = torch.randn(width, channels) * 0.5 / width
    filter_WP[0] += 1
    return filter_WP


def _unit(x: Tensor) -> Tensor:
    """Vectors of length 1; short ones stay shorter."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + SHORTEST)

"""Memories that learn while they run: a small map from keys to values, one gradient step at every token.

Full attention keeps every key and value; these layers keep the weights of a map M that was trained on them. A token
writes its value at its key by one step of gradient descent on an inner loss, and reads M at its query. So a memory
looks up by content, as attention does, in constant space. What differs from rule to rule is one equation; it stands
with its source in the file named.

    delta          M(k) -> v, the correction of what was wrong       ops/delta_rule.py
    gated_delta    the same, and old entries fade
    titans         the same, and corrections carry on for a while    ops/titans.py
    yaad           Huber's loss: a wild value moves it no more than a tame one       ops/miras.py
    moneta         a loss of power 3, weights in a 4-norm                            ops/miras.py
    memora         positive weights of constant sum                                  ops/miras.py

The map is a matrix, or for any of the rules a net of two layers (ops/memory_net.py). Keys and queries have length 1.
Gates come from the input, one number a head: write (size of the step), keep, momentum, and Huber's threshold; the paper
of Miras has one a channel.

Shape legend: B batch, T time, D model width, H heads, K key width, V value width, P = H (2 K + V), W filter width.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.delta_rule import CHUNK, delta_rule, delta_step
from ..ops.memory_net import NETS, Net, shapes
from ..ops.miras import Miras, Token, miras, miras_read, miras_state, miras_step
from ..ops.short_conv import short_conv, short_conv_step
from ..ops.titans import MomentumState, titans, titans_step
from ..state import accumulator_dtype

Rule: TypeAlias = Literal["delta", "gated_delta", "titans", "yaad", "moneta", "memora"]

_MIRAS: dict[str, Miras] = {
    "delta": Miras(),
    "gated_delta": Miras(),
    "titans": Miras(),
    "yaad": Miras(loss="huber"),
    "moneta": Miras(p=3.0, q=4.0),
    "memora": Miras(retention="simplex"),
}

SHORTEST = 1e-4
"""Added to the squared length of a key: one that is almost nothing is not blown up, rounding and all."""


class MemoryState(NamedTuple):
    """Last inputs of the filters (B, W - 1, P), `()` without filters, and the memory itself.

    memory: a matrix (B, H, K, V), with momentum a `MomentumState`, and a `MirasState` where chunks matter.
    """

    past: Any
    memory: Any


class Memory(nn.Module):
    """Associative memory with a constant state.

    Args:
        d_model: width D of inputs and outputs.
        num_heads: memories H side by side.
        rule: how a token changes the memory; see the head of this file.
        key_width: K of each head; None for `d_model / num_heads`.
        value_width: V of each head; None for `d_model / num_heads`.
        net: the map from keys to values: "linear", or "mlp", a net of two layers (then K = V).
        conv_width: steps W that keys, values and queries see of the past, themselves included; 1 for none.
        chunk_size: tokens written at once in training. For delta, gated_delta and titans with the linear net a matter
            of speed only (None: 16). For all others gradients are taken at the start of a chunk, so it is part of the
            model: 1 (None) is the rule itself, more is faster to train.
        max_write: upper bound of the write gate, of its sum over a chunk where gradients are taken at the chunk's
            start; 1 corrects the whole error at once, from 2 on a step overshoots and the memory may diverge.

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
        net: Net = "linear",
        conv_width: int = 4,
        chunk_size: int | None = None,
        max_write: float = 1.0,
    ) -> None:
        super().__init__()
        if rule not in get_args(Rule):
            raise ValueError(f"Memory: rule is {rule!r}; use one of {list(get_args(Rule))}")
        if net not in NETS:
            raise ValueError(f"Memory: net is {net!r}; use one of {list(NETS)}")
        if d_model % num_heads and None in (key_width, value_width):
            raise ValueError(
                f"Memory: num_heads {num_heads} does not divide d_model {d_model}; give key_width and value_width"
            )
        key_width, value_width = key_width or d_model // num_heads, value_width or d_model // num_heads
        exact = net == "linear" and rule in ("delta", "gated_delta", "titans")
        if chunk_size is None:
            chunk_size = CHUNK if exact else 1
        sizes = {"conv_width": conv_width, "chunk_size": chunk_size, "max_write": max_write}
        wrong = {name: size for name, size in sizes.items() if size <= 0}
        if wrong:
            raise ValueError(f"Memory: {wrong} must be positive; conv_width 1 means no filter")
        self.d_model, self.num_heads, self.rule = d_model, num_heads, rule
        self.key_width, self.value_width = key_width, value_width
        self.chunk_size = chunk_size
        self.max_write = max_write / _curvature(rule, net, key_width) / (1 if exact else chunk_size)
        self.miras = (
            None
            if exact
            else _MIRAS[rule]._replace(net=net, chunk_size=chunk_size, variance=_variance(rule, key_width))
        )
        self.qkv = nn.Linear(d_model, num_heads * (2 * key_width + value_width), bias=False)
        self.out = nn.Linear(num_heads * value_width, d_model)
        self.filter_WP = nn.Parameter(_filters(conv_width, self.qkv.out_features)) if conv_width > 1 else None
        self.start = nn.ParameterList(
            _start(rule, net, num_heads, *shape) for shape in shapes(net, key_width, value_width)
        )
        self.write = _gate(d_model, torch.zeros(num_heads))
        # at the start an entry fades to 1/e after 20 to 150 tokens, and a correction at once to 3 tokens
        self.keep = _gate(d_model, torch.linspace(3, 5, num_heads)) if rule != "delta" else None
        self.momentum = _gate(d_model, torch.linspace(-3, 0, num_heads)) if rule == "titans" else None
        # softplus of it: 1, the length of a key
        self.threshold = _gate(d_model, torch.full((num_heads,), 0.54)) if rule == "yaad" else None

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> MemoryState:
        dtype = accumulator_dtype(dtype)
        w = [start_HIO.to(device, dtype).expand(batch_size, -1, -1, -1).clone() for start_HIO in self.start]
        memory: Any = w[0]
        if self.miras is not None:
            memory = miras_state(self.miras, w, momentum=self.rule == "titans")
        elif self.rule == "titans":
            memory = MomentumState(w[0], torch.zeros_like(w[0]))
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
        tokens = Token(
            *(None if part is None else part.transpose(1, 2) for part in self._tokens(x_BTD, qkv_BTP))  # type: ignore[arg-type]
        )
        y_BHTV, memory = self._write(tokens, state.memory, mask_BT)
        return self._output(y_BHTV.transpose(1, 2), x_BTD.dtype), MemoryState(past, memory)

    def step(
        self, x_BD: Tensor, state: MemoryState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        qkv_BP, past = self.qkv(x_BD), state.past
        if self.filter_WP is not None:
            qkv_BP, past = short_conv_step(qkv_BP, self.filter_WP, past, mask_B=mask_B)
        y_BHV, memory = self._write_one(self._tokens(x_BD, qkv_BP), state.memory, mask_B)
        return self._output(y_BHV, x_BD.dtype), MemoryState(past, memory)

    def read(self, x_BTD: Tensor, state: MemoryState) -> Tensor:
        """What the memory answers to each input as it is now, (B, T, D); nothing is written.

        Raises:
            ValueError: where queries depend on steps before, which a question without a place in time has not.
        """
        if self.filter_WP is not None:
            raise ValueError("Memory.read: queries pass through filters over time; make it with conv_width=1")
        q_BHTK = self._tokens(x_BTD, self.qkv(x_BTD)).q.transpose(1, 2)
        if self.miras is not None:
            y_BHTV = miras_read(self.miras, q_BHTK, state.memory)
        else:
            w_BHKV = state.memory.w if self.rule == "titans" else state.memory
            with torch.autocast(x_BTD.device.type, enabled=False):
                y_BHTV = q_BHTK.to(w_BHKV.dtype) @ w_BHKV
        return self._output(y_BHTV.transpose(1, 2), x_BTD.dtype)

    def _write(self, tokens: Token, memory: Any, mask_BT: Tensor | None) -> tuple[Tensor, Any]:
        if self.miras is not None:
            return miras(self.miras, tokens, memory, mask_BT=mask_BT)
        q, k, v, write, keep, momentum, _ = tokens
        if momentum is not None:
            return titans(q, k, v, write, keep, momentum, memory, mask_BT=mask_BT, chunk_size=self.chunk_size)
        return delta_rule(
            q, k, v, write, memory, log_keep_BHT=keep, mask_BT=mask_BT, chunk_size=self.chunk_size
        )

    def _write_one(self, token: Token, memory: Any, mask_B: Tensor | None) -> tuple[Tensor, Any]:
        if self.miras is not None:
            return miras_step(self.miras, token, memory, mask_B=mask_B)
        q, k, v, write, keep, momentum, _ = token
        if momentum is not None:
            return titans_step(q, k, v, write, keep, momentum, memory, mask_B=mask_B)
        return delta_step(q, k, v, write, memory, log_keep_BH=keep, mask_B=mask_B)

    def _tokens(self, x: Tensor, qkv: Tensor) -> Token:
        """Inputs (..., D) and filtered projections (..., P) to vectors and gates, in float32 or wider."""
        dtype = accumulator_dtype(x.dtype)
        widths = [self.key_width, self.key_width, self.value_width]
        q, k, v = qkv.to(dtype).unflatten(-1, (self.num_heads, -1)).split(widths, -1)
        write = self.max_write * self.write(x).to(dtype).sigmoid()
        return Token(
            _unit(q),
            _unit(k),
            # losses and weights that grow faster than the error want values as bounded as keys
            _unit(v) if self.rule in ("moneta", "memora") else v,
            write,
            torch.zeros_like(write) if self.keep is None else F.logsigmoid(self.keep(x).to(dtype)),
            None if self.momentum is None else F.logsigmoid(self.momentum(x).to(dtype)),
            None if self.threshold is None else F.softplus(self.threshold(x).to(dtype)),
        )

    def _output(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        return self.out(y.flatten(-2).to(dtype))


def _gate(d_model: int, bias_H: Tensor) -> nn.Linear:
    gate = nn.Linear(d_model, len(bias_H))
    gate.bias.data.copy_(bias_H)
    return gate


def _start(rule: str, net: str, num_heads: int, inputs: int, outputs: int) -> nn.Parameter:
    """The memory before anything was seen: empty where an empty one can learn."""
    start_HIO = torch.randn(num_heads, inputs, outputs)
    scale = 0.5 if rule == "memora" else (2 / (inputs + outputs)) ** 0.5
    return nn.Parameter(start_HIO * (scale if net == "mlp" else 0.0))


def _curvature(rule: str, net: str, key_width: int) -> float:
    """How much of its own error a gradient step of size 1 takes away, about, while the memory is as at the start.

    The matrix: |k|^2 = 1, times a weight for Memora, whose steps are relative. The mlp: its norm divides by the small
    deviation of what the weights put out, squared; with weights of variance v each layer gives 1 / v, v = 2 / (5 K) at
    the start. Memora's weights have a variance near 0.3.
    """
    if net == "linear":
        return 2.0 if rule == "memora" else 1.0
    return 6.0 if rule == "memora" else 5.0 * key_width


def _variance(rule: str, key_width: int) -> float:
    """The variance that the mlp puts into its norm at the start: see ops/memory_net.py."""
    return 0.1 * key_width if rule == "memora" else 0.16 / key_width


def _filters(width: int, channels: int) -> Tensor:
    """Filters (W, P) that start near "the newest step alone"."""
    filter_WP = torch.randn(width, channels) * 0.5 / width
    filter_WP[0] += 1
    return filter_WP


def _unit(x: Tensor) -> Tensor:
    """Vectors of length 1; short ones stay shorter."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + SHORTEST)

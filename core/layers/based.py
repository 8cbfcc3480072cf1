"""Based: attention by a polynomial over the whole past, by softmax over the last steps, behind a short convolution.

    h_t = x_t + (W x_t) * silu(sum_j f_j x_{t-j})              what stood just before, in one place with this step
    y_t = taylor attention of h over all steps + softmax attention of h over the last `window`

Weights 1 + u + u^2 / 2 look up by content in a state of fixed size, sharper than elu features do; the window is exact
where the polynomial is blunt, on what is near. The paper puts the three in turn, one a block; side by side in one
layer they need no list of layers, and `window=None` or `conv_width=1` leave one out.

Ours: keys and queries of the polynomial have entries of mean square 1, and each head learns how sharp it is. Products
of four inputs go into sums that never forget; without that, one outlier would outweigh the rest of a long life.

Source: Arora et al. 2024, "Simple linear attention language models balance the recall-throughput tradeoff"
(arXiv 2402.18668). The SiLU is that of ops/short_conv.py.
Shape legend: B batch, T time, D model width, H heads, K key width, F features, V value width, E = V + 1, C width of
the filters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..ops.linear_attention import linear_attention, linear_step
from ..ops.short_conv import short_conv, short_conv_step
from ..ops.taylor import LEAST, taylor_features, taylor_width
from ..state import accumulator_dtype
from .attention import CausalAttention

SHORTEST = 1e-6
"""Added to mean squares: a key of zeros stays one, with a finite gradient."""


class BasedState(NamedTuple):
    """Last inputs of the filters (B, C - 1, D), sums of the features (B, H, F, E), and the window's `RingState`.

    Parts that the layer does not have are `()`.
    """

    past: Any
    sum: Tensor
    window: Any


class Based(nn.Module):
    """Taylor linear attention, a sliding window and a short gated convolution, with a constant state.

    Args:
        d_model: width D of inputs and outputs.
        num_heads: heads H; divides `d_model`.
        key_width: K of each head of the polynomial; it has 1 + K + K (K + 1) / 2 features.
        window: steps that softmax attention looks at, the newest included; None for none.
        conv_width: steps C that the convolution sees, the newest included; 1 for none.

    Raises:
        ValueError: where `num_heads` does not divide `d_model` or a size is not positive.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 4,
        key_width: int = 8,
        window: int | None = 64,
        conv_width: int = 3,
    ) -> None:
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"Based: num_heads {num_heads} does not divide d_model {d_model}")
        sizes = {"key_width": key_width, "window": window, "conv_width": conv_width}
        wrong = {name: size for name, size in sizes.items() if size is not None and size < 1}
        if wrong:
            raise ValueError(f"Based: {wrong} must be at least 1; no window is None, no convolution is 1")
        self.d_model, self.num_heads, self.conv_width = d_model, num_heads, conv_width
        self.widths = [key_width, key_width, d_model // num_heads]
        self.qkv = nn.Linear(d_model, num_heads * sum(self.widths), bias=False)
        self.sharpness_H1 = nn.Parameter(torch.ones(num_heads, 1))
        self.out = nn.Linear(d_model, d_model)
        self.window = None if window is None else CausalAttention(d_model, num_heads=num_heads, window=window)
        if conv_width > 1:
            self.gate = nn.Linear(d_model, d_model)
            self.filter_CD = nn.Parameter(torch.randn(conv_width, d_model) * conv_width**-0.5)

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> BasedState:
        kind: dict[str, Any] = {"device": device, "dtype": accumulator_dtype(dtype)}
        features = taylor_width(self.widths[0])
        return BasedState(
            torch.zeros(batch_size, self.conv_width - 1, self.d_model, **kind) if self.conv_width > 1 else (),
            torch.zeros(batch_size, self.num_heads, features, self.widths[2] + 1, **kind),
            () if self.window is None else self.window.init_state(batch_size, device=device, dtype=dtype),
        )

    def forward(
        self, x_BTD: Tensor, state: BasedState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, BasedState]:
        if state is None:
            state = self.init_state(x_BTD.shape[0], device=x_BTD.device, dtype=x_BTD.dtype)
        h_BTD, past, window = x_BTD, state.past, state.window
        if self.conv_width > 1:
            near_BTD, past = short_conv(x_BTD, self.filter_CD, past, mask_BT=mask_BT)
            h_BTD = x_BTD + self.gate(x_BTD) * near_BTD.to(x_BTD.dtype)
        q, k, v = (part.transpose(1, 2) for part in self._features(h_BTD))
        y_BHTV, sum_BHFE = linear_attention(q, k, v, state.sum, least=LEAST, mask_BT=mask_BT)
        y_BTD = self.out(y_BHTV.transpose(1, 2).flatten(2))
        if self.window is not None:
            local_BTD, window = self.window(h_BTD, window, mask_BT=mask_BT)
            y_BTD = y_BTD + local_BTD
        return y_BTD, BasedState(past, sum_BHFE, window)

    def step(
        self, x_BD: Tensor, state: BasedState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, BasedState]:
        h_BD, past, window = x_BD, state.past, state.window
        if self.conv_width > 1:
            near_BD, past = short_conv_step(x_BD, self.filter_CD, past, mask_B=mask_B)
            h_BD = x_BD + self.gate(x_BD) * near_BD.to(x_BD.dtype)
        y_BHV, sum_BHFE = linear_step(*self._features(h_BD), state.sum, least=LEAST, mask_B=mask_B)
        y_BD = self.out(y_BHV.flatten(1))
        if self.window is not None:
            local_BD, window = self.window.step(h_BD, window, mask_B=mask_B)
            y_BD = y_BD + local_BD
        return y_BD, BasedState(past, sum_BHFE, window)

    def _features(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., D) to features of queries and keys (..., H, F) in float32 or wider, and values (..., H, V)."""
        q, k, v = self.qkv(h).unflatten(-1, (self.num_heads, -1)).split(self.widths, -1)
        # products of rounded entries would not be those of a vector with itself
        q, k = (_even(x.to(accumulator_dtype(x.dtype))) for x in (q, k))
        return taylor_features(self.sharpness_H1 * q), taylor_features(k), v


def _even(x_K: Tensor) -> Tensor:
    """Vectors with entries of mean square 1; short ones stay shorter."""
    return x_K * torch.rsqrt(x_K.square().mean(-1, keepdim=True) + SHORTEST)

"""A short causal convolution, one filter a channel: each step sees itself and the few real steps before it.

    y_t = sum_{j < W} f_j x_{t-j}, then SiLU

What a layer must know of the last few steps, as "which value followed this key", without attention. The state is the
last W - 1 real inputs.

Source: the width-4 depthwise convolutions before keys, queries and values of Titans, Mamba and Gated DeltaNet.
Shape legend: B batch, T time, C channels, W width of the filters, S = W - 1 + T.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .history import extend, left_places, newest, take


def short_conv(
    x_BTC: Tensor, filter_WC: Tensor, past_BWC: Tensor, *, mask_BT: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Filtered inputs (B, T, C) in the type of the state, and the inputs to remember (B, W - 1, C).

    Args:
        x_BTC: inputs; T may be 0.
        filter_WC: weight of the newest step first.
        past_BWC: the last W - 1 real inputs, oldest first; zeros where there were none.
        mask_BT: True on real steps; the others are skipped.
    """
    if mask_BT is None:
        all_BSC = torch.cat([past_BWC, x_BTC.to(past_BWC.dtype)], 1)
        return _filtered(all_BSC, filter_WC, x_BTC.shape[1]), all_BSC[:, x_BTC.shape[1] :]
    all_BSC = extend(past_BWC, x_BTC, mask_BT)
    y_BTC = _filtered(all_BSC, filter_WC, x_BTC.shape[1])
    return take(y_BTC, left_places(mask_BT)), newest(all_BSC, mask_BT)


def short_conv_step(
    x_BC: Tensor, filter_WC: Tensor, past_BWC: Tensor, *, mask_B: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One step of `short_conv`: (B, C), and the inputs to remember."""
    all_BWC = torch.cat([past_BWC, x_BC[:, None].to(past_BWC.dtype)], 1)
    after = all_BWC[:, 1:]
    if mask_B is not None:
        after = torch.where(mask_B[:, None, None], after, past_BWC)
    return _filtered(all_BWC, filter_WC, 1)[:, 0], after


def _filtered(all_BSC: Tensor, filter_WC: Tensor, time: int) -> Tensor:
    # shifted sums and not conv1d: the same rounding at every length
    newest = len(filter_WC) - 1
    filters = filter_WC.to(all_BSC.dtype).unbind(0)
    y_BTC = sum(f_C * all_BSC[:, newest - j : newest - j + time] for j, f_C in enumerate(filters))
    return F.silu(torch.as_tensor(y_BTC))

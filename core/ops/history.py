"""The last W real steps, oldest first: the memory of layers that look back at single steps.

Kept steps are shifted, not overwritten in a ring, so that in window and step form the newest one stands at the end and
distances are differences of places.

Shape legend: B batch, T time, W kept steps, S = W + T, ... anything.
"""

from __future__ import annotations

import torch
from torch import Tensor


def real_before(mask_BT: Tensor) -> Tensor:
    """Number of real steps before each step, (B, T)."""
    real_BT = mask_BT.long()
    return real_BT.cumsum(1) - real_BT


def left_places(mask_BT: Tensor) -> Tensor:
    """Where each step goes when the real ones move to the left and the others follow, order kept."""
    idle_BT = ~mask_BT
    return torch.where(mask_BT, real_before(mask_BT), mask_BT.sum(1, keepdim=True) + real_before(idle_BT))


def to_left(new_BT_: Tensor, mask_BT: Tensor) -> Tensor:
    """(B, T, ...) with the real steps in front, in their order."""
    return torch.zeros_like(new_BT_).scatter(1, _spread(left_places(mask_BT), new_BT_), new_BT_)


def take(all_BS_: Tensor, place_BT: Tensor) -> Tensor:
    """(B, T, ...): of each row of the batch the steps at `place_BT`."""
    return all_BS_.gather(1, _spread(place_BT, all_BS_))


def extend(kept_BW_: Tensor, new_BT_: Tensor, mask_BT: Tensor) -> Tensor:
    """(B, S, ...): the kept steps and behind them the real new ones; what is not real stands at the end."""
    return torch.cat([kept_BW_, to_left(new_BT_.to(kept_BW_.dtype), mask_BT)], 1)


def newest(all_BS_: Tensor, mask_BT: Tensor) -> Tensor:
    """(B, W, ...): what to keep of an `extend` by steps of this mask. Bit for bit as before where none is real."""
    width = all_BS_.shape[1] - mask_BT.shape[1]
    place_W = torch.arange(width, device=mask_BT.device)
    return take(all_BS_, mask_BT.sum(1, keepdim=True) + place_W)


def _spread(place_BT: Tensor, like_B_: Tensor) -> Tensor:
    extra = like_B_.shape[2:]
    return place_BT.view(*place_BT.shape, *[1] * len(extra)).expand(*place_BT.shape, *extra)

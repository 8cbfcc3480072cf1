"""What the training of both pointers shares: choices to look again from, and a learning rate that falls to zero.

Shape legend: S steps or edges, N candidates.
"""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from ...core.ops.softmax_scan import NOTHING


def rival_choice(logit: Tensor, target: Tensor, feasible: Tensor) -> Tensor:
    """Candidates (S,) int64 to look again from: of a half of the steps the net's own choice, of a quarter a random one,
    of a quarter the likeliest that is wrong.

    Args:
        logit: (S, N) of the glimpse before. target: (S,) where the step goes.
        feasible: (S, N) bool; where the target is the only one, it is the choice.
    """
    own = logit.argmax(-1)
    is_target = torch.arange(logit.shape[1], device=logit.device) == target[:, None]
    rival = logit.detach().masked_fill(is_target, 2 * NOTHING).argmax(-1)
    rival = torch.where((feasible & ~is_target).any(-1), rival, own)
    random = torch.rand_like(logit).masked_fill(~feasible, -1.0).argmax(-1)
    hand = torch.rand(len(own), device=own.device)
    return torch.where(hand < 0.5, own, torch.where(hand < 0.75, random, rival))


def falling_rate(module: LightningModule, lr: float) -> dict[str, object]:
    """AdamW whose rate falls from `lr` to zero in a line."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=0.0)
    steps = max(int(module.trainer.estimated_stepping_batches), 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(1 - step / steps, 0.0))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

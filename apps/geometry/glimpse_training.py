"""What the training of both pointers shares: choices to look again from, a falling rate, and a short fit for tables.

Shape legend: S steps or edges, N candidates.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from ...core.ops.softmax_scan import NOTHING
from ..module import TaskModule
from .data import GeometryData, Task


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


def train_for(
    module: TaskModule, task: Task, *, batch_size: int, seconds: float, seed: int, instances: int = 2300
) -> TaskModule:
    """A short training of so many CPU seconds without the command line, on uniform instances of 5 to 50 points.

    Labels are made on the way, and not counted.
    """
    data = GeometryData(task, sizes=[5, 50], every=True, instances=instances, seed=seed)
    pools = list(data.training.values())
    optimizer = torch.optim.AdamW(module.parameters(), lr=module.hparams.lr, weight_decay=0.0)
    rng = np.random.default_rng(seed)
    module.train()
    started = time.process_time()
    while (spent := time.process_time() - started) < seconds:
        for group in optimizer.param_groups:
            group["lr"] = module.hparams.lr * (1 - spent / seconds)
        pool = pools[rng.integers(len(pools))]
        rows = rng.integers(len(pool.x), size=batch_size)
        loss = module.loss({"x": torch.from_numpy(pool.x[rows]), "label": torch.from_numpy(pool.label[rows])})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module.eval()

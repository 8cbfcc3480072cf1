"""The local-frame tour policy under Lightning: supervised by tours of our own search, exported as loops that decode.

A tour teaches a path problem from every node and with every number of nodes left, mirrored and in both directions, and
every node seen is asked for its neighbours, not the two ends alone.

Shape legend: B instances, R states, N nodes, m nodes left, S nodes seen.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ...core.decode import greedy
from ...core.half import round_to_half
from ...core.local_tour import PathNetwork, PathPolicy, Seen, look
from ..module import Batch, TaskModule
from ..schedule import one_cycle
from .tour_bundle import write_tour_bundle
from .tour_weights import read_policy

BETAS = (0.9, 0.98)
FEWEST_LEFT = 3
"""With fewer nodes left there is nothing to learn."""


class TourModule(TaskModule):
    """What is learnt, and how.

    Args:
        d_model, num_heads, num_layers, ff_mult: of the network, see `PathNetwork`.
        window: nodes that a step sees.
        lr, weight_decay: of AdamW under a one-cycle schedule.
        tokens: nodes seen in a step of training, about; instances give several states where these are small.
        inner: weight of the rows of the window, beside the rows of the two ends.
        average: decay of the running average of the weights, which is what decodes in the end.
        weights: a bundle to go on from, a folder or "tsp", the one that is shipped; null starts afresh. The shape of
            its network must be that told here.
    """

    def __init__(
        self,
        d_model: int = 96,
        num_heads: int = 4,
        num_layers: int = 4,
        ff_mult: int = 2,
        window: int = 40,
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        tokens: int = 2600,
        inner: float = 1.0,
        average: float = 0.999,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if window < 2:
            raise ValueError(f"--model.window is {window}; wanted 2 or more")
        if not 0 <= average < 1:
            raise ValueError(f"--model.average is {average}; wanted 0 <= decay < 1")
        self.network = PathNetwork(d_model, num_heads=num_heads, num_layers=num_layers, ff_mult=ff_mult)
        if weights is not None:
            known = read_policy(weights).network.state_dict()
            if {n: t.shape for n, t in known.items()} != {
                n: t.shape for n, t in self.network.state_dict().items()
            }:
                raise ValueError(
                    f"--model.weights {weights}: of a network of another shape; give the d_model, num_layers and "
                    "ff_mult that it was fitted with"
                )
            self.network.load_state_dict(known)

        def running(mean: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
            # short at first: what the weights were before they knew anything is soon forgotten
            keep = torch.as_tensor((1.0 + count) / (10.0 + count), dtype=mean.dtype).clamp(max=average)
            return torch.lerp(now, mean, keep)

        self.average = AveragedModel(self.network, avg_fn=running)

    @property
    def title(self) -> str:
        return "local-frame pointer"

    @property
    def policy(self) -> PathPolicy:
        """What decodes: the averaged weights, rounded as the bundle stores them."""
        network = cast(PathNetwork, copy.deepcopy(self.average.module))
        round_to_half(network)
        return PathPolicy(network, self.hparams.window)

    def configure_optimizers(self) -> dict[str, object]:
        hp = self.hparams
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=hp.lr, weight_decay=hp.weight_decay, betas=BETAS
        )
        steps = max(int(self.trainer.estimated_stepping_batches), 2)
        # a function of the step, not OneCycleLR: a fit that goes on from a checkpoint may be given more epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: one_cycle(step / steps, warm_up=0.03, first=0.01, last=0.01)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        self.average.update_parameters(self.network)

    def loss(self, batch: Batch) -> Tensor:
        seen, place_RS = self._states(batch["x"], batch["label"])
        log_p_RSS = torch.log_softmax(self.network(seen).float(), -1)
        next_RSS = ((place_RS[:, :, None] - place_RS[:, None]).abs() == 1).float()
        number_RS = next_RSS.sum(-1)
        # a row whose neighbours lie outside the window teaches nothing
        loss_RS = -(next_RSS * log_p_RSS).sum(-1) / number_RS.clamp(min=1)
        known_RS = (number_RS > 0).float()
        ends, inner = (
            (part * known).sum() / known.sum().clamp(min=1)
            for part, known in ((loss_RS[:, :2], known_RS[:, :2]), (loss_RS[:, 2:], known_RS[:, 2:]))
        )
        self.log("ends", ends, prog_bar=True, batch_size=len(place_RS))
        return ends + self.hparams.inner * inner

    def _states(self, xy_BN2: Tensor, tour_BN: Tensor) -> tuple[Seen, Tensor]:
        """Path problems of one number m of nodes left, and the places (R, S) of the nodes seen on their paths."""
        n, device = xy_BN2.shape[1], xy_BN2.device
        left = int(torch.randint(min(FEWEST_LEFT, n - 1), n, ()))
        window = min(self.hparams.window, left)
        times = max(1, round(self.hparams.tokens / (len(xy_BN2) * (window + 2))))
        xy_RN2, tour_RN = xy_BN2.repeat(times, 1, 1), tour_BN.repeat(times, 1)
        mirrored_R = torch.randint(0, 2, (len(xy_RN2), 1), device=device) * 2.0 - 1.0
        xy_RN2 = torch.stack([xy_RN2[..., 0] * mirrored_R, xy_RN2[..., 1]], -1)
        first_R1 = torch.randint(0, n, (len(xy_RN2), 1), device=device)
        way_R1 = torch.randint(0, 2, (len(xy_RN2), 1), device=device) * 2 - 1
        # the head, what is left, the tail; with one node on the path, it is head and tail
        number_L = torch.arange(-1, left + 1, device=device)
        rest_RL = tour_RN.gather(1, (first_R1 + way_R1 * number_L) % n)
        place_RN = torch.zeros_like(tour_RN)
        place_RN.scatter_(1, rest_RL[:, 1:-1], number_L[2:].expand(len(rest_RL), -1))
        node_RK, seen = look(xy_RN2, place_RN > 0, rest_RL[:, 0], rest_RL[:, -1], window)
        ends_R2 = torch.stack(
            [torch.zeros_like(first_R1[:, 0]), torch.full_like(first_R1[:, 0], left + 1)], 1
        )
        return seen, torch.cat([ends_R2, place_RN.gather(1, node_RK)], 1)

    @torch.no_grad()
    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        xy_BN2, n = batch["x"], batch["x"].shape[1]
        wanted_B, got_B = (lengths(xy_BN2, tour) for tour in (batch["label"], self(xy_BN2)))
        gap = (got_B / wanted_B - 1).mean()
        return {"gap": gap, f"gap_{n}": gap}

    @torch.no_grad()
    def forward(self, xy_BN2: Tensor) -> Tensor:
        """(B, N) int64 tours, greedy from node 0."""
        policy = self.policy.to(xy_BN2.device).eval()
        real_BN = torch.ones_like(xy_BN2[..., 0], dtype=torch.bool)
        first_B = torch.zeros_like(real_BN[:, 0], dtype=torch.long)
        state, _ = greedy(policy, policy.start(xy_BN2, real_BN, first_B, first_B), xy_BN2.shape[1] - 1)
        return policy.tour(state, real_BN)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self(batch["x"])

    def write_bundle(self, folder: Path) -> None:
        write_tour_bundle(folder, self.policy, self.record)


def lengths(xy_BN2: Tensor, tour_BN: Tensor) -> Tensor:
    """(B,) float64 lengths of closed tours."""
    place_BN2 = xy_BN2.double().gather(1, tour_BN[..., None].expand(-1, -1, 2))
    return (place_BN2 - place_BN2.roll(-1, 1)).norm(dim=-1).sum(1)

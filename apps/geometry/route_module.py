"""Learning what observed routes cost their drivers: every route should cost less than what could have been driven.

For each route the alternatives are its cheapest neighbours under the present cost (one move away, all moves looked at)
and the best tour that a search finds; the observed route competes with them in a softmax over minus the costs. The
alternatives are found anew in every step, so that the net is always asked about its own mistakes.

Sources: inverse optimisation as structured prediction, Taskar et al. 2005; best-of-neighbours likelihood: Besag 1975
(pseudolikelihood), in the space of tours.
Shape legend: B routes, N places (most of them, or all and the open end), A alternatives.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...core.route_cost import RouteCost
from ...data.geometry.alternatives import alternatives
from ...data.geometry.directed import directed_search
from ...data.geometry.routes import edge_agreement
from ..module import Batch, TaskModule
from ..schedule import one_cycle
from .route_bundle import write_route_bundle

KICKS = 2
"""A node, in the search for alternatives."""
PADDING = -1


class RouteModule(TaskModule):
    """The learned cost, and how it is learned.

    Args:
        d_model, districts, frequencies, fineness: see `RouteCost`.
        closed: whether routes come back to where they began.
        number: alternatives of a route, beside the one that the search finds.
        lr, weight_decay: of AdamW under a one-cycle schedule.
    """

    def __init__(
        self,
        d_model: int = 64,
        districts: int = 16,
        frequencies: int = 32,
        fineness: float = 8.0,
        closed: bool = True,
        number: int = 64,
        lr: float = 3e-3,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.cost = RouteCost(d_model, districts=districts, frequencies=frequencies, fineness=fineness)

    @property
    def title(self) -> str:
        return "learned cost, search"

    def configure_optimizers(self) -> dict[str, object]:
        hp = self.hparams
        optimizer = torch.optim.AdamW(self.cost.parameters(), lr=hp.lr, weight_decay=hp.weight_decay)
        steps = max(int(self.trainer.estimated_stepping_batches), 2)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: one_cycle(step / steps, warm_up=0.1)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def costs(self, xy: np.ndarray) -> np.ndarray:
        """(n, n) float64 learned costs between places (n, 2)."""
        with torch.no_grad():
            xy_1N2 = torch.as_tensor(np.asarray(xy), dtype=torch.float32, device=self.cost.centre.device)[
                None
            ]
            return self.cost(xy_1N2)[0].double().cpu().numpy()

    def predict(self, xy: np.ndarray) -> np.ndarray:
        """(n,) int64 route that a search finds under the learned cost."""
        return directed_search(self.costs(xy), closed=self.hparams.closed)[0]

    def loss(self, batch: Batch) -> Tensor:
        cost_BNN = self.cost(batch["x"])
        if not self.hparams.closed:  # one more node, the open end, last of all
            cost_BNN = torch.nn.functional.pad(cost_BNN, (0, 1, 0, 1))
        ways = self._ways(cost_BNN.detach().double().cpu().numpy(), batch["label"].cpu().numpy())
        edge_BAN, real_BN, there_BA = (torch.from_numpy(part).to(cost_BNN.device) for part in ways)
        each_BAN = cost_BNN.flatten(1).gather(1, edge_BAN.flatten(1)).view(edge_BAN.shape)
        total_BA = (each_BAN * real_BN[:, None]).sum(-1)
        more_BA = (total_BA - total_BA[:, :1]).masked_fill(~there_BA, torch.inf)
        return torch.logsumexp(-more_BA, 1).mean()

    def _ways(self, cost_BNN: np.ndarray, tour_BN: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Edges (B, A + 2, N) of the observed route, the searched one and the alternatives, as places in a flat matrix;
        where there is an edge (B, N); which tours there are (B, A + 2)."""
        batch, n = cost_BNN.shape[:2]
        edges = np.zeros((batch, self.hparams.number + 2, n), np.int64)
        real, there = np.zeros((batch, n), np.float32), np.zeros(edges.shape[:2], bool)
        for row, (cost, label) in enumerate(zip(cost_BNN, tour_BN, strict=True)):
            tour = label[label != PADDING]
            nodes = np.arange(len(tour))
            if not self.hparams.closed:
                nodes, tour = np.append(nodes, n - 1), np.append(tour, len(tour))
            size = len(nodes)
            own = np.ascontiguousarray(cost[np.ix_(nodes, nodes)])
            searched, _ = directed_search(own, iterations=KICKS * size, seed=int(torch.randint(2**31, ())))
            ways = np.concatenate([tour[None], searched[None], alternatives(own, tour, self.hparams.number)])
            edges[row, : len(ways), :size] = nodes[ways] * n + nodes[np.roll(ways, -1, axis=1)]
            real[row, :size], there[row, : len(ways)] = 1.0, True
            there[row, 1] = (
                edge_agreement(searched, tour, directed=True) < 1
            )  # else the route would face itself
        return edges, real, there

    @torch.no_grad()
    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        shares = [
            edge_agreement(self.predict(xy.cpu().numpy()[: len(tour)]), tour, closed=self.hparams.closed)
            for xy, label in zip(batch["x"], batch["label"].cpu().numpy(), strict=True)
            for tour in [label[label != PADDING]]
        ]
        return {"agreement": torch.tensor(shares).mean()}

    def write_bundle(self, folder: Path) -> None:
        write_route_bundle(folder, self.cost, self.record)

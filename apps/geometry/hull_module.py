"""The convex-hull pointer under Lightning: every step of every true hull, every glimpse by cross-entropy.

Later glimpses learn from choices that come from three hands: the net's own, a random point, and the likeliest wrong
one. So they know what to do wherever the first glimpse led, and tell the closest rivals apart.

Shape legend: B batch, N points, S steps, 2 coordinates.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.decode import greedy
from ...core.export_decoder import export_decoder
from ...core.glimpses import closeness
from ...core.local_hull import (
    Corner,
    HullDecoder,
    HullPointer,
    HullPolicy,
    feasible_corners,
    look,
    middling,
    true_steps,
)
from ..module import Batch, TaskModule
from .glimpse_training import falling_rate, rival_choice
from .local_bundle import write_local_bundle
from .local_weights import FILE, write_weights

PROBES = ((1, 1), (2, 2), (1, 20), (4, 60), (2, 5))
"""Batch and points at which the graph must answer as torch does; it is traced at (3, 12)."""


class HullModule(TaskModule):
    """What is learnt, and how.

    Args:
        d_model: hidden width of the network.
        num_glimpses: times a step points when it decodes. Training takes as many.
        lr: of AdamW, from which it falls to zero.
    """

    def __init__(self, d_model: int = 16, num_glimpses: int = 3, lr: float = 5e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.pointer = HullPointer(d_model, num_glimpses=num_glimpses)

    @property
    def title(self) -> str:
        return "local-frame pointer, glimpses"

    def configure_optimizers(self) -> dict[str, object]:
        return falling_rate(self, self.hparams.lr)

    def loss(self, batch: Batch) -> Tensor:
        seen, target = _steps(batch)
        xy, corner, feasible = seen
        turn, far = look(xy, corner, feasible)
        logit = self.pointer.network(turn, closeness(far, middling(far, feasible)), feasible)
        losses = [F.cross_entropy(logit, target)]
        for _ in range(self.pointer.num_glimpses - 1):
            choice = rival_choice(logit, target, feasible)
            logit = self.pointer.again(turn, far, feasible, choice)
            losses.append(F.cross_entropy(logit, target))
        return torch.stack(losses).mean()

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """exact: share of hulls with the right corners in the right order. area: mean share of the true area."""
        xy, label = batch["x"], batch["label"]
        hull = self(xy)
        wide = max(hull.shape[1], label.shape[1])
        hull, label = (F.pad(part, (0, wide - part.shape[1]), value=-1) for part in (hull, label))
        ratio = _area(xy, hull) / _area(xy, label).clamp(min=1e-12)
        return {"exact": (hull == label).all(1).float().mean(), "area": ratio.mean()}

    def forward(self, xy: Tensor) -> Tensor:
        """Greedy hulls (B, N) of points (B, N, 2), -1 behind their ends."""
        policy = HullPolicy(self.pointer)
        real = torch.ones_like(xy[..., 0], dtype=torch.bool)
        state, _ = greedy(policy, policy.start(xy, real), xy.shape[1] + 1)
        hull: Tensor = state.hull
        return hull

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self(batch["x"])

    def write_bundle(self, folder: Path) -> None:
        decoder = HullDecoder(self.pointer)

        def export(part: Path) -> None:
            free = {0: "batch", 1: "n"}
            export_decoder(
                decoder,
                part / "greedy.onnx",
                inputs={"xy": free, "real": free},
                outputs={"hull": free, "log_p": {0: "batch"}},
                example=example_points(3, 12),
                probes=[example_points(*probe) for probe in PROBES],
            )
            write_weights(part / FILE, self.pointer)

        write_local_bundle(folder, "hull", export, self.record)


def example_points(batch: int, n: int) -> tuple[Tensor, Tensor]:
    """Points (B, N, 2) and which of them are real (B, N), the last row without its second half."""
    xy = torch.rand(batch, n, 2, generator=torch.Generator().manual_seed(1000 * batch + n))
    real = torch.ones(batch, n, dtype=torch.bool)
    real[-1, n // 2 + 1 :] = False
    return xy, real


def _steps(batch: Batch) -> tuple[tuple[Tensor, Corner, Tensor], Tensor]:
    """Points (S, N, 2), stand and feasible points (S, N) of all steps along the true hulls, and where they go (S,).

    Left out are steps that the masks forbid: turns that float32 cannot tell from none.
    """
    xy, label = batch["x"], batch["label"]
    corners, targets = true_steps(xy, label)
    row, step = torch.nonzero(targets >= 0, as_tuple=True)
    corner, target, points = Corner(*(part[row, step] for part in corners)), targets[row, step], xy[row]
    is_first = torch.arange(xy.shape[1], device=xy.device) == label[row, :1]
    feasible = feasible_corners(points, corner, torch.ones_like(is_first), is_first)
    kept = feasible.gather(1, target[:, None])[:, 0]
    return (points[kept], Corner(*(part[kept] for part in corner)), feasible[kept]), target[kept]


def _area(xy: Tensor, hull: Tensor) -> Tensor:
    """Areas (B,) of polygons (B, L), -1 behind their ends."""
    corner = xy.gather(1, torch.where(hull < 0, hull[:, :1], hull)[..., None].expand(-1, -1, 2)) - xy[:, :1]
    after = torch.roll(corner, -1, 1)
    return (corner[..., 0] * after[..., 1] - corner[..., 1] * after[..., 0]).sum(1) / 2

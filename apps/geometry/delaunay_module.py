"""The Delaunay apex pointer under Lightning: directed edges of true triangulations, every glimpse by cross-entropy.

Later glimpses learn from choices of three hands, as in `hull_module.py`.

Shape legend: B batch, N points, M triangles, E directed edges, K points in the window, 2 coordinates.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.export_decoder import export_decoder
from ...core.local_apex import ApexDecoder, ApexPointer, View, edge_frame, left_of
from ..module import Batch, TaskModule
from .glimpse_training import falling_rate, rival_choice
from .hull_module import example_points
from .local_bundle import write_local_bundle
from .local_weights import FILE, write_weights

PROBES = ((1, 3, 2), (2, 20, 9), (4, 60, 40), (1, 200, 1))
"""Batch, points and edges at which the graph must answer as torch does; it is traced at (3, 12, 5)."""


class DelaunayModule(TaskModule):
    """What is learnt, and how.

    Args:
        d_model: hidden width of the network.
        num_glimpses: times an edge points when it decodes. Training takes as many.
        window: candidates that a glimpse sees.
        edges: directed edges of a training batch, drawn from all of its triangles.
        lr: of AdamW, from which it falls to zero.
    """

    def __init__(
        self, d_model: int = 32, num_glimpses: int = 3, window: int = 16, edges: int = 1500, lr: float = 5e-3
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.pointer = ApexPointer(d_model, num_glimpses=num_glimpses, window=window)

    @property
    def title(self) -> str:
        return "local-frame pointer, glimpses"

    def configure_optimizers(self) -> dict[str, object]:
        return falling_rate(self, self.hparams.lr)

    def loss(self, batch: Batch) -> Tensor:
        problem, edge, apex = true_edges(batch["label"])
        drawn = torch.randperm(len(edge), device=edge.device)[: self.hparams.edges]
        problem, edge, apex = problem[drawn], edge[drawn], apex[drawn]
        place = edge_frame(batch["x"][problem], edge)
        left = left_of(place, edge, torch.ones_like(place[..., 0], dtype=torch.bool))
        kept = left.gather(1, apex[:, None])[:, 0]  # float32 cannot tell the others from flat
        place, left, apex = place[kept], left[kept], apex[kept]
        view = self.pointer.near(place, left, None)
        logit = self.pointer.first(view)
        losses = [_cross_entropy(logit, view, apex)]
        for _ in range(self.pointer.num_glimpses - 1):
            target = (view.node == apex[:, None]).to(logit.dtype).argmax(-1)
            chosen = view.node.gather(1, rival_choice(logit, target, view.left)[:, None])[:, 0]
            view = self.pointer.near(place, left, chosen)
            logit = self.pointer.again(view, (view.node == chosen[:, None]).to(logit.dtype).argmax(-1))
            losses.append(_cross_entropy(logit, view, apex))
        return torch.stack(losses).mean()

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """edges: share of directed edges with the right apex. exact: share of instances in which all have it."""
        problem, edge, apex = true_edges(batch["label"])
        right = self(batch["x"], torch.cat([problem[:, None], edge], 1)) == apex
        wrong = torch.zeros(len(batch["x"]), device=right.device).index_add_(0, problem, (~right).float())
        return {"edges": right.float().mean(), "exact": (wrong == 0).float().mean()}

    def forward(self, xy: Tensor, edge: Tensor) -> Tensor:
        """Apexes (E,) of edges (E, 3), each its problem and its two ends, of points (B, N, 2)."""
        real = torch.ones_like(xy[..., 0], dtype=torch.bool)
        apex: Tensor = ApexDecoder(self.pointer)(xy, real, edge)[0]
        return apex

    def write_bundle(self, folder: Path) -> None:
        decoder = ApexDecoder(self.pointer)

        def export(part: Path) -> None:
            free = {0: "batch", 1: "n"}
            export_decoder(
                decoder,
                part / "apex.onnx",
                inputs={"xy": free, "real": free, "edge": {0: "edges"}},
                outputs={"apex": {0: "edges"}, "log_p": {0: "edges"}},
                example=_example(3, 12, 5),
                probes=[_example(*probe) for probe in PROBES],
            )
            write_weights(part / FILE, self.pointer)

        write_local_bundle(folder, "delaunay", export, self.record)


def true_edges(label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of flat counter-clockwise triangles (B, 3 M), -1 behind them: the problem (E,) of each directed edge, the edge
    (E, 2) and its apex (E,), three to a triangle."""
    rows = label.unflatten(1, (-1, 3))
    problem, number = torch.nonzero(rows[..., 0] >= 0, as_tuple=True)
    a, b, c = rows[problem, number].unbind(-1)
    edge = torch.cat([torch.stack(pair, -1) for pair in ((a, b), (b, c), (c, a))])
    return problem.repeat(3), edge, torch.cat([c, a, b])


def _cross_entropy(logit: Tensor, view: View, apex: Tensor) -> Tensor:
    """Of the edges whose apex is in sight."""
    hit = (view.node == apex[:, None]) & view.left
    there = hit.any(-1)
    total = F.cross_entropy(logit, hit.to(logit.dtype).argmax(-1), reduction="none") * there
    return total.sum() / there.sum().clamp(min=1)


def _example(batch: int, n: int, edges: int) -> tuple[Tensor, Tensor, Tensor]:
    xy, real = example_points(batch, n)
    random = torch.Generator().manual_seed(edges)
    problem = torch.randint(0, batch, (edges,), generator=random)
    # both ends among the points that are real in every row
    ends = torch.rand(edges, n // 2 + 1, generator=random).argsort(1)[:, :2]
    return xy, real, torch.cat([problem[:, None], ends], 1)

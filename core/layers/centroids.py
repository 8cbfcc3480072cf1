"""Directions that stand for topics, moved by what is near them and not by gradients: how routing attention routes.

A vector's topic is told by its direction alone. The first batch places the centroids by k-means; later ones move them
by a moving average of the mean direction of their own. Sums are taken over all processes, so every process holds the
same centroids, those of one process with all the rows. Before the first batch they are random directions.

Each centroid may also hold two thresholds, one for queries and one for keys, that a share 1 / C of all vectors passes.
A threshold is compared with one vector at a time: unlike "the best w of the sequence", later steps change nothing.

Source: Roy et al. 2020, "Efficient content-based sparse attention with Routing Transformers" (arXiv 2003.05997); the
thresholds are ours, in place of its best w.
Shape legend: B batch, T time, H heads, K width of a head, C clusters, X vectors of a batch; 2 queries and keys.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

ROUNDS = 10
"""Of k-means on the first batch."""
HALVINGS = 20
"""Of the interval in which a threshold lies."""


class Centroids(nn.Module):
    """C directions for each of H heads.

    Args:
        num_heads: H.
        num_clusters: C.
        width: K.
        follow: share of the old centroid, and of the old threshold, that a training step leaves.
        thresholds: whether there are any.

    Raises:
        ValueError: where `num_clusters` is not positive, or `follow` is not in [0, 1].
    """

    centroid_HCK: Tensor
    threshold_2HC: Tensor
    placed: Tensor

    def __init__(
        self, num_heads: int, num_clusters: int, width: int, *, follow: float, thresholds: bool = False
    ) -> None:
        super().__init__()
        if num_clusters < 1:
            raise ValueError(
                f"Centroids: num_clusters is {num_clusters}; it must be at least 1; one cluster is full attention"
            )
        if not 0 <= follow <= 1:
            raise ValueError(f"Centroids: follow is {follow}; it must lie in 0 to 1, 1 for fixed centroids")
        self.num_clusters, self.follow, self.thresholds = num_clusters, follow, thresholds
        directions = F.normalize(torch.randn(num_heads, num_clusters, width), dim=-1)
        self.register_buffer("centroid_HCK", directions)
        self.register_buffer("placed", torch.zeros((), dtype=torch.bool))
        if thresholds:
            # what that share of random directions would pass, nearly; with one cluster there is none to pass
            passed = torch.special.ndtri(torch.tensor(1 - 1 / num_clusters)) / width**0.5
            self.register_buffer(
                "threshold_2HC", passed.clamp(min=-2.0).expand(2, num_heads, num_clusters).clone()
            )

    def similarity(self, x_BHTK: Tensor) -> Tensor:
        """Cosine (B, H, T, C) of each vector and each centroid."""
        with torch.autocast(x_BHTK.device.type, enabled=False):
            return F.normalize(x_BHTK, dim=-1) @ self.centroid_HCK.to(x_BHTK.dtype).mT

    @torch.no_grad()
    def move(self, q_BHTK: Tensor, k_BHTK: Tensor, mask_BT: Tensor) -> None:
        """One training step on the directions of all real queries and keys."""
        x_H2XK = torch.stack([x.transpose(1, 2)[mask_BT] for x in (q_BHTK, k_BHTK)]).permute(2, 0, 1, 3)
        x_H2XK = F.normalize(x_H2XK, dim=-1)
        rounds, keep = (1, self.follow) if self.placed else (ROUNDS, 0.0)
        for _ in range(rounds):
            any_real = self._move_once(x_H2XK.flatten(1, 2), keep)
        if self.thresholds and self.num_clusters > 1 and any_real:
            self._move_thresholds(x_H2XK, keep)
        self.placed |= any_real

    def _move_once(self, x_HXK: Tensor, keep: float) -> Tensor:
        """Whether there was anything to move by, in any process."""
        centroid_HCK = self.centroid_HCK.to(x_HXK.dtype)
        with torch.autocast(x_HXK.device.type, enabled=False):
            is_HX = (x_HXK @ centroid_HCK.mT).argmax(-1)
            is_HXC = F.one_hot(is_HX, self.num_clusters).to(x_HXK.dtype)
            sum_HCK = _over_processes(is_HXC.mT @ x_HXK)
        mean_HCK = F.normalize(sum_HCK, dim=-1)
        moved_HCK = F.normalize(keep * centroid_HCK + (1 - keep) * mean_HCK, dim=-1)
        # an empty cluster stays where it is
        empty_HC1 = sum_HCK.abs().amax(-1, keepdim=True) == 0
        self.centroid_HCK.copy_(torch.where(empty_HC1, centroid_HCK, moved_HCK))
        return ~empty_HC1.all()

    def _move_thresholds(self, x_H2XK: Tensor, keep: float) -> None:
        """Towards what a share 1 / C of these vectors passes. By halving: counts add up over processes."""
        with torch.autocast(x_H2XK.device.type, enabled=False):
            s_2HXC = (x_H2XK @ self.centroid_HCK.to(x_H2XK.dtype).mT[:, None]).transpose(0, 1)
        count = _over_processes(s_2HXC.new_tensor(s_2HXC.shape[2]))
        old_2HC = self.threshold_2HC.to(s_2HXC.dtype)
        passes_2HC = torch.zeros_like(old_2HC)
        for halving in range(HALVINGS):
            passed_2HC = (s_2HXC >= passes_2HC[:, :, None]).sum(2).to(s_2HXC.dtype)
            too_many_2HC = _over_processes(passed_2HC) * self.num_clusters > count
            passes_2HC = passes_2HC + torch.where(too_many_2HC, 0.5, -0.5) * 0.5**halving
        self.threshold_2HC.copy_(keep * old_2HC + (1 - keep) * passes_2HC)


def _over_processes(x: Tensor) -> Tensor:
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(x)
    return x

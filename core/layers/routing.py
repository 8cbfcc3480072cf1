"""Routing attention: each step looks only at the steps of its own topic, where topics are clusters of keys.

Every head holds C centroids. A key belongs to the centroid nearest in direction, a query looks at the keys of the
centroid nearest to it, and at itself. So a step costs the size of one cluster and not of the past, and the memory keeps
the last `budget` steps of every topic: a rare topic is not pushed out by a busy one.

The paper lets every centroid choose the w best steps of the whole sequence. Then a later step can push an earlier one
out: a model trained so knows more than it will know when it runs. Here a step is assigned when it comes and for good;
clusters may be of unequal size. With one cluster this is causal attention over the last `budget` steps.

Centroids are no parameters. In training they follow the mean direction of what they were assigned, by a moving average
summed over all processes; the first batch places them by k-means. Before that they are random directions, and the layer
works.

Source: Roy et al. 2020, "Efficient content-based sparse attention with Routing Transformers" (arXiv 2003.05997).
Shape legend: B batch, T time, D model width, H heads, K width of a head, C clusters, W budget, S = C W + T steps looked
at, X vectors of a batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from ..ops.softmax_scan import NOTHING
from ..state import accumulator_dtype

ROUNDS = 10
"""Of k-means on the first batch."""


class RoutingState(NamedTuple):
    """A ring for every cluster: its step number p in slot p % W.

    k, v: (B, H, C, W, K). seen: real steps of each cluster (B, H, C).
    """

    k: Tensor
    v: Tensor
    seen: Tensor


class RoutingAttention(nn.Module):
    """Multi-head causal attention inside clusters, with a ring of steps for each.

    Args:
        d_model: width D of inputs and outputs.
        num_heads: heads H; divides `d_model`.
        num_clusters: clusters C of each head.
        budget: steps W kept of each cluster.
        follow: share of the old centroid that a training step leaves.

    Raises:
        ValueError: where `num_heads` does not divide `d_model`, a size is not positive, or `follow` is not in [0, 1].
    """

    centroid_HCK: Tensor
    placed: Tensor

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 4,
        num_clusters: int = 8,
        budget: int = 64,
        follow: float = 0.999,
    ) -> None:
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"RoutingAttention: num_heads {num_heads} does not divide d_model {d_model}")
        sizes = {"num_clusters": num_clusters, "budget": budget}
        wrong = {name: size for name, size in sizes.items() if size < 1}
        if wrong:
            raise ValueError(f"RoutingAttention: {wrong} must be at least 1; one cluster is full attention")
        if not 0 <= follow <= 1:
            raise ValueError(
                f"RoutingAttention: follow is {follow}; it must lie in 0 to 1, 1 for fixed centroids"
            )
        self.num_heads, self.num_clusters, self.budget, self.follow = num_heads, num_clusters, budget, follow
        self.width = d_model // num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model)
        directions = F.normalize(torch.randn(num_heads, num_clusters, self.width), dim=-1)
        self.register_buffer("centroid_HCK", directions)
        self.register_buffer("placed", torch.zeros((), dtype=torch.bool))

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> RoutingState:
        shape = (batch_size, self.num_heads, self.num_clusters, self.budget, self.width)
        k = torch.zeros(shape, device=device, dtype=accumulator_dtype(dtype))
        return RoutingState(k, k.clone(), torch.zeros(shape[:3], device=device, dtype=torch.long))

    def forward(
        self, x_BTD: Tensor, state: RoutingState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, RoutingState]:
        if mask_BT is None:
            mask_BT = torch.ones_like(x_BTD[..., 0], dtype=torch.bool)
        if state is None:
            state = self.init_state(x_BTD.shape[0], device=x_BTD.device, dtype=x_BTD.dtype)
        q_BHTK, k_BHTK, v_BHTK = self._heads(x_BTD)
        if self.training:
            self._move(q_BHTK, k_BHTK, mask_BT)
        looks_BHT, is_BHT = self._nearest(q_BHTK), self._nearest(k_BHTK)

        # the number of each step in its cluster: those in the rings (negative where the slot is empty), then the new
        cluster_C = torch.arange(self.num_clusters, device=x_BTD.device)
        joins_BHTC = (is_BHT[..., None] == cluster_C) & mask_BT[:, None, :, None]
        count_BHTC = state.seen[:, :, None] + joins_BHTC.long().cumsum(2)
        newest_BHC1 = state.seen[..., None] - 1
        slot_W = torch.arange(self.budget, device=x_BTD.device)
        ring_BHCW = newest_BHC1 - (newest_BHC1 - slot_W) % self.budget
        step_BHT = count_BHTC.gather(3, is_BHT[..., None])[..., 0] - 1
        number_BHS = torch.cat([ring_BHCW.flatten(2), step_BHT], 2)
        real_BHS = torch.cat([ring_BHCW.flatten(2) >= 0, mask_BT[:, None].expand_as(step_BHT)], 2)
        whose_BHS = torch.cat([(cluster_C[:, None] + 0 * ring_BHCW).flatten(2), is_BHT], 2)

        # numbers tell past from future inside a cluster; a step of another cluster sees itself as well
        count_BHT = count_BHTC.gather(3, looks_BHT[..., None])[..., 0]
        age_BHTS = count_BHT[..., None] - 1 - number_BHS[:, :, None]
        same_BHTS = looks_BHT[..., None] == whose_BHS[:, :, None]
        allowed_BHTS = same_BHTS & real_BHS[:, :, None] & (age_BHTS >= 0) & (age_BHTS < self.budget)
        time = x_BTD.shape[1]
        step_S = torch.arange(number_BHS.shape[2], device=x_BTD.device) - self.num_clusters * self.budget
        allowed_BHTS = allowed_BHTS | (torch.arange(time, device=x_BTD.device)[:, None] == step_S)
        bias_BHTS = torch.zeros_like(age_BHTS, dtype=q_BHTK.dtype).masked_fill(~allowed_BHTS, NOTHING)
        k_BHSK, v_BHSK = (
            torch.cat([old.flatten(2, 3), new], 2) for old, new in ((state.k, k_BHTK), (state.v, v_BHTK))
        )
        with torch.autocast(x_BTD.device.type, enabled=False):
            o_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, attn_mask=bias_BHTS)

        # the last `budget` steps of each cluster go to their slots, all others to a slot too many
        after_BHC = state.seen + joins_BHTC.sum(2)
        kept_BHT = mask_BT[:, None] & (step_BHT >= after_BHC.gather(2, is_BHT) - self.budget)
        place_BHT = is_BHT * self.budget + step_BHT % self.budget
        place_BHT = torch.where(kept_BHT, place_BHT, self.num_clusters * self.budget)
        y_BTD = self.out(o_BHTK.transpose(1, 2).flatten(2).to(x_BTD.dtype))
        k, v = _write(state.k, place_BHT, k_BHTK), _write(state.v, place_BHT, v_BHTK)
        return y_BTD, RoutingState(k, v, after_BHC)

    def step(
        self, x_BD: Tensor, state: RoutingState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, RoutingState]:
        y_B1D, state = self.forward(x_BD[:, None], state, mask_BT=None if mask_B is None else mask_B[:, None])
        return y_B1D[:, 0], state

    def _heads(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, T, K) in float32 or wider."""
        qkv = self.qkv(x_BTD).to(accumulator_dtype(x_BTD.dtype))
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def _nearest(self, x_BHTK: Tensor) -> Tensor:
        """The centroid (B, H, T) that points most nearly where each vector points: its length does not matter."""
        with torch.autocast(x_BHTK.device.type, enabled=False):
            return (x_BHTK @ self.centroid_HCK.to(x_BHTK.dtype).mT).argmax(-1)

    @torch.no_grad()
    def _move(self, q_BHTK: Tensor, k_BHTK: Tensor, mask_BT: Tensor) -> None:
        """One training step of the centroids, on the directions of all real queries and keys."""
        x_HXK = torch.cat([x.transpose(1, 2)[mask_BT] for x in (q_BHTK, k_BHTK)]).transpose(0, 1)
        x_HXK = F.normalize(x_HXK, dim=-1)
        if not self.placed:
            self.placed.fill_(True)
            for _ in range(ROUNDS):
                self._follow(x_HXK, 0.0)
        else:
            self._follow(x_HXK, self.follow)

    def _follow(self, x_HXK: Tensor, keep: float) -> None:
        centroid_HCK = self.centroid_HCK.to(x_HXK.dtype)
        with torch.autocast(x_HXK.device.type, enabled=False):
            is_HX = (x_HXK @ centroid_HCK.mT).argmax(-1)
            is_HXC = F.one_hot(is_HX, self.num_clusters).to(x_HXK.dtype)
            sum_HCK = is_HXC.mT @ x_HXK
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sum_HCK)
        mean_HCK = F.normalize(sum_HCK, dim=-1)
        moved_HCK = F.normalize(keep * centroid_HCK + (1 - keep) * mean_HCK, dim=-1)
        # an empty cluster stays where it is
        empty_HC1 = sum_HCK.abs().amax(-1, keepdim=True) == 0
        self.centroid_HCK.copy_(torch.where(empty_HC1, centroid_HCK, moved_HCK))


def _write(ring_BHCWK: Tensor, place_BHT: Tensor, new_BHTK: Tensor) -> Tensor:
    place_BHTK = place_BHT[..., None].expand_as(new_BHTK)
    spare = F.pad(ring_BHCWK.flatten(2, 3), (0, 0, 0, 1))
    return spare.scatter(2, place_BHTK, new_BHTK)[:, :, :-1].unflatten(2, ring_BHCWK.shape[2:4])

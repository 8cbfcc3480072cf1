"""Routing attention: each step looks only at the steps of its own topic, where topics are clusters of keys.

Every head holds C centroids. Assigned to the "nearest", a key belongs to the centroid nearest in direction and a query
looks at the keys of the centroid nearest to it. Assigned by "threshold", a key belongs to every centroid whose
threshold it passes, one in C in the mean; a query looks into every cluster whose threshold it passes and takes the mean
of what it reads there, or looks into none. Each step sees itself as well. So a step costs the size of a cluster and not
of the past, and the memory keeps the last `budget` steps of every topic: a rare topic is not pushed out by a busy one.

The paper lets every centroid choose the w best steps of the whole sequence. Then a later step can push an earlier one
out: a model trained so knows more than it will know when it runs. Here a step is assigned when it comes and for good;
clusters may be of unequal size. With one cluster this is causal attention over the last `budget` steps. For sets there
is the paper's rule: `RoutingSetAttention`.

Start with "nearest": no step is left alone, and its parallel form scores each pair of steps once, "threshold" C times.

Source: Roy et al. 2020, "Efficient content-based sparse attention with Routing Transformers" (arXiv 2003.05997).
Shape legend: B batch, T time, D model width, H heads, K width of a head, C clusters, W budget, S steps looked
at: C W + T in all clusters, W + T in one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.heads import split_heads
from ..ops.softmax_scan import NOTHING
from ..state import accumulator_dtype
from .centroids import Centroids

Assign = Literal["nearest", "threshold"]


class RoutingState(NamedTuple):
    """A ring for every cluster: its step number p in slot p % W.

    k, v: (B, H, C, W, K). seen: real steps of each cluster (B, H, C).
    """

    k: Tensor
    v: Tensor
    seen: Tensor


class _Steps(NamedTuple):
    """The new steps: the clusters they look into and join (B, H, T, C), how many of each cluster came up to and with
    each (B, H, T, C), and which are real (B, T)."""

    looks: Tensor
    joins: Tensor
    number: Tensor
    mask: Tensor


class RoutingAttention(nn.Module):
    """Multi-head causal attention inside clusters, with a ring of steps for each.

    Args:
        d_model: width D of inputs and outputs.
        num_heads: heads H; divides `d_model`.
        num_clusters: clusters C of each head.
        budget: steps W kept of each cluster.
        assign: to the "nearest" centroid, or by "threshold".
        follow: share of the old centroid that a training step leaves.

    Raises:
        ValueError: where `num_heads` does not divide `d_model`, a size is not positive, `assign` is unknown, or
            `follow` is not in [0, 1].
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 4,
        num_clusters: int = 8,
        budget: int = 64,
        assign: Assign = "nearest",
        follow: float = 0.999,
    ) -> None:
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"RoutingAttention: num_heads {num_heads} does not divide d_model {d_model}")
        if budget < 1:
            raise ValueError(f"RoutingAttention: budget is {budget}; it must be at least 1")
        if assign not in get_args(Assign):
            raise ValueError(
                f"RoutingAttention: assign is {assign!r}; use one of {list(get_args(Assign))}, or "
                "RoutingSetAttention for the paper's best w of a whole set"
            )
        self.num_heads, self.num_clusters, self.budget, self.assign = num_heads, num_clusters, budget, assign
        self.width = d_model // num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model)
        self.centroids = Centroids(
            num_heads, num_clusters, self.width, follow=follow, thresholds=assign == "threshold"
        )

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
        first = self.training and not self.centroids.placed
        if first:
            self.centroids.move(q_BHTK, k_BHTK, mask_BT)
        looks_BHTC, joins_BHTC = self._clusters(q_BHTK, k_BHTK)
        real_BHTC = joins_BHTC & mask_BT[:, None, :, None]
        count_BHTC = state.seen[:, :, None] + real_BHTC.long().cumsum(2)
        steps = _Steps(looks_BHTC, joins_BHTC, count_BHTC, mask_BT)
        look = self._into_one if self.assign == "nearest" else self._into_several
        o_BHTK = look(q_BHTK, k_BHTK, v_BHTK, state, steps)
        y_BTD = self.out(o_BHTK.transpose(1, 2).flatten(2).to(x_BTD.dtype))

        # the last `budget` steps of each cluster go to their slots, all others to a slot too many
        after_BHC = state.seen + real_BHTC.sum(2)
        kept_BHTC = real_BHTC & (count_BHTC > after_BHC[:, :, None] - self.budget)
        slot_BHTC = torch.where(kept_BHTC, (count_BHTC - 1) % self.budget, self.budget)
        k, v = _write(state.k, slot_BHTC, k_BHTK), _write(state.v, slot_BHTC, v_BHTK)
        if self.training and not first:
            # after use: no step is routed by what comes behind it, but for the batch that places the centroids
            self.centroids.move(q_BHTK, k_BHTK, mask_BT)
        return y_BTD, RoutingState(k, v, after_BHC)

    def step(
        self, x_BD: Tensor, state: RoutingState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, RoutingState]:
        y_B1D, state = self.forward(x_BD[:, None], state, mask_BT=None if mask_B is None else mask_B[:, None])
        return y_B1D[:, 0], state

    @torch.no_grad()
    def coverage(self, x_BTD: Tensor, *, mask_BT: Tensor | None = None) -> Tensor:
        """Share (H,) of the real steps that look into some cluster: 1 for "nearest"; the others see but themselves."""
        q_BHTK, k_BHTK, _ = self._heads(x_BTD)
        looks_BHT = self._clusters(q_BHTK, k_BHTK)[0].any(-1)
        real_BT = torch.ones_like(looks_BHT[:, 0]) if mask_BT is None else mask_BT
        return looks_BHT.transpose(1, 2)[real_BT].to(q_BHTK.dtype).mean(0)

    def _heads(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, T, K) in float32 or wider."""
        return split_heads(self.qkv(x_BTD).to(accumulator_dtype(x_BTD.dtype)), self.num_heads)

    def _clusters(self, q_BHTK: Tensor, k_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        """Into which clusters (B, H, T, C) each query looks, and which each key joins."""
        near_BHTC, near_k_BHTC = self.centroids.similarity(q_BHTK), self.centroids.similarity(k_BHTK)
        if self.assign == "threshold":
            query_HC, key_HC = self.centroids.threshold_2HC.to(near_BHTC.dtype)
            return near_BHTC >= query_HC[:, None], near_k_BHTC >= key_HC[:, None]
        number_C = torch.arange(self.num_clusters, device=q_BHTK.device)
        looks, joins = (near.argmax(-1, keepdim=True) == number_C for near in (near_BHTC, near_k_BHTC))
        return looks, joins

    def _into_one(
        self, q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, state: RoutingState, steps: _Steps
    ) -> Tensor:
        """Attention (B, H, T, K) where each query looks into one cluster: all clusters side by side in S."""
        looks_BHT, is_BHT = (chosen.byte().argmax(-1) for chosen in (steps.looks, steps.joins))
        ring_BHCW = self._numbers(state)
        step_BHT = steps.number.gather(3, is_BHT[..., None])[..., 0] - 1
        number_BHS = torch.cat([ring_BHCW.flatten(2), step_BHT], 2)
        real_BHS = torch.cat([ring_BHCW.flatten(2) >= 0, steps.mask[:, None].expand_as(step_BHT)], 2)
        cluster_C1 = torch.arange(self.num_clusters, device=q_BHTK.device)[:, None]
        whose_BHS = torch.cat([(cluster_C1 + 0 * ring_BHCW).flatten(2), is_BHT], 2)
        age_BHTS = steps.number.gather(3, looks_BHT[..., None]) - 1 - number_BHS[:, :, None]
        allowed_BHTS = (looks_BHT[..., None] == whose_BHS[:, :, None]) & real_BHS[:, :, None]
        k_BHSK, v_BHSK = (
            torch.cat([old.flatten(2, 3), new], 2) for old, new in ((state.k, k_BHTK), (state.v, v_BHTK))
        )
        return self._attend(q_BHTK, k_BHSK, v_BHSK, allowed_BHTS, age_BHTS)

    def _into_several(
        self, q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, state: RoutingState, steps: _Steps
    ) -> Tensor:
        """The mean over the clusters that a query looks into of attention inside each; its own value where none is."""
        count_BHCT, joins_BHCT = steps.number.mT, (steps.joins & steps.mask[:, None, :, None]).mT
        ring_BHCW = self._numbers(state)
        number_BHCS = torch.cat([ring_BHCW, count_BHCT - 1], 3)
        there_BHCS = torch.cat([ring_BHCW >= 0, joins_BHCT], 3)
        age_BHCTS = count_BHCT[..., None] - 1 - number_BHCS[..., None, :]
        q_BHCTK, k_BHCTK, v_BHCTK = (
            x[:, :, None].expand(-1, -1, self.num_clusters, -1, -1) for x in (q_BHTK, k_BHTK, v_BHTK)
        )
        # each cluster is a head to the attention
        o_BGTK = self._attend(
            q_BHCTK.flatten(1, 2),
            torch.cat([state.k, k_BHCTK], 3).flatten(1, 2),
            torch.cat([state.v, v_BHCTK], 3).flatten(1, 2),
            there_BHCS[..., None, :].expand_as(age_BHCTS).flatten(1, 2),
            age_BHCTS.flatten(1, 2),
        )
        o_BHCTK = o_BGTK.unflatten(1, (self.num_heads, -1))
        share_BHCT1 = steps.looks.mT[..., None].to(o_BHCTK.dtype)
        among_BHT1 = share_BHCT1.sum(2)
        mean_BHTK = (o_BHCTK * share_BHCT1).sum(2) / among_BHT1.clamp(min=1)
        return torch.where(among_BHT1 > 0, mean_BHTK, v_BHTK)

    def _numbers(self, state: RoutingState) -> Tensor:
        """The number in its cluster of the step in each slot (B, H, C, W), negative where the slot is empty."""
        newest_BHC1 = state.seen[..., None] - 1
        slot_W = torch.arange(self.budget, device=newest_BHC1.device)
        return newest_BHC1 - (newest_BHC1 - slot_W) % self.budget

    def _attend(
        self, q_BHTK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, allowed_BHTS: Tensor, age_BHTS: Tensor
    ) -> Tensor:
        """To those of the right age among the allowed, and to itself. The last T of S are the steps themselves."""
        time, seen = age_BHTS.shape[2:]
        # numbers tell past from future inside a cluster
        allowed_BHTS = allowed_BHTS & (age_BHTS >= 0) & (age_BHTS < self.budget)
        step_T, step_S = (torch.arange(n, device=q_BHTK.device) for n in (time, seen))
        allowed_BHTS = allowed_BHTS | (step_T[:, None] == step_S - (seen - time))
        bias_BHTS = torch.zeros_like(age_BHTS, dtype=q_BHTK.dtype).masked_fill(~allowed_BHTS, NOTHING)
        with torch.autocast(q_BHTK.device.type, enabled=False):
            return F.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, attn_mask=bias_BHTS)


def _write(ring_BHCWK: Tensor, slot_BHTC: Tensor, new_BHTK: Tensor) -> Tensor:
    """The rings with each step in its slot of each cluster; slot W is none."""
    clusters, width = ring_BHCWK.shape[2], new_BHTK.shape[-1]
    slot_BHCTK = slot_BHTC.mT[..., None].expand(-1, -1, -1, -1, width)
    new_BHCTK = new_BHTK[:, :, None].expand(-1, -1, clusters, -1, -1)
    return F.pad(ring_BHCWK, (0, 0, 0, 1)).scatter(3, slot_BHCTK, new_BHCTK)[..., :-1, :]

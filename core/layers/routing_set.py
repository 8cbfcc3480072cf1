"""Routing attention over a set: every centroid chooses its best items, and attention stays among those.

Each of C centroids chooses the w = n / C queries and the w keys (rounded up) most like it, of a row with n real items:
clusters of equal size, and n^2 / C scores in place of n^2. An item takes the mean of what it reads in the clusters that
chose it; one that none chose reads its own value alone, where the paper gives zeros. `coverage` tells how many were
chosen.

This is the paper's rule, and by design no rule for sequences: an item is chosen or not by what the others are, so a
later one can push an earlier one out, and the output for a prefix is not the prefix of the output. It has the `forward`
of a sequence layer, without memory, and no `step`, as `SetAttention`; `RoutingAttention` is the causal layer. With one
cluster it is `SetAttention`.

Source: Roy et al. 2020, "Efficient content-based sparse attention with Routing Transformers" (arXiv 2003.05997).
Shape legend: B batch, T items, D model width, H heads, K width of a head, C clusters, W chosen items, G = H C.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.heads import split_heads
from ..ops.softmax_scan import NOTHING
from ..state import State, accumulator_dtype
from .centroids import Centroids


class RoutingSetAttention(nn.Module):
    """Multi-head self-attention over a set, inside balanced clusters.

    Args:
        d_model: width D of inputs and outputs.
        num_heads: heads H; divides `d_model`.
        num_clusters: clusters C of each head.
        follow: share of the old centroid that a training step leaves.

    Raises:
        ValueError: where `num_heads` does not divide `d_model`, `num_clusters` is not positive, or `follow` is not in
            [0, 1].
    """

    def __init__(
        self, d_model: int, *, num_heads: int = 4, num_clusters: int = 4, follow: float = 0.999
    ) -> None:
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"RoutingSetAttention: num_heads {num_heads} does not divide d_model {d_model}")
        self.num_heads, self.num_clusters = num_heads, num_clusters
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model)
        self.centroids = Centroids(num_heads, num_clusters, d_model // num_heads, follow=follow)

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> State:
        return ()

    def forward(
        self, x_BTD: Tensor, state: State = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Outputs (B, T, D), and no state. `mask_BT` is True on items that are there; None: all are."""
        mask_BT = torch.ones_like(x_BTD[..., 0], dtype=torch.bool) if mask_BT is None else mask_BT
        q_BHTK, k_BHTK, v_BHTK = self._heads(x_BTD)
        if self.training:
            self.centroids.move(q_BHTK, k_BHTK, mask_BT)
        asks_BHCW, real_BHCW = self._best(q_BHTK, mask_BT)
        keys_BHCW, _ = self._best(k_BHTK, mask_BT)  # as many: padding of both stands at the same places
        # each cluster is a head to the attention
        q_BGWK, k_BGWK, v_BGWK = (
            _taken(x, places).flatten(1, 2)
            for x, places in ((q_BHTK, asks_BHCW), (k_BHTK, keys_BHCW), (v_BHTK, keys_BHCW))
        )
        bias_BHCW = torch.zeros_like(real_BHCW, dtype=q_BHTK.dtype).masked_fill(~real_BHCW, NOTHING)
        bias_BG1W = bias_BHCW.flatten(1, 2)[:, :, None]
        with torch.autocast(x_BTD.device.type, enabled=False):
            o_BGWK = F.scaled_dot_product_attention(q_BGWK, k_BGWK, v_BGWK, attn_mask=bias_BG1W)
        # what each cluster says, summed at the items it chose; beside it, how many clusters these are
        said_BHCWE = (
            F.pad(o_BGWK.unflatten(1, (self.num_heads, -1)), (0, 1), value=1.0) * real_BHCW[..., None]
        )
        place_BHSE = asks_BHCW.flatten(2)[..., None].expand(-1, -1, -1, said_BHCWE.shape[-1])
        sum_BHTE = F.pad(torch.zeros_like(v_BHTK), (0, 1)).scatter_add(
            2, place_BHSE, said_BHCWE.flatten(2, 3)
        )
        among_BHT1 = sum_BHTE[..., -1:]
        o_BHTK = torch.where(among_BHT1 > 0, sum_BHTE[..., :-1] / among_BHT1.clamp(min=1), v_BHTK)
        return self.out(o_BHTK.transpose(1, 2).flatten(2).to(x_BTD.dtype)), ()

    @torch.no_grad()
    def coverage(self, x_BTD: Tensor, *, mask_BT: Tensor | None = None) -> Tensor:
        """Share (H,) of the real items that ask in some cluster; the others read but themselves."""
        mask_BT = torch.ones_like(x_BTD[..., 0], dtype=torch.bool) if mask_BT is None else mask_BT
        asks_BHCW, real_BHCW = self._best(self._heads(x_BTD)[0], mask_BT)
        chosen_BHT = torch.zeros_like(mask_BT[:, None].expand(-1, self.num_heads, -1), dtype=torch.long)
        chosen_BHT = chosen_BHT.scatter_add(2, asks_BHCW.flatten(2), real_BHCW.flatten(2).long())
        return (chosen_BHT > 0).transpose(1, 2)[mask_BT].double().mean(0)

    def _heads(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, T, K) in float32 or wider."""
        return split_heads(self.qkv(x_BTD).to(accumulator_dtype(x_BTD.dtype)), self.num_heads)

    def _best(self, x_BHTK: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Places (B, H, C, W) of the items most like each centroid, and which of these are chosen.

        W is that of a row without padding; of n real items the first n / C are chosen, rounded up.
        """
        near_BHCT = self.centroids.similarity(x_BHTK).mT.masked_fill(~mask_BT[:, None, None], -2.0)
        most = (x_BHTK.shape[2] + self.num_clusters - 1) // self.num_clusters
        place_BHCW = near_BHCT.topk(most, dim=-1).indices
        chosen_B = (mask_BT.sum(1) + self.num_clusters - 1) // self.num_clusters
        rank_W = torch.arange(most, device=x_BHTK.device)
        return place_BHCW, (rank_W < chosen_B[:, None])[:, None, None].expand_as(place_BHCW)


def _taken(x_BHTK: Tensor, place_BHCW: Tensor) -> Tensor:
    """The rows of x at the places: (B, H, C, W, K)."""
    place_BHSK = place_BHCW.flatten(2)[..., None].expand(-1, -1, -1, x_BHTK.shape[-1])
    return x_BHTK.gather(2, place_BHSK).unflatten(2, place_BHCW.shape[2:])

"""A travelling-salesman policy that sees the rest of the problem in the local frame of the path's two open ends.

A tour is a path that grows at both ends: from the head and from the tail. What is left to solve is always the same
problem: the shortest path from head to tail through the nodes that are left. So a step sees the ends and the `window`
nodes closest to one of them, in a frame without place, size or direction, and says for every node seen which nodes
come next to it on that path. Decoding uses the rows of the two ends, and extends the end that is surer of itself;
training uses all rows. No size of the instance is in the weights.

The frame is an inductive bias: distances to both ends are handed to the network, it need not learn what near means.

Sources: Drakulic et al. 2023 (BQ-NCO, arXiv 2301.03313: the rest of a tour is a path problem again); Luo et al. 2023
(LEHD, arXiv 2310.07985: heavy decoder, supervised); Fang et al. 2024 (INViT, arXiv 2402.02317: nearest candidates).
The two growing ends, the frame and the rows of all nodes are ours.
Shape legend: B batch, N nodes, M nodes with padding, K nodes in the window, S = K + 2 seen (head, tail, window),
D width, H heads, F features of a node, P of a pair.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .decode import beam, greedy
from .local_frame import to_frame, unit
from .ops.softmax_scan import NOTHING

FEATURES = 11
"""Of a node: place from the head and from the tail, four distances in two scales, and what it is."""
SMALLEST = 1e-3
"""Of the unit of length, in units of the farthest that is seen."""
BIASES = 3
"""Of a pair: how near, in three scales."""


class Seen(NamedTuple):
    """What a step sees: places (B, S, 2) of head, tail and window, and whether there is a node (B, S)."""

    place: Tensor
    real: Tensor


class PathNetwork(nn.Module):
    """Who comes next to whom on the shortest path from the first node seen to the second through the others.

    Args:
        d_model: width D.
        num_heads: heads H; divides `d_model`.
        num_layers: attention blocks.
        ff_mult: hidden width of the feed-forward part, in units of `d_model`.

    Raises:
        ValueError: where `num_heads` does not divide `d_model`.
    """

    def __init__(
        self, d_model: int = 96, *, num_heads: int = 8, num_layers: int = 4, ff_mult: int = 2
    ) -> None:
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"PathNetwork: num_heads {num_heads} does not divide d_model {d_model}")
        self.d_model, self.num_heads, self.ff_mult = d_model, num_heads, ff_mult
        self.embed = nn.Linear(FEATURES, d_model)
        self.blocks = nn.ModuleList(_NearBlock(d_model, num_heads, ff_mult) for _ in range(num_layers))
        self.norm = nn.LayerNorm(d_model)
        self.query_key = nn.Linear(d_model, 2 * d_model)
        self.near = nn.Linear(BIASES, 1, bias=False)

    def forward(self, seen: Seen) -> Tensor:
        """Logits (B, S, S): row i points at the nodes that come next to node i; `NOTHING` where there is none.

        Head and tail are never next to each other: something lies between them until the tour is done.
        """
        x_BSF, near_BSSP = _features(seen)
        h_BSD = self.embed(x_BSF)
        nothing_B1S = torch.zeros_like(seen.place[..., 0]).masked_fill(~seen.real, NOTHING)[:, None]
        for block in self.blocks:
            h_BSD = block(h_BSD, near_BSSP, nothing_B1S)
        q_BSD, k_BSD = self.query_key(self.norm(h_BSD)).chunk(2, -1)
        s_BSS = q_BSD @ k_BSD.transpose(1, 2) * q_BSD.shape[-1] ** -0.5 + self.near(near_BSSP)[..., 0]
        number_S = torch.arange(s_BSS.shape[-1], device=s_BSS.device)
        end_S = number_S < 2
        never_SS = (number_S[:, None] == number_S) | (end_S[:, None] & end_S)
        return s_BSS.masked_fill(never_SS | ~seen.real[:, None], NOTHING)


class _NearBlock(nn.Module):
    """Pre-norm attention over all seen, drawn to what is near, then a feed-forward part."""

    def __init__(self, d_model: int, num_heads: int, ff_mult: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.near = nn.Linear(BIASES, num_heads, bias=False)
        self.out = nn.Linear(d_model, d_model)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(d_model),
            nn.Linear(d_model, ff_mult * d_model),
            nn.GELU(approximate="tanh"),
            nn.Linear(ff_mult * d_model, d_model),
        )

    def forward(self, h_BSD: Tensor, near_BSSP: Tensor, nothing_B1S: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(h_BSD)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        bias_BHSS = self.near(near_BSSP).permute(0, 3, 1, 2) + nothing_B1S[:, None]
        a_BHSS = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias_BHSS, -1)
        h_BSD = h_BSD + self.out((a_BHSS @ v).transpose(1, 2).flatten(2))
        return h_BSD + self.feedforward(h_BSD)


class PathState(NamedTuple):
    """A tour that grows. place (B, M, 2); left (B, M) whether a node is still to come; head, tail (B,) int64;
    rank (B, M) int64, places from the head's first node, negative on the tail's side; ahead, behind (B,) int64 nodes
    added at head and tail so far. M >= N + K: nodes that are not there fill the last windows."""

    place: Tensor
    left: Tensor
    head: Tensor
    tail: Tensor
    rank: Tensor
    ahead: Tensor
    behind: Tensor


class Offered(NamedTuple):
    """Nodes of the window (B, K) int64, and whether the head (B,) is the end that is extended."""

    node: Tensor
    at_head: Tensor


class PathPolicy(nn.Module):
    """The network as a policy of `core.decode`: an action is one node of the window, next to the surer end.

    A row in which nothing is left is finished; with one node fewer than there are, every row is.

    Args:
        network: says who comes next to whom.
        window: nodes K that a step sees.
    """

    def __init__(self, network: PathNetwork, window: int = 40) -> None:
        super().__init__()
        self.network, self.window = network, window

    def start(self, xy_BN2: Tensor, real_BN: Tensor, head_B: Tensor, tail_B: Tensor) -> PathState:
        """Before the first step: a path of one node (`head` and `tail` the same: a closed tour), or its two ends."""
        place_BM2 = torch.cat([xy_BN2, xy_BN2.new_zeros(xy_BN2.shape[0], self.window, 2)], 1)
        real_BM = torch.cat([real_BN, torch.zeros_like(place_BM2[:, : self.window, 0], dtype=torch.bool)], 1)
        number_M = torch.arange(place_BM2.shape[1], device=xy_BN2.device)
        is_head_BM, is_tail_BM = number_M == head_B[:, None], number_M == tail_B[:, None]
        apart_B = (head_B != tail_B).long()
        rank_BM = torch.where(is_tail_BM & ~is_head_BM, -1, torch.zeros_like(number_M)[None])
        return PathState(
            place_BM2,
            real_BM & ~is_head_BM & ~is_tail_BM,
            head_B.clone(),
            tail_B.clone(),
            rank_BM,
            torch.zeros_like(head_B),
            apart_B,
        )

    def propose(self, state: PathState) -> tuple[Tensor, Offered]:
        node_BK, seen = look(state.place, state.left, state.head, state.tail, self.window)
        logit_B2K = self.network(seen)[:, :2, 2:]
        # distances near the least that float32 holds may overflow somewhere: then every node is as good, nearest first
        logit_B2K = torch.where(torch.isnan(logit_B2K), torch.zeros_like(logit_B2K), logit_B2K)
        log_p_B2K = torch.log_softmax(logit_B2K.masked_fill(~seen.real[:, None, 2:], NOTHING), -1)
        sure_B2 = log_p_B2K.amax(-1)
        at_head_B = sure_B2[:, 0] >= sure_B2[:, 1]
        log_p_BK = torch.where(at_head_B[:, None], log_p_B2K[:, 0], log_p_B2K[:, 1])
        return log_p_BK.masked_fill(~seen.real[:, 2:], NOTHING), Offered(node_BK, at_head_B)

    def advance(self, state: PathState, notes: Offered, action_B: Tensor) -> PathState:
        node_B = notes.node.gather(1, action_B[:, None])[:, 0]
        at_head_B = notes.at_head
        is_node_BM = torch.arange(state.left.shape[1], device=node_B.device) == node_B[:, None]
        ahead_B, behind_B = state.ahead + at_head_B.long(), state.behind + (~at_head_B).long()
        rank_B = torch.where(at_head_B, ahead_B, -behind_B)
        return PathState(
            state.place,
            state.left & ~is_node_BM,
            torch.where(at_head_B, node_B, state.head),
            torch.where(at_head_B, state.tail, node_B),
            torch.where(is_node_BM, rank_B[:, None], state.rank),
            ahead_B,
            behind_B,
        )

    def tour(self, state: PathState, real_BN: Tensor) -> Tensor:
        """(B, N) int64 nodes in the order of the finished path; behind them the nodes that are not there."""
        n_B1 = real_BN.long().sum(1, keepdim=True)
        rank_BN = state.rank[:, : real_BN.shape[1]]
        rank_BN = torch.where(rank_BN < 0, rank_BN + n_B1, rank_BN)
        number_N = torch.arange(real_BN.shape[1], device=real_BN.device)
        return torch.where(real_BN, rank_BN, n_B1 + number_N).argsort(1)


class TourDecoder(nn.Module):
    """From points to tours: what an ONNX graph of the policy holds.

    Args:
        policy: decodes.
        width: of the beam; 1 is greedy.
    """

    def __init__(self, policy: PathPolicy, width: int = 1) -> None:
        super().__init__()
        self.policy, self.width = policy, width

    def forward(
        self, xy_BN2: Tensor, real_BN: Tensor, head_B: Tensor, tail_B: Tensor, graph: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Tours (B, N) int64, with the nodes that are not there behind those that are, and log-probabilities (B,).

        Args:
            xy_BN2: places, about of size one.
            real_BN: False for padding.
            head_B, tail_B: int64 ends of the path; the same node for a closed tour.
            graph: see `core.decode`.
        """
        state = self.policy.start(xy_BN2, real_BN, head_B, tail_B)
        if self.width == 1:
            state, log_p_B = greedy(self.policy, state, xy_BN2.shape[1], graph=graph)
        else:
            state, log_p_B = beam(self.policy, state, xy_BN2.shape[1], self.width, graph=graph)
        return self.policy.tour(state, real_BN), log_p_B


def look(
    place_BM2: Tensor, left_BM: Tensor, head_B: Tensor, tail_B: Tensor, window: int
) -> tuple[Tensor, Seen]:
    """The nodes (B, K) of those left that are nearest to head or tail, and what is seen with them."""
    ends_B22 = place_BM2.gather(1, torch.stack([head_B, tail_B], 1)[..., None].expand(-1, -1, 2))
    away_BM2 = ((place_BM2[:, :, None] - ends_B22[:, None]) ** 2).sum(-1)
    near_BM = away_BM2.amin(-1).masked_fill(~left_BM, torch.inf)
    node_BK = near_BM.topk(window, 1, largest=False).indices
    window_BK2 = place_BM2.gather(1, node_BK[..., None].expand(-1, -1, 2))
    real_BK = left_BM.gather(1, node_BK)
    there_B2 = torch.ones_like(real_BK[:, :2])
    return node_BK, Seen(torch.cat([ends_B22, window_BK2], 1), torch.cat([there_B2, real_BK], 1))


def _features(seen: Seen) -> tuple[Tensor, Tensor]:
    """(B, S, F) of the nodes and (B, S, S, P) of the pairs, free of place, size and direction."""
    head_B12, tail_B12 = seen.place[:, :1], seen.place[:, 1:2]
    real_BS = seen.real.to(seen.place.dtype)
    kind_S3 = F.one_hot(torch.arange(real_BS.shape[1], device=real_BS.device).clamp(max=2), 3).to(
        real_BS.dtype
    )
    window_BS = real_BS * kind_S3[:, 2]
    some_B1 = window_BS.sum(1, keepdim=True).clamp(min=1.0)
    middle_B12 = (seen.place * window_BS[..., None]).sum(1, keepdim=True) / some_B1[..., None]
    apart_B12 = tail_B12 - head_B12
    # a closed tour begins with head and tail in one place: there the middle of the window gives the direction
    together_B11 = (apart_B12 * apart_B12).sum(-1, keepdim=True) == 0
    axis_B12 = unit(torch.where(together_B11, middle_B12 - head_B12, apart_B12))
    head_BS2 = to_frame(seen.place, head_B12, axis_B12)
    tail_BS2 = to_frame(seen.place, tail_B12, axis_B12)
    from_head_BS, from_tail_BS = _length(head_BS2), _length(tail_BS2)
    nearer_BS = torch.minimum(from_head_BS, from_tail_BS) * window_BS
    farthest_B1 = (torch.maximum(from_head_BS, from_tail_BS) * real_BS).amax(1, keepdim=True)
    # beside an end that is far away all nearer ones may coincide: their mean alone would blow up what is far
    size_B1 = torch.maximum(nearer_BS.sum(1, keepdim=True) / some_B1, SMALLEST * farthest_B1)
    size_B11 = torch.where(size_B1 > 0, size_B1, torch.ones_like(size_B1))[..., None]
    far_BS2 = torch.stack([from_head_BS, from_tail_BS], -1) / size_B11
    x_BSF = torch.cat(
        [
            head_BS2 / size_B11,
            tail_BS2 / size_B11,
            far_BS2,
            torch.log(far_BS2 + 0.05),
            kind_S3.expand(real_BS.shape[0], -1, -1),
        ],
        -1,
    )
    d_BSS = _length((seen.place[:, :, None] - seen.place[:, None]) / size_B11[..., None])
    near_BSSP = torch.stack([d_BSS.clamp(max=10.0), torch.log(d_BSS + 0.05), torch.exp(-2.0 * d_BSS)], -1)
    both_BSS = real_BS[:, :, None] * real_BS[:, None]
    return x_BSF * real_BS[..., None], near_BSSP * both_BSS[..., None]


def _length(v: Tensor) -> Tensor:
    return torch.sqrt((v * v).sum(-1) + 1e-20)

"""Landmark attention: full keys and values in blocks, one landmark a block, and only the best blocks are looked at.

Every `block_size` real steps close a block, and the layer adds a landmark to it: a key of its own, with what a learned
query reads from the keys of the block. A step attends to its own block and, through their landmarks, to the `budget`
blocks before (ops/grouped_softmax.py). In training all of them take part, so landmarks learn what their blocks are good
for. In eval mode each head fetches only the `top_k` blocks whose landmarks fit its query best: the memory is that of
attention, the work of a step is that of `top_k + 1` blocks.

In the paper the landmark is a token that passes through all layers of the net, and its key in the first is constant.
Here it lives inside one layer: what the layer before would have put into it is read by the learned query.

Keys are cached before they get a position. Blocks up to `near` back keep their distance, all older ones stand in one
place just before those: no distance is ever seen that training has not seen, however long the sequence.

What it buys is work, not accuracy: seven keys in one landmark are a bottleneck, and gates dilute over many blocks.
Choose the budget to cover the sequences of training where "all blocks" shall mean all.

Source: Mohtashami and Jaggi 2023, "Landmark attention" (arXiv 2305.16300).
Shape legend: B batch, T time, D model width, H heads, K width of a head; M = budget + 1 blocks of the state, L steps of
a block, N blocks in all, A blocks fetched, R distances of blocks that are told apart (own, 1, .., near, older).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.grouped_softmax import grouped_softmax
from ..ops.heads import split_heads
from ..ops.rotary import rotary as turned
from ..ops.softmax_scan import NOTHING
from ..state import accumulator_dtype, where


class LandmarkState(NamedTuple):
    """Blocks, oldest first, the open one last; they move up when it is full.

    k, v: (B, H, M, L, K), keys without position, zeros where there is no step yet. landmark: (B, H, M - 1, K), of the
    complete blocks. seen: real steps (B,).
    """

    k: Tensor
    v: Tensor
    landmark: Tensor
    seen: Tensor


class LandmarkAttention(nn.Module):
    """Multi-head block attention through landmarks, with a fixed number of blocks.

    Args:
        d_model: width D of inputs and outputs.
        num_heads: heads H; divides `d_model`.
        block_size: steps L of a block.
        budget: complete blocks that are kept.
        top_k: blocks fetched for each step and head in eval mode; None for all that are kept.
        near: blocks back up to which distances are told apart.
        rotary: give keys and queries positions.

    Raises:
        ValueError: where `num_heads` does not divide `d_model`, a size is not positive, or positions are asked of heads
            of odd width.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int = 4,
        block_size: int = 16,
        budget: int = 16,
        top_k: int | None = 2,
        near: int = 1,
        rotary: bool = True,
    ) -> None:
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"LandmarkAttention: num_heads {num_heads} does not divide d_model {d_model}")
        sizes = {"block_size": block_size, "budget": budget, "top_k": top_k, "near": near}
        wrong = {name: size for name, size in sizes.items() if size is not None and size < 1}
        if wrong:
            raise ValueError(f"LandmarkAttention: {wrong} must be at least 1; top_k=None looks at all blocks")
        width = d_model // num_heads
        if rotary and width % 2:
            raise ValueError(
                f"LandmarkAttention: heads of odd width {width} have no rotary positions; change num_heads {num_heads}"
                f" for d_model {d_model}, or pass rotary=False"
            )
        self.d_model, self.num_heads, self.rotary = d_model, num_heads, rotary
        self.block_size, self.budget, self.near = block_size, budget, near
        self.top_k = budget if top_k is None else min(top_k, budget)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model)
        self.landmark_query_HK = nn.Parameter(0.02 * torch.randn(num_heads, width))
        self.landmark_key_HK = nn.Parameter(0.02 * torch.randn(num_heads, width))
        # a landmark starts as the mean key of its block
        self.landmark_read_HKK = nn.Parameter(torch.eye(width).repeat(num_heads, 1, 1))

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> LandmarkState:
        shape = (batch_size, self.num_heads, self.budget + 1, self.block_size, self.d_model // self.num_heads)
        k = torch.zeros(shape, device=device, dtype=accumulator_dtype(dtype))
        seen = torch.zeros(batch_size, device=device, dtype=torch.long)
        return LandmarkState(k, k.clone(), k[:, :, 1:, 0].clone(), seen)

    def forward(
        self, x_BTD: Tensor, state: LandmarkState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, LandmarkState]:
        if mask_BT is None:
            mask_BT = torch.ones_like(x_BTD[..., 0], dtype=torch.bool)
        if state is None:
            state = self.init_state(x_BTD.shape[0], device=x_BTD.device, dtype=x_BTD.dtype)
        size, budget = self.block_size, self.budget
        q_BHTK, k_BHTK, v_BHTK = self._heads(x_BTD)

        # places count from the first step of the oldest block of the state; more blocks than new steps can fill
        more = x_BTD.shape[1] // size + 1
        step_BT = state.seen[:, None] - 1 + mask_BT.long().cumsum(1)
        open_B = state.seen // size
        place_BT = step_BT + (budget - open_B[:, None]) * size
        put_BT = torch.where(mask_BT, place_BT, (budget + 1 + more) * size)
        k, v = (_put(_longer(old, more), put_BT, new) for old, new in ((state.k, k_BHTK), (state.v, v_BHTK)))
        # old landmarks as they are: made again they would be rounded again
        landmark_BHNK = torch.cat([state.landmark, self._landmarks(k[:, :, budget:])], 2)

        block_N = torch.arange(budget + 1 + more, device=x_BTD.device)
        own_BT = place_BT // size
        age_BTN = own_BT[..., None] - block_N
        there_B1N = (block_N >= budget - open_B[:, None])[:, None]
        past_BTN = (age_BTN > 0) & (age_BTN <= budget) & there_B1N
        inside_BT1 = (place_BT % size)[..., None]
        seen_BTL = torch.arange(size, device=x_BTD.device) <= inside_BT1
        own_BTNL = ((age_BTN == 0) & there_B1N)[..., None] & seen_BTL[:, :, None]

        with torch.autocast(x_BTD.device.type, enabled=False):
            key_BHJK = self._keys(k, landmark_BHNK).flatten(2, 3)
            far_B1TN1 = self._distance(age_BTN)[:, None, ..., None]
            score = torch.zeros((), device=x_BTD.device)
            for r in range(self._distances()):
                at = self._turned(q_BHTK, inside_BT1[:, None, :, 0] + r * (size + 1)) @ key_BHJK.mT
                score = torch.where(far_B1TN1 == r, at.unflatten(-1, (-1, size + 1)), score)
            past_BHTN = self._fetched(score[..., size], past_BTN[:, None])
            w_BHTNL = grouped_softmax(score[..., :size], score[..., size], own_BTNL[:, None], past_BHTN)
            o_BHTK = w_BHTNL.flatten(3) @ v.flatten(2, 3)

        seen_B = state.seen + mask_BT.sum(1)
        first_B = seen_B // size - open_B
        return self._output(o_BHTK.transpose(1, 2), x_BTD.dtype), LandmarkState(
            _from(k, first_B, budget + 1),
            _from(v, first_B, budget + 1),
            _from(landmark_BHNK, first_B, budget),
            seen_B,
        )

    def step(
        self, x_BD: Tensor, state: LandmarkState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, LandmarkState]:
        """One step of `forward`. In eval mode only the blocks that are fetched are looked at."""
        size, budget = self.block_size, self.budget
        q_BHK, k_BHK, v_BHK = (x_BH1K[:, :, 0] for x_BH1K in self._heads(x_BD[:, None]))
        inside_B = state.seen % size
        place_L = torch.arange(size, device=x_BD.device)
        here_B1ML1 = (place_L == inside_B[:, None])[:, None, None, :, None] & (
            torch.arange(budget + 1, device=x_BD.device) == budget
        )[:, None, None]
        k, v = (
            torch.where(here_B1ML1, new[:, :, None, None], old)
            for old, new in ((state.k, k_BHK), (state.v, v_BHK))
        )

        age_M = budget - torch.arange(budget + 1, device=x_BD.device)
        there_BM = age_M <= (state.seen // size)[:, None]
        with torch.autocast(x_BD.device.type, enabled=False):
            landmark_BHMK = torch.cat([state.landmark, self._landmarks(k[:, :, budget:])], 2)
            q_BHRK = torch.stack(
                [self._turned(q_BHK, inside_B[:, None] + r * (size + 1)) for r in range(self._distances())], 2
            )
            q_BHMK = q_BHRK[:, :, self._distance(age_M)]
            turned_BHMK = self._turned(landmark_BHMK, torch.full_like(age_M, size))
            gate_BHM = (q_BHMK * turned_BHMK).sum(-1)
            past_BHM = (there_BM & (age_M > 0))[:, None].expand_as(gate_BHM)
            # the best blocks, and the open one behind them
            best_BHA = (
                gate_BHM[..., :-1].masked_fill(~past_BHM[..., :-1], NOTHING).topk(self._fetch()).indices
            )
            fetched_BHA = torch.cat([best_BHA, torch.full_like(best_BHA[..., :1], budget)], -1)
            part_BHAK = _blocks(q_BHMK, fetched_BHA)
            key_BHALK = self._turned(_blocks(k, fetched_BHA), place_L)
            score_BHAL = (key_BHALK @ part_BHAK[..., None])[..., 0]
            own_BHAL = (fetched_BHA == budget)[..., None] & (place_L <= inside_B[:, None])[:, None, None]
            gates = _blocks(gate_BHM, fetched_BHA)
            w_BHAL = grouped_softmax(score_BHAL, gates, own_BHAL, _blocks(past_BHM, fetched_BHA))
            o_BHK = (w_BHAL.flatten(2)[..., None, :] @ _blocks(v, fetched_BHA).flatten(2, 3))[..., 0, :]

        full_B = (inside_B == size - 1).long()
        after = LandmarkState(
            _from(_longer(k, 1), full_B, budget + 1),
            _from(_longer(v, 1), full_B, budget + 1),
            _from(landmark_BHMK, full_B, budget),
            state.seen + 1,
        )
        after = after if mask_B is None else where(mask_B, after, state)
        return self._output(o_BHK, x_BD.dtype), after

    def _heads(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, T, K) in float32 or wider; queries are divided by sqrt(K)."""
        dtype = accumulator_dtype(x_BTD.dtype)
        q, k, v = split_heads(self.qkv(x_BTD).to(dtype), self.num_heads)
        return q * q.shape[-1] ** -0.5, k, v

    def _landmarks(self, k_BHNLK: Tensor) -> Tensor:
        """(B, H, N, K): what the learned query reads from each block, and the landmark's own key."""
        dtype = k_BHNLK.dtype
        query_HK = self.landmark_query_HK.to(dtype) * k_BHNLK.shape[-1] ** -0.5
        a_BHNL = (k_BHNLK * query_HK[:, None, None]).sum(-1).softmax(-1)
        read_BHNK = (a_BHNL[..., None] * k_BHNLK).sum(-2)
        with torch.autocast(k_BHNLK.device.type, enabled=False):
            return read_BHNK @ self.landmark_read_HKK.to(dtype) + self.landmark_key_HK.to(dtype)[:, None]

    def _keys(self, k_BHNLK: Tensor, landmark_BHNK: Tensor) -> Tensor:
        """(B, H, N, L + 1, K): the keys of each block with their positions in it, the landmark behind them."""
        both = torch.cat([k_BHNLK, landmark_BHNK[..., None, :]], 3)
        return self._turned(both, torch.arange(self.block_size + 1, device=both.device))

    def _turned(self, x: Tensor, place: Tensor) -> Tensor:
        """Vectors with these positions."""
        return turned(x, place) if self.rotary else x

    def _distances(self) -> int:
        """R: own block, `near` blocks, all older ones; 1 where there are no positions."""
        return self.near + 2 if self.rotary else 1

    def _distance(self, age: Tensor) -> Tensor:
        return age.clamp(0, self._distances() - 1)

    def _fetch(self) -> int:
        return self.budget if self.training else self.top_k

    def _fetched(self, gate_BHTN: Tensor, past_B1TN: Tensor) -> Tensor:
        """True at the blocks (B, H, T, N) that each query looks into."""
        if self._fetch() == self.budget:
            return past_B1TN
        best = gate_BHTN.masked_fill(~past_B1TN, NOTHING).topk(self._fetch()).indices
        return (torch.zeros_like(gate_BHTN).scatter(-1, best, 1.0) > 0) & past_B1TN

    def _output(self, o: Tensor, dtype: torch.dtype) -> Tensor:
        return self.out(o.flatten(-2).to(dtype))


def _longer(blocks_BHMLK: Tensor, more: int) -> Tensor:
    return F.pad(blocks_BHMLK, (0, 0, 0, 0, 0, more))


def _put(blocks_BHNLK: Tensor, place_BT: Tensor, new_BHTK: Tensor) -> Tensor:
    """The blocks with the new steps at their places; one place behind the last is for those that are not real."""
    size = blocks_BHNLK.shape[3]
    spare = F.pad(blocks_BHNLK.flatten(2, 3), (0, 0, 0, 1))
    filled = spare.scatter(2, place_BT[:, None, :, None].expand_as(new_BHTK), new_BHTK)
    return filled[:, :, :-1].unflatten(2, (-1, size))


def _from(blocks_BHN_: Tensor, first_B: Tensor, count: int) -> Tensor:
    """`count` blocks from number `first_B` on."""
    block_BM = first_B[:, None] + torch.arange(count, device=first_B.device)
    heads = blocks_BHN_.shape[1]
    return _blocks(blocks_BHN_, block_BM[:, None].expand(-1, heads, -1))


def _blocks(blocks_BHN_: Tensor, number_BHA: Tensor) -> Tensor:
    """(B, H, A, ...): the blocks of these numbers."""
    extra = blocks_BHN_.shape[3:]
    index = number_BHA.view(*number_BHA.shape, *[1] * len(extra)).expand(*number_BHA.shape, *extra)
    return blocks_BHN_.gather(2, index)

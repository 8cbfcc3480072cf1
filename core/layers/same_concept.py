"""CAKT: what the student did last on the concept of the question at hand, through 3-D convolutions.

Two memories are fused. One is an LSTM over all interactions. The other is a clip: the last k interactions on the
query's own concept, each faded by its distance, reshaped to k frames of h x h and convolved. A second LSTM runs over
the fusions.

Against the paper: the clip is of the concept that is asked (as its text says), zero states at the start, a decay that
cannot turn to growth (softplus), GroupNorm in place of BatchNorm (which mixes students, times and padding). The read
joins the second LSTM's last output with the fusion of this step, so that asking a question is possible without
answering it.

The state keeps the last `window` interactions of the student, whatever their concept, and the clip is gathered from
these, in window and step form alike: k for each concept would take `num_concepts` times k vectors. The bytes are
window * (4 d_model + 8) + 16 d_model: 34,816 for 128 x 64.

Source: Yang, Zhu & Lu 2020, "Deep Knowledge Tracing with Learning Curves" (arXiv 2008.01169).
Shape legend: B batch, T time, D model width = h * h, F columns of the answers, W window, K frames of a clip,
S = W + T, N = B * T clips, C channels.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.history import extend, newest, real_before, take, to_left
from ..state import accumulator_dtype
from .lstm import LSTM, LSTMState

CHANNELS = (1, 4, 8, 4, 1)


class SameConceptState(NamedTuple):
    """The last W interactions, oldest first, as `written` (B, W, D) and `concept` (B, W), 0 where none; two LSTMs."""

    written: Tensor
    concept: Tensor
    overall: LSTMState
    fused: LSTMState


class SameConcept(nn.Module):
    """A `Recall`: reads at step t from the query of t and what was written before t.

    Args:
        d_model: width D of queries, interactions and reads; a square number, as 64 or 225.
        last: frames K of a clip: interactions on one concept that are looked at.
        window: interactions W of the student among which they are found.
        decay: at the start, per interaction of distance; it is learned.
        concept_column: of the answers' columns the one with the concept, a whole number. A question of several
            concepts counts as one of its first. Concept 0 (or NaN) is none: it finds nothing and is never found.

    Raises:
        ValueError: where `d_model` is not a square, `last` not in 1..window or `decay` not positive.
    """

    def __init__(
        self,
        d_model: int,
        *,
        last: int = 8,
        window: int = 128,
        decay: float = 0.02,
        concept_column: int = 3,
    ) -> None:
        super().__init__()
        self.side = math.isqrt(d_model)
        if self.side < 1 or self.side**2 != d_model:
            nearest = max(1, round(math.sqrt(max(d_model, 1)))) ** 2
            raise ValueError(
                f"SameConcept: d_model is {d_model}, but a frame is a square; use {nearest}, the nearest one"
            )
        if not 1 <= last <= window:
            raise ValueError(f"SameConcept: last is {last}; it must be from 1 to window ({window})")
        if decay <= 0:
            raise ValueError(f"SameConcept: decay is {decay}; it must be positive")
        self.d_model, self.last, self.window, self.concept_column = d_model, last, window, concept_column
        # softplus(raw) is the decay per interaction
        self.raw_decay = nn.Parameter(torch.tensor(math.log(math.expm1(decay))))
        self.convolutions = nn.Sequential(
            *(ClipBlock(before, after, last) for before, after in pairwise(CHANNELS))
        )
        self.overall = LSTM(d_model)
        self.gates = nn.Linear(2 * d_model, 2 * d_model)
        self.fused = LSTM(d_model)
        self.out = nn.Linear(3 * d_model, d_model)

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> SameConceptState:
        shape = (batch_size, self.window)
        return SameConceptState(
            torch.zeros(*shape, self.d_model, device=device, dtype=accumulator_dtype(dtype)),
            torch.zeros(shape, device=device, dtype=torch.long),
            self.overall.init_state(batch_size, device=device, dtype=dtype),
            self.fused.init_state(batch_size, device=device, dtype=dtype),
        )

    def forward(
        self,
        query_BTD: Tensor,
        written_BTD: Tensor,
        state: SameConceptState | None = None,
        *,
        x_BTF: Tensor,
        mask_BT: Tensor | None = None,
    ) -> tuple[Tensor, SameConceptState]:
        """Reads (B, T, D). A masked step is not written, but its read is right."""
        if state is None:
            state = self.init_state(query_BTD.shape[0], device=query_BTD.device, dtype=query_BTD.dtype)
        if mask_BT is None:
            mask_BT = torch.ones_like(query_BTD[..., 0], dtype=torch.bool)
        concept_BT = x_BTF[..., self.concept_column]
        concept_BT = torch.where(concept_BT >= 1, concept_BT, 0.0).long()  # NaN is none, too
        written_BSD = extend(state.written, written_BTD, mask_BT)
        concept_BS = extend(state.concept, concept_BT, mask_BT)

        clip_BTKD = self._clips(written_BSD, concept_BS, concept_BT, mask_BT).to(query_BTD.dtype)
        curve_BTD = self._convolved(clip_BTKD)
        overall_BTD, overall = _before(self.overall, written_BTD, state.overall, mask_BT)
        both = torch.cat([curve_BTD, overall_BTD], -1)
        of_curve_BTD, of_overall_BTD = self.gates(both).sigmoid().chunk(2, -1)
        z_BTD = of_curve_BTD * curve_BTD + of_overall_BTD * overall_BTD
        fused_BTD, fused = _before(self.fused, z_BTD, state.fused, mask_BT)
        read_BTD = self.out(torch.cat([fused_BTD, z_BTD, query_BTD], -1))
        kept = newest(written_BSD, mask_BT), newest(concept_BS, mask_BT)
        return read_BTD, SameConceptState(*kept, overall, fused)

    def step(
        self,
        query_BD: Tensor,
        written_BD: Tensor,
        state: SameConceptState,
        *,
        x_BF: Tensor,
        mask_B: Tensor | None = None,
    ) -> tuple[Tensor, SameConceptState]:
        read_B1D, state = self.forward(
            query_BD[:, None],
            written_BD[:, None],
            state,
            x_BTF=x_BF[:, None],
            mask_BT=None if mask_B is None else mask_B[:, None],
        )
        return read_B1D[:, 0], state

    def _clips(self, written_BSD: Tensor, concept_BS: Tensor, concept_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """(B, T, K, D): the faded clips, newest frame last, zeros in front where there are fewer than K."""
        start_BT = real_before(mask_BT)  # place of the oldest interaction in sight of each step
        place_BTK, age_BTK = last_same(concept_BS, concept_BT, start_BT, last=self.last, window=self.window)
        clip_BTKD = take(written_BSD, place_BTK.flatten(1)).view(*place_BTK.shape, self.d_model)
        fade_BTK = torch.exp(-F.softplus(self.raw_decay) * age_BTK).masked_fill(age_BTK == 0, 0.0)
        return clip_BTKD * fade_BTK[..., None]

    def _convolved(self, clip_BTKD: Tensor) -> Tensor:
        clip_N1Khh = clip_BTKD.flatten(0, 1).unflatten(-1, (self.side, self.side))[:, None]
        return self.convolutions(clip_N1Khh).mean((1, 2)).flatten(1).view_as(clip_BTKD[:, :, 0])


class ClipBlock(nn.Module):
    """relu(shortcut + gated norm(conv(relu(norm(conv))))) of clips (N, C, K, h, h); the gate weighs the frames.

    Args:
        before: channels of the input.
        after: channels of the output.
        frames: K.
    """

    def __init__(self, before: int, after: int, frames: int) -> None:
        super().__init__()
        # no biases: an empty clip stays 0 up to the norms' own
        self.body = nn.Sequential(
            nn.Conv3d(before, after, 3, padding=1, bias=False),
            nn.GroupNorm(1, after),
            nn.ReLU(),
            nn.Conv3d(after, after, 3, padding=1, bias=False),
            nn.GroupNorm(1, after),
        )
        squeezed = max(1, frames // 2)
        self.excitation = nn.Sequential(
            nn.Linear(frames, squeezed), nn.ReLU(), nn.Linear(squeezed, frames), nn.Sigmoid()
        )
        self.shortcut = nn.Conv3d(before, after, 1, bias=False)

    def forward(self, clip_NCKhh: Tensor) -> Tensor:
        body_NCKhh = self.body(clip_NCKhh)
        gate_NK = self.excitation(body_NCKhh.mean((1, 3, 4)))
        return F.relu(self.shortcut(clip_NCKhh) + body_NCKhh * gate_NK[:, None, :, None, None])


def last_same(
    concept_BS: Tensor, concept_BT: Tensor, start_BT: Tensor, *, last: int, window: int
) -> tuple[Tensor, Tensor]:
    """Where the last interactions on each query's concept are: the index table of the gather.

    Args:
        concept_BS: concepts of the interactions, oldest first.
        concept_BT: concepts of the queries; 0 finds nothing.
        start_BT: place in S of the oldest interaction in sight; the query comes `window` places behind it.
        last: K, how many at most.
        window: W, how many are in sight.

    Returns:
        place_BTK in S and age_BTK, the distance from the query, oldest first. Age 0 (place without meaning) where
        there are fewer than K.
    """
    place_BTW = start_BT[..., None] + torch.arange(window, device=start_BT.device)
    seen_BTW = take(concept_BS, place_BTW.flatten(1)).view(place_BTW.shape)
    same_BTW = (seen_BTW == concept_BT[..., None]) & (seen_BTW > 0)
    number_W = torch.arange(1, window + 1, device=start_BT.device)
    found_BTK = torch.where(same_BTW, number_W, 0).topk(last, -1).values.flip(-1)  # 0: not found
    age_BTK = torch.where(found_BTK > 0, window + 1 - found_BTK, 0)
    return start_BT[..., None] + (found_BTK - 1).clamp(min=0), age_BTK


def _before(lstm: LSTM, x_BTD: Tensor, state: LSTMState, mask_BT: Tensor) -> tuple[Tensor, LSTMState]:
    """Output of the LSTM after the real steps before each step, and its state behind the last."""
    h_BTD, after = lstm(x_BTD, state, mask_BT=mask_BT)
    outputs_BSD = torch.cat([state.h[:, None].to(h_BTD.dtype), to_left(h_BTD, mask_BT)], 1)
    return take(outputs_BSD, real_before(mask_BT)), after

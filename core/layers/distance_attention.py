"""Attention over the student's own past answers that fades with distance: AKT's and simpleKT's retriever.

The question at hand looks up past questions (keys) and takes their interactions, question with answer (values),
strictly before it. Two ways to fade:

    "context"  AKT: score * exp(-softplus(g) sqrt(r d)), d steps back, r the share of an undecayed softmax that fell on
               the steps in between: similar questions age, others do not. r carries no gradient.
    "steps"    score - softplus(g) d: the weight itself falls with the distance, whatever the score.

AKT's code as first published took that softmax over the future too; here nothing enters it that is not strictly past.
The state keeps keys and values of the last `window` answers: window * 8 d_model + 8 bytes.

Source: Ghosh, Heffernan & Lan 2020, AKT (arXiv 2007.12324); Liu et al. 2023, simpleKT (arXiv 2302.06881).
Shape legend: B batch, T time, D model width, H heads, K width of a head, W window, S = W + T.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.history import extend, newest, real_before
from ..ops.softmax_scan import NOTHING
from ..state import accumulator_dtype

Distance = Literal["context", "steps"]


class DistanceAttentionState(NamedTuple):
    """Keys and values (B, W, D) of the last W answers, oldest first, and how many of them are real (B,)."""

    key: Tensor
    value: Tensor
    filled: Tensor


class DistanceAttention(nn.Module):
    """A `Recall`: reads at step t from the query of t and what was written before t.

    A student without a past reads the bias of `out`.

    Args:
        d_model: width D of queries, interactions and reads.
        num_heads: heads H; divides `d_model`.
        window: answers in sight.
        distance: "context" or "steps", as told above.

    Raises:
        ValueError: where `num_heads` does not divide `d_model`, `window` is not positive or `distance` is unknown.
    """

    def __init__(
        self, d_model: int, *, num_heads: int = 4, window: int = 200, distance: Distance = "steps"
    ) -> None:
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"DistanceAttention: num_heads {num_heads} does not divide d_model {d_model}")
        if window < 1:
            raise ValueError(f"DistanceAttention: window is {window}; it must be at least 1")
        if distance not in get_args(Distance):
            raise ValueError(
                f"DistanceAttention: distance is {distance!r}; use one of {list(get_args(Distance))}"
            )
        self.d_model, self.num_heads, self.window, self.distance = d_model, num_heads, window, distance
        # one projection for both, as AKT's "kq_same": similar questions find each other from the start
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.out = nn.Linear(d_model, d_model)
        # softplus(raw) is the decay: one e-folding after 3 to 300 steps (or their root) at the start
        self.raw_decay_H = nn.Parameter(torch.logspace(-0.5, -2.5, num_heads).expm1().log())

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> DistanceAttentionState:
        shape = (batch_size, self.window, self.d_model)
        key_BWD = torch.zeros(shape, device=device, dtype=accumulator_dtype(dtype))
        filled_B = torch.zeros(batch_size, device=device, dtype=torch.long)
        return DistanceAttentionState(key_BWD, key_BWD.clone(), filled_B)

    def forward(
        self,
        query_BTD: Tensor,
        written_BTD: Tensor,
        state: DistanceAttentionState | None = None,
        *,
        x_BTF: Tensor,
        mask_BT: Tensor | None = None,
    ) -> tuple[Tensor, DistanceAttentionState]:
        """Reads (B, T, D). A masked step is not written, but its read is right. `x_BTF` is not looked at."""
        if state is None:
            state = self.init_state(query_BTD.shape[0], device=query_BTD.device, dtype=query_BTD.dtype)
        if mask_BT is None:
            mask_BT = torch.ones_like(query_BTD[..., 0], dtype=torch.bool)
        asked_BTD = self.key(query_BTD)
        key_BSD = extend(state.key, asked_BTD, mask_BT)
        value_BSD = extend(state.value, self.value(written_BTD), mask_BT)

        # places in S: the query of a step comes right behind the last answer before it
        place_S = torch.arange(self.window + mask_BT.shape[1], device=mask_BT.device)
        back_BTS = (real_before(mask_BT) + self.window)[..., None] - place_S
        filled_BS = place_S >= self.window - state.filled[:, None]
        allowed_BTS = (back_BTS >= 1) & (back_BTS <= self.window) & filled_BS[:, None]

        q_BHTK, k_BHSK, v_BHSK = (
            t.to(asked_BTD.dtype).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for t in (asked_BTD, key_BSD, value_BSD)
        )
        s_BHTS = q_BHTK @ k_BHSK.transpose(-1, -2) * q_BHTK.shape[-1] ** -0.5
        weight_BHTS = self._weights(s_BHTS, back_BTS[:, None], allowed_BTS[:, None])
        read_BTD = self.out((weight_BHTS @ v_BHSK).transpose(1, 2).flatten(2))
        filled_B = (state.filled + mask_BT.sum(1)).clamp(max=self.window)
        return read_BTD, DistanceAttentionState(
            newest(key_BSD, mask_BT), newest(value_BSD, mask_BT), filled_B
        )

    def step(
        self,
        query_BD: Tensor,
        written_BD: Tensor,
        state: DistanceAttentionState,
        *,
        x_BF: Tensor,
        mask_B: Tensor | None = None,
    ) -> tuple[Tensor, DistanceAttentionState]:
        read_B1D, state = self.forward(
            query_BD[:, None],
            written_BD[:, None],
            state,
            x_BTF=x_BF[:, None],
            mask_BT=None if mask_B is None else mask_B[:, None],
        )
        return read_B1D[:, 0], state

    def _weights(self, s_BHTS: Tensor, back_B1TS: Tensor, allowed_B1TS: Tensor) -> Tensor:
        """Softmax of the faded scores over the allowed steps; 0 everywhere else, and where there is none."""
        decay_H11 = F.softplus(self.raw_decay_H)[:, None, None]
        back_B1TS = back_B1TS.clamp(min=0).to(s_BHTS.dtype)
        if self.distance == "steps":
            return _softmax(s_BHTS - decay_H11 * back_B1TS, allowed_B1TS)
        with torch.no_grad():
            share_BHTS = _softmax(s_BHTS, allowed_B1TS)
            # share of the later steps, summed from the newest on: what is left of 1 would drown in rounding
            later_BHTS = F.pad(share_BHTS.flip(-1).cumsum(-1).flip(-1)[..., 1:], (0, 1))
            age_BHTS = (later_BHTS * back_B1TS).sqrt()
        return _softmax(s_BHTS * torch.exp(-decay_H11 * age_BHTS), allowed_B1TS)


def _softmax(s_BHTS: Tensor, allowed_B1TS: Tensor) -> Tensor:
    lowest = max(NOTHING, torch.finfo(s_BHTS.dtype).min)  # not -inf: a row that sees nothing stays finite
    return s_BHTS.masked_fill(~allowed_B1TS, lowest).softmax(-1).masked_fill(~allowed_B1TS, 0.0)

"""What the concept memory held before every answer of a window, all at once: its parallel form.

(concept, time) pairs are sorted instead of scanned over time. What a concept held before an answer is then a difference
of two running sums, plus what the state held.

Shape legend: ... any leading axes, B batch, T time, K concept slots of a row, C concepts + 1 (0 is none or unknown),
S columns of the questions' table, R answers in the ring, N = T K pairs, M = N + C.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .concept_features import BITS, RING

NO_TIME = -(2.0**30)
"""Minutes of an answer without a timestamp, and of no answer; not NaN, which no comparison of states survives."""


class ConceptState(NamedTuple):
    """table (B, C, 6): by concept attempts, wins, last outcomes as bits (newest lowest), sum of residuals, number of
    the student's answer that was the last on it (from 1; 0 never), and its minutes. ring (B, R, 4), oldest first:
    question, first concept, correct and residual of the last answers. totals (B, 5): answers, wins, sum of residuals,
    minutes of the last answer, number of concepts met.
    """

    table: Tensor
    ring: Tensor
    totals: Tensor


class Asked(NamedTuple):
    """A row but for its outcome, and what the tables tell of it.

    question (...), concepts (..., K), minutes (...), expected share of right answers (...), its question's row of the
    tables (..., S), its concepts' rows (..., K, 4).
    """

    question: Tensor
    concept_K: Tensor
    minutes: Tensor
    p: Tensor
    question_S: Tensor
    concept_K4: Tensor


class Answer(NamedTuple):
    """Whether the row writes, whether it was right, and by how much that beat the expected share: all (...)."""

    writes: Tensor
    win: Tensor
    residual: Tensor


def table_before(
    asked: Asked, answer: Answer, number_BT: Tensor, table_BC6: Tensor, power_J: Tensor
) -> tuple[Tensor, Tensor]:
    """The table's rows (B, T, K, 6) of the concepts of every step before it, and the table after the last.

    number_BT: answers before each step. power_J: 2^0 .. 2^BITS.
    """
    batch, time, slots = asked.concept_K.shape
    device, rows = table_BC6.device, table_BC6.shape[1]
    writes_BTK = answer.writes[..., None] & (asked.concept_K > 0)
    values = (answer.win, answer.residual, number_BT + 1, minutes_of(asked))
    values_BTK4 = torch.stack(values, -1).double()[:, :, None].expand(-1, -1, slots, -1)

    # behind all pairs stands one reader for every concept: what it finds is the table after the last step
    all_BC = torch.arange(rows, device=device).expand(batch, -1)
    concept_BM = torch.cat([asked.concept_K.flatten(1), all_BC], 1)
    writes_BM = F.pad(writes_BTK.flatten(1).long(), (0, rows))
    values_BM4 = F.pad(values_BTK4.flatten(1, 2), (0, 0, 0, rows))
    pairs = concept_BM.shape[1]
    order_BM = (concept_BM * pairs + torch.arange(pairs, device=device)).sort(1).indices

    # how many pairs write before each in the order of concept, then time; and before the first of its concept
    sorted_BM = writes_BM.gather(1, order_BM)
    place_BM = torch.zeros_like(order_BM).scatter(1, order_BM, sorted_BM.cumsum(1) - sorted_BM)
    start_BM = F.pad(place_BM[:, -rows:-1], (1, 0)).gather(1, concept_BM)
    # those that write, one after the other behind a row of zeros; the rest goes to a place nobody looks at
    length = pairs + 2
    target_BM = flat_index(torch.where(writes_BM > 0, place_BM + 1, length - 1), length)
    done_BL4 = values_BM4.new_zeros(batch, length, 4)
    done_BL4 = done_BL4.flatten(0, 1).index_put((target_BM,), values_BM4).view_as(done_BL4)
    before_BL5 = torch.cat([done_BL4[..., :2].cumsum(1), done_BL4[..., 2:], _packed(done_BL4[..., :1])], -1)
    now_BM5 = before_BL5.flatten(0, 1)[flat_index(place_BM, length)]
    gain_BM2 = now_BM5[..., :2] - before_BL5[..., :2].flatten(0, 1)[flat_index(start_BM, length)]

    old_BM6 = table_BC6.flatten(0, 1)[flat_index(concept_BM, rows)].double()
    new_BM = place_BM - start_BM
    power_BM = power_J[new_BM.clamp(max=BITS)]
    bits_BM = now_BM5[..., 4].long() % power_BM + old_BM6[..., 2].long() * power_BM % 2**BITS
    found = [
        (old_BM6[..., 0] + new_BM)[..., None],
        old_BM6[..., 1:2] + gain_BM2[..., :1],
        bits_BM.double()[..., None],
        old_BM6[..., 3:4] + gain_BM2[..., 1:],
        torch.where(new_BM[..., None] > 0, now_BM5[..., 2:4], old_BM6[..., 4:]),
    ]
    found_BM6 = torch.cat(found, -1).to(table_BC6.dtype)
    return found_BM6[:, :-rows].unflatten(1, (time, slots)), found_BM6[:, -rows:]


def recent_before(asked: Asked, answer: Answer, state: ConceptState) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ring (B, T, R, 4) and totals (B, T, 4) before every step, and both after the last."""
    dtype, time = state.ring.dtype, answer.win.shape[1]
    # the ring, then the answers one after the other; rows that do not write go to a place nobody looks at
    writes_BT = answer.writes.long()
    number_BS = F.pad(writes_BT.cumsum(1), (1, 0))  # S = T + 1: answers before each step and after the last
    length = RING + time + 1
    minutes_BR1 = state.totals[:, None, 3:4].expand(-1, RING, -1)
    rows_BT5 = torch.stack([*ring_entry(asked, answer), minutes_of(asked)], -1)
    all_BL5 = F.pad(torch.cat([state.ring, minutes_BR1], -1), (0, 0, 0, time + 1))
    target_BT = flat_index(torch.where(answer.writes, RING + number_BS[:, :-1], length - 1), length)
    all_XL5 = all_BL5.flatten(0, 1).index_put((target_BT,), rows_BT5)
    window_BSR = number_BS[..., None] + torch.arange(RING, device=number_BS.device)
    ring_BSR5 = all_XL5[flat_index(window_BSR, length)]

    gains_BT3 = torch.stack([torch.ones_like(answer.win), answer.win, answer.residual], -1).double()
    sums_BS3 = F.pad((gains_BT3 * writes_BT[..., None]).cumsum(1), (0, 0, 1, 0))
    sums_BS3 = (state.totals[:, None, :3].double() + sums_BS3).to(dtype)
    totals_BS4 = torch.cat([sums_BS3, ring_BSR5[:, :, -1, 4:]], -1)
    ring_BSR4 = ring_BSR5[..., :4]
    return ring_BSR4[:, :-1], totals_BS4[:, :-1], ring_BSR4[:, -1], totals_BS4[:, -1]


def minutes_of(asked: Asked) -> Tensor:
    return torch.where(torch.isfinite(asked.minutes), asked.minutes, NO_TIME)


def ring_entry(asked: Asked, answer: Answer) -> tuple[Tensor, ...]:
    """What the ring keeps of an answer: four tensors (...)."""
    dtype = answer.win.dtype
    return asked.question.to(dtype), asked.concept_K[..., 0].to(dtype), answer.win, answer.residual


def flat_index(index_B: Tensor, rows: int) -> Tensor:
    """Indices (B, ...) into axis 1 as indices into axes 0 and 1 flattened: one gather of whole rows is cheap."""
    batch = torch.arange(index_B.shape[0], device=index_B.device)
    return index_B + rows * batch.view(-1, *[1] * (index_B.ndim - 1))


def _packed(win_BL1: Tensor) -> Tensor:
    """Each outcome and the BITS - 1 before it as one whole number, the newest as the lowest bit."""
    packed = F.pad(win_BL1, (0, 0, BITS - 1, 0))
    for shift in (1, 2, 4, 8):
        packed = packed[:, shift:] + 2**shift * packed[:, :-shift]
    return packed

"""What a student has done with each concept so far, as exact numbers, in constant memory.

Every answer is read before it is written: the features of step t come from answers strictly before t and from what is
asked at t, never from whether the answer at t was right. All of them are integers, sums of numbers on a grid of 2^-8,
or one division of two such sums; so the parallel form, the step and the exported graphs agree to the last bit, and
trees, which jump at thresholds, may be put on top.

Shape legend: ... any leading axes, B batch, T time, F input columns, K concept slots of a row, C concepts + 1 (0 is
none or unknown), Q questions + 1, S columns of their table, U states of a run, R answers in the ring, V terms and
Z features (`concept_features`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..state import accumulator_dtype, where
from .concept_features import BITS, LINEAR, OTHERS, RING, TERMS, TOLD
from .concept_past import (
    NO_TIME,
    Answer,
    Asked,
    ConceptState,
    flat_index,
    minutes_of,
    recent_before,
    ring_entry,
    table_before,
)

GRID = 256.0
"""Difficulties and residuals are multiples of 1 / GRID: sums below 65,536 are exact in float32."""

NEVER = 16384.0
"""Answers since the last one on a concept, at most; also where there was none."""

MOST_TRIES = 3.0
"""Tries at a question in a row that are told apart."""

RUN_OUTCOMES = 4
"""Last outcomes of a run on a concept that are told apart."""

RATE_EDGES = ((11.0, 20.0), (18.0, 25.0))
"""Fractions that part students who are rarely, often and mostly right."""

TABLES = ("question_QS", "concept_C4", "pair_CC", "run_CU")
QUESTION_COLUMNS = 18


class ConceptMemory(nn.Module):
    """Rows (B, T, F) of `question, correct, minutes, concept_1 .. concept_K` to features (B, T, Z) in `out_names`.

    Ids are whole numbers from 1; 0, NaN and anything out of range is "unknown". `correct` counts as right from 0.5
    on; NaN is a question asked and not answered, which leaves the state as it was, as does a masked row. A concept
    that comes twice in a row counts once. `minutes` may be NaN; c_minutes and s_minutes then are. It has no
    parameters; `set_tables` sets its buffers.

    Args:
        num_questions: of the vocabulary; questions are 1 .. num_questions.
        num_concepts: likewise.
        slots: K, concept columns of a row.

    Raises:
        ValueError: where a number is too small.
    """

    question_QS: Tensor
    concept_C4: Tensor
    pair_CC: Tensor
    run_CU: Tensor
    numerator_VZ: Tensor
    numerator_Z: Tensor
    denominator_VZ: Tensor
    denominator_Z: Tensor
    age_R: Tensor
    halves_J: Tensor
    power_J: Tensor

    def __init__(self, num_questions: int, num_concepts: int, *, slots: int = 1) -> None:
        super().__init__()
        if num_questions < 0 or num_concepts < 0 or slots < 1:
            raise ValueError(
                f"ConceptMemory: {num_questions} questions, {num_concepts} concepts, {slots} slots; wanted at least "
                "0, 0 and 1"
            )
        self.num_questions, self.num_concepts, self.slots = num_questions, num_concepts, slots
        self.in_features, self.out_names = 3 + slots, (*LINEAR, *OTHERS, *TOLD)
        self.out_features = len(self.out_names)
        tables = _nothing_known(num_questions + 1, num_concepts + 1)
        for name, table in zip(TABLES, tables, strict=True):
            self.register_buffer(name, table)
        numerators, denominators = zip(*LINEAR.values(), strict=True)
        for name, forms in (("numerator", numerators), ("denominator", denominators)):
            weights_ZV = torch.tensor([[form.get(term, 0.0) for term in TERMS] for form in forms])
            self.register_buffer(f"{name}_VZ", weights_ZV.T.contiguous(), persistent=False)
            constants_Z = torch.tensor([form.get("1", 0.0) for form in forms])
            self.register_buffer(f"{name}_Z", constants_Z, persistent=False)
        self.register_buffer("age_R", torch.arange(RING, 0, -1, dtype=torch.float32), persistent=False)
        self.register_buffer("halves_J", 0.5 ** torch.arange(BITS + 1), persistent=False)
        self.register_buffer("power_J", 2 ** torch.arange(BITS + 1), persistent=False)

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> ConceptState:
        device, dtype = device or self.pair_CC.device, accumulator_dtype(dtype)
        table_BC6 = torch.zeros(batch_size, self.num_concepts + 1, 6, device=device, dtype=dtype)
        totals_B5 = torch.zeros(batch_size, 5, device=device, dtype=dtype)
        table_BC6[..., 5] = NO_TIME
        totals_B5[..., 3] = NO_TIME
        ring_BR4 = torch.zeros(batch_size, RING, 4, device=device, dtype=dtype)
        return ConceptState(table_BC6, ring_BR4, totals_B5)

    def forward(
        self, x_BTF: Tensor, state: ConceptState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, ConceptState]:
        if state is None:
            state = self.init_state(x_BTF.shape[0], device=x_BTF.device, dtype=x_BTF.dtype)
        asked, answer = self._split(x_BTF.to(state.table.dtype), mask_BT)
        ring_BTR4, totals_BT4, ring_BR4, totals_B4 = recent_before(asked, answer, state)
        rows_BTK6, table_BC6 = table_before(asked, answer, totals_BT4[..., 0], state.table, self.power_J)
        met_BS1 = (
            F.pad(_newly_met(asked, answer, rows_BTK6).cumsum(1), (0, 0, 1, 0)) + state.totals[:, None, 4:]
        )
        totals_BT5 = torch.cat([totals_BT4, met_BS1[:, :-1]], -1)
        z_BTZ = self._read(asked, rows_BTK6, ring_BTR4, totals_BT5)
        totals_B5 = torch.cat([totals_B4, met_BS1[:, -1]], -1)
        return z_BTZ.to(x_BTF.dtype), ConceptState(table_BC6, ring_BR4, totals_B5)

    def step(
        self, x_BF: Tensor, state: ConceptState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, ConceptState]:
        asked, answer = self._split(x_BF.to(state.table.dtype), mask_B)
        flat_BK = flat_index(asked.concept_K, state.table.shape[1])
        rows_BK6 = state.table.flatten(0, 1)[flat_BK]
        z_BZ = self._read(asked, rows_BK6, state.ring, state.totals)

        attempts, wins, bits, residual, _, _ = rows_BK6.unbind(-1)
        win_B1, residual_B1 = answer.win[:, None], answer.residual[:, None]
        bits = 2 * bits + win_B1
        number_B1, minutes_B1 = state.totals[:, :1] + 1, minutes_of(asked)[:, None]
        written = [
            attempts + 1,
            wins + win_B1,
            bits - 2.0**BITS * (bits >= 2.0**BITS),
            residual + residual_B1,
        ]
        written += [number_B1.expand_as(attempts), minutes_B1.expand_as(attempts)]
        writes_BK1 = (answer.writes[:, None] & (asked.concept_K > 0))[..., None]
        after_BK6 = torch.where(writes_BK1, torch.stack(written, -1), rows_BK6)
        # slots without a concept write row 0 back as it was
        table_BC6 = state.table.flatten(0, 1).index_put((flat_BK,), after_BK6).view_as(state.table)

        entry_B14 = torch.stack(ring_entry(asked, answer), -1)[:, None]
        ring_BR4 = torch.cat([state.ring[:, 1:], entry_B14], 1)
        gain_B3 = torch.cat([torch.ones_like(win_B1), win_B1, residual_B1], 1)
        met_B1 = state.totals[:, 4:] + _newly_met(asked, answer, rows_BK6)
        totals_B5 = torch.cat([state.totals[:, :3] + gain_B3, minutes_B1, met_B1], 1)
        ring_BR4, totals_B5 = where(answer.writes, (ring_BR4, totals_B5), (state.ring, state.totals))
        return z_BZ.to(x_BF.dtype), ConceptState(table_BC6, ring_BR4, totals_B5)

    @torch.no_grad()
    def set_tables(
        self, question_QS: Tensor, concept_C4: Tensor, pair_CC: Tensor, run_CU: Tensor
    ) -> ConceptMemory:
        """What training told of each question and concept; returns self. All is rounded to the grid.

        The tables that a model is trained with must not count the very student: they would tell the answer.

        Args:
            question_QS: share of right answers, number of answers, share after a wrong, after a right and as the very
                first answer of a student; in what situation it came: means of `run`, `c_attempts` and `s_rate`; the
                share among students whose rate is below, between and from the `RATE_EDGES` on; and that at the first
                try, then at the second, third and later tries in a row, each after a wrong and after a right one.
                Row 0 is of any question; its number of answers is taken as 0.
            concept_C4: share of right answers, number of answers, and as the first concept of an answer: mean number of
                answers before it, share of answers that follow one on another concept. Row 0 is of all answers.
            pair_CC: share of right answers on a first concept (column) right after one on another (row; 0 none).
            run_CU: share of right answers on a first concept by the last outcomes of the run on it: column
                2^m - 1 + bits after m of them, at most `RUN_OUTCOMES`, the newest as the lowest bit.

        Raises:
            ValueError: where shapes do not fit the vocabulary, a number is not finite, or a share is not one.
        """
        for name, new in zip(TABLES, (question_QS, concept_C4, pair_CC, run_CU), strict=True):
            own, share = getattr(self, name), new[:, 0] if name in TABLES[:2] else new
            if new.shape != own.shape or not (
                torch.isfinite(new).all() and ((share >= 0) & (share <= 1)).all()
            ):
                raise ValueError(
                    f"ConceptMemory.set_tables: {name} is {tuple(new.shape)}; wanted {tuple(own.shape)}, finite, and "
                    "shares between 0 and 1"
                )
            own.copy_(_on_grid(new.double()))
        self.question_QS[0, 1] = 0
        return self

    def _split(self, x: Tensor, mask: Tensor | None) -> tuple[Asked, Answer]:
        question, concept_K = known_ids(x, self.num_questions, self.num_concepts)
        concept_K4 = self.concept_C4[concept_K].to(x.dtype)
        question_S = self.question_QS[question].to(x.dtype)
        counted_K = _counted(concept_K).to(x.dtype)
        mean = (concept_K4[..., 0] * counted_K).sum(-1) / counted_K.sum(-1)
        p = torch.where(question_S[..., 1] > 0, question_S[..., 0], _on_grid(mean))
        writes, win = torch.isfinite(x[..., 1]), is_right(x[..., 1]).to(x.dtype)
        writes = writes if mask is None else writes & mask
        return Asked(question, concept_K, x[..., 2], p, question_S, concept_K4), Answer(writes, win, win - p)

    def _read(self, asked: Asked, rows_K6: Tensor, ring_R4: Tensor, totals_5: Tensor) -> Tensor:
        """Features (..., Z) of what is asked, given what was there before."""
        dtype = rows_K6.dtype
        attempts_K1, bits_K1 = rows_K6[..., :1], rows_K6[..., 2:3]
        counted_K, none = _counted(asked.concept_K).to(dtype), torch.nan
        halved_KJ = (bits_K1 * self.halves_J.to(dtype)).floor()
        outcome_KJ = halved_KJ[..., :-1] - 2 * halved_KJ[..., 1:]
        there_KJ = (attempts_K1 > torch.arange(BITS, device=rows_K6.device)).to(dtype)
        slots = [
            asked.concept_K4[..., :1],
            rows_K6[..., :2],
            rows_K6[..., 3:4],
            (attempts_K1 == 0).to(dtype),
            torch.ones_like(attempts_K1),
            (asked.concept_K > 0).to(dtype)[..., None],
            outcome_KJ - 0.5 * there_KJ,
        ]
        slots_S = (torch.cat(slots, -1) * counted_K[..., None]).sum(-2)

        question_R, concept_R, win_R, residual_R = ring_R4.unbind(-1)
        answers_1, first_1, age_R = totals_5[..., :1], asked.concept_K[..., :1], self.age_R.to(dtype)
        question_1 = asked.question[..., None]
        same_R = (question_R == question_1) & (question_1 > 0)
        other_R = (concept_R != first_1) | (first_1 == 0)
        first_4R = torch.stack([same_R, win_R == 0, other_R, ~same_R], -2)
        # age of the last answer to this question, of the last that was wrong, on another concept, to another question
        ago_4 = torch.where(first_4R, age_R, RING + 1.0).amin(-1)
        ago_3 = ago_4[..., :3]
        same_2R = torch.stack([same_R, age_R < ago_3[..., 2:]], -2).to(dtype)
        wins_2 = (same_2R * win_R[..., None, :]).sum(-1)
        last = torch.where(
            ago_3[..., :1] <= RING, ((age_R == ago_3[..., :1]) * win_R).sum(-1, keepdim=True), 0.5
        )

        terms = [
            slots_S,
            win_R - 0.5 * (age_R <= answers_1),
            residual_R,
            totals_5[..., :3],
            asked.p[..., None],
        ]
        terms += [asked.question_S[..., 1:2], same_2R[..., 0, :].sum(-1, keepdim=True), wins_2, ago_3, last]
        v_V = torch.cat(terms, -1)
        with torch.autocast(v_V.device.type, enabled=False):
            numerator_Z = v_V @ self.numerator_VZ.to(dtype) + self.numerator_Z.to(dtype)
            denominator_Z = v_V @ self.denominator_VZ.to(dtype) + self.denominator_Z.to(dtype)

        least_1 = torch.where(counted_K > 0, asked.concept_K4[..., 0], 1.0).amin(-1, keepdim=True)
        number_K = rows_K6[..., 4]
        ago_K = torch.where(number_K > 0, answers_1 + 1 - number_K, NEVER).clamp(max=NEVER)
        then_2 = torch.cat([rows_K6[..., 5].amax(-1, keepdim=True), totals_5[..., 3:4]], -1)
        minutes_2 = torch.where(then_2 > NO_TIME, asked.minutes[..., None] - then_2, none)
        others = [least_1, ago_K.amin(-1, keepdim=True), minutes_2]

        told = self._told(asked, ago_4, concept_R, win_R, totals_5)
        return torch.cat([numerator_Z / denominator_Z, *others, *told], -1)

    def _told(
        self, asked: Asked, ago_4: Tensor, concept_R: Tensor, win_R: Tensor, totals_5: Tensor
    ) -> list[Tensor]:
        """Features (..., 1) and more in the order of `TOLD`: what the tables tell of a situation like this one."""
        dtype, first_1, question_S = win_R.dtype, asked.concept_K[..., :1], asked.question_S
        answers_1, wins_1, win_1 = totals_5[..., :1], totals_5[..., 1:2], win_R[..., -1:]
        after_1 = torch.where(win_1 > 0, question_S[..., 3:4], question_S[..., 2:3])
        after_1 = torch.where(answers_1 > 0, after_1, question_S[..., 4:5])
        pair_1 = self.pair_CC.flatten()[concept_R[..., -1:].long() * len(self.pair_CC) + first_1].to(dtype)

        rarely, mostly = [over * (wins_1 + 1) >= part * (answers_1 + 2) for part, over in RATE_EDGES]
        able_1 = torch.where(mostly, question_S[..., 10:11], question_S[..., 9:10])
        able_1 = torch.where(rarely, able_1, question_S[..., 8:9])
        tries_1 = (ago_4[..., 3:] - 1).clamp(max=MOST_TRIES)
        tried_1 = torch.where(tries_1 > 0, 2 * tries_1 - 1 + win_1, 0.0).long()
        try_1 = question_S[..., 11:].gather(-1, tried_1)
        told_1 = (ago_4[..., 2:3] - 1).clamp(max=RUN_OUTCOMES)
        power_M = self.power_J[:RUN_OUTCOMES]
        newest_M = win_R.flip(-1)[..., :RUN_OUTCOMES] * (self.age_R.flip(0)[:RUN_OUTCOMES] <= told_1)
        state_1 = self.power_J[told_1.long()] - 1 + (newest_M * power_M).sum(-1, keepdim=True).long()
        run_1 = self.run_CU.flatten()[first_1 * self.run_CU.shape[1] + state_1].to(dtype)
        situation = [question_S[..., 5:8], asked.concept_K4[..., 0, 2:], pair_1]
        return [totals_5[..., 4:], after_1, *situation, able_1, try_1, run_1]


def known_ids(x: Tensor, num_questions: int, num_concepts: int) -> tuple[Tensor, Tensor]:
    """Of answers (..., F): question (...) and concepts (..., K), 0 where unknown or, of the latter, named before."""
    question, concept_K = _known(x[..., 0], num_questions), _known(x[..., 3:], num_concepts)
    slots = concept_K.shape[-1]
    if slots > 1:
        earlier_KK = torch.ones(slots, slots, dtype=torch.bool, device=x.device).tril(-1)
        twin_KK = (concept_K[..., :, None] == concept_K[..., None, :]) & earlier_KK
        concept_K = concept_K.masked_fill(twin_KK.any(-1), 0)
    return question, concept_K


def is_right(correct: Tensor) -> Tensor:
    """Outcomes that count as right; NaN does not."""
    return correct >= 0.5


def _known(ids: Tensor, largest: int) -> Tensor:
    """Whole numbers, 0 where NaN or out of range."""
    return torch.where((ids >= 1) & (ids < largest + 1), ids, 0.0).long()


def _counted(concept_K: Tensor) -> Tensor:
    """The slots that count: those with a concept, or the first, as "unknown", where there is none."""
    used_K = concept_K > 0
    first_K = torch.arange(concept_K.shape[-1], device=concept_K.device) == 0
    return used_K | (first_K & ~used_K.any(-1, keepdim=True))


def _on_grid(p: Tensor) -> Tensor:
    return (p * GRID).round() / GRID


def _newly_met(asked: Asked, answer: Answer, rows_K6: Tensor) -> Tensor:
    """Concepts of the row that the student had never answered before and now does: (..., 1)."""
    new_K = (rows_K6[..., 0] == 0) & (asked.concept_K > 0) & answer.writes[..., None]
    return new_K.to(rows_K6.dtype).sum(-1, keepdim=True)


def _nothing_known(questions: int, concepts: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four `TABLES`, of no training at all."""
    question_S = torch.full((QUESTION_COLUMNS,), 0.5)
    question_S[[1, 5, 6]] = 0.0
    concept_4 = torch.tensor([0.5, 0.0, 0.0, 0.5])
    return (
        question_S.repeat(questions, 1),
        concept_4.repeat(concepts, 1),
        torch.full((concepts, concepts), 0.5),
        torch.full((concepts, 2 ** (RUN_OUTCOMES + 1) - 1), 0.5),
    )

"""Knowledge tracing: from a student's answers to the probability that the next one is right.

Shape legend: ... any leading axes, B batch, T time, F columns of the answers (question, correct, minutes, concepts),
K concept slots, Z features of the memory, D model width, M members, O = 1 + M outputs (1 where M = 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .calibration import Platt
from .layers.concept_memory import ConceptMemory, is_right, known_ids
from .preprocess import Standardize
from .recall import Recall
from .state import State
from .trees import TreeEnsemble

COUNTS = (
    *("q_count", "q_attempts", "q_wins", "q_ago", "c_attempts", "c_wins", "c_fails", "c_ago", "c_minutes"),
    *("s_answers", "s_wins", "s_minutes", "s_concepts", "s_streak", "run", "run_wins"),
    *("q_run_mean", "q_attempts_mean", "c_position"),
)
"""Features with long tails: networks take log(1 + count)."""

SHARES = (
    *("q_mean", "c_mean", "c_min", "c_rate", "s_rate"),
    *("q_last_mean", "q_rate_mean", "cc_mean", "q_able_mean", "q_try_mean", "c_run_mean"),
)
"""Shares of right answers: networks take their log odds as well, of shares held between `EDGE` and 1 - `EDGE`."""

EDGE = 0.02
CLIP = 5.0

FAMILIAR = 10.0
"""Training answers to a question after which half of its embedding counts."""


class TracingNetwork(nn.Module):
    """A recall between embeddings and a head: features and answers to logits (B, T), nothing of `correct` at t.

    query = what is asked: its concepts, its question as far as training has seen it, and the memory's features (long
    counts as logarithms, shares as log odds too). written = the query and the outcome. The head takes what was read,
    the query and the features; a linear skip from the features lets the rest learn what a linear model misses.

    Args:
        memory: whose features it takes; only sizes and names are read off, it is not kept.
        recall: of width `d_model`.
        d_model: width D.
        dropout: probability, on query and head.
    """

    recall: Any
    standardize: Any
    count_Z: Tensor

    def __init__(
        self, memory: ConceptMemory, *, recall: Recall, d_model: int = 64, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.num_questions, self.num_concepts = memory.num_questions, memory.num_concepts
        self.familiar = memory.out_names.index("q_count")
        self.recall = recall
        counts = torch.tensor([name in COUNTS for name in memory.out_names])
        self.register_buffer("count_Z", counts, persistent=False)
        self.shares = [memory.out_names.index(name) for name in SHARES]
        odds = [f"{name}_log_odds" for name in SHARES]
        self.standardize = Standardize([*memory.out_names, *odds], flags=False, clip=CLIP)
        columns = self.standardize.out_features
        self.question = nn.Embedding(self.num_questions + 1, d_model)
        self.concept = nn.Embedding(self.num_concepts + 1, d_model)
        self.outcome = nn.Embedding(2, d_model)
        self.concept_outcome = nn.Embedding(2 * (self.num_concepts + 1), d_model)
        for embedding in (self.question, self.concept, self.outcome, self.concept_outcome):
            nn.init.normal_(embedding.weight, std=0.02 if embedding is self.question else 0.1)
        self.features = nn.Linear(columns, d_model)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Sequential(
            nn.Linear(2 * d_model + columns, 2 * d_model),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * d_model, d_model),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(d_model, 1),
        )
        self.skip = nn.Linear(columns, 1)
        for parameter in (*self.head[-1].parameters(), *self.skip.parameters()):
            nn.init.zeros_(parameter)

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> State:
        return self.recall.init_state(batch_size, device=device, dtype=dtype)

    def forward(
        self, z_BTZ: Tensor, x_BTF: Tensor, state: State = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Logits (B, T) from the memory's features and the answers; the state is the recall's."""
        if state is None:
            state = self.init_state(x_BTF.shape[0], device=x_BTF.device, dtype=x_BTF.dtype)
        f_BTC, query_BTD, written_BTD, writes_BT = self._embed(z_BTZ, x_BTF, mask_BT)
        read_BTD, state = self.recall.forward(query_BTD, written_BTD, state, x_BTF=x_BTF, mask_BT=writes_BT)
        return self._logit(read_BTD, query_BTD, f_BTC), state

    def step(
        self, z_BZ: Tensor, x_BF: Tensor, state: State, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """One step of `forward`: logits (B,) and the state after it."""
        f_BC, query_BD, written_BD, writes_B = self._embed(z_BZ, x_BF, mask_B)
        read_BD, state = self.recall.step(query_BD, written_BD, state, x_BF=x_BF, mask_B=writes_B)
        return self._logit(read_BD, query_BD, f_BC), state

    @torch.no_grad()
    def fit_preprocess(self, z: Tensor, mask: Tensor | None = None) -> TracingNetwork:
        """Fit the standardisation on features (..., Z) of training rows, those where `mask` (...) is True.

        A feature that these rows never hold (times, in a set without) is taken as 0.
        """
        rows_NC = self._scaled(z.flatten(0, -2) if mask is None else z[mask])
        absent_C = ~torch.isfinite(rows_NC).any(0)
        self.standardize.fit(rows_NC.masked_fill(absent_C, 1.0))
        return self

    def _embed(self, z: Tensor, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Standardised features (..., C), query and written (..., D), and whether the step is written (...)."""
        question, concept_K = known_ids(x, self.num_questions, self.num_concepts)
        f_C, seen_1 = self.standardize(self._scaled(z)), z[..., self.familiar, None]
        used_K1 = (concept_K > 0).to(z.dtype)[..., None]
        share_K1 = used_K1 / used_K1.sum(-2, keepdim=True).clamp(min=1)
        known = self.question(question) * (seen_1 / (seen_1 + FAMILIAR))
        query = self.features(f_C) + known + (self.concept(concept_K) * share_K1).sum(-2)
        right = is_right(x[..., 1]).long()
        of_concept_K = concept_K + (self.num_concepts + 1) * right[..., None]
        written = query + self.outcome(right) + (self.concept_outcome(of_concept_K) * share_K1).sum(-2)
        writes = torch.isfinite(x[..., 1])
        return f_C, self.dropout(query), self.dropout(written), writes if mask is None else writes & mask

    def _logit(self, read: Tensor, query: Tensor, f: Tensor) -> Tensor:
        return (self.head(torch.cat([read, query, f], -1)) + self.skip(f))[..., 0]

    def _scaled(self, z: Tensor) -> Tensor:
        """Features (..., Z) to (..., C) with short tails."""
        share = z[..., self.shares].clamp(EDGE, 1 - EDGE)
        z = torch.where(self.count_Z, z.sign() * z.abs().log1p(), z)
        return torch.cat([z, (share / (1 - share)).log()], -1)


class TracingState(NamedTuple):
    """State of the concept memory and of each member (`()` for trees)."""

    memory: State
    members: tuple[State, ...]


class TracingModel(nn.Module):
    """Answers (B, T, F) to probabilities (B, T, O) that each is right, known before it is given: a `SequenceLayer`.

    Column 0, "p_correct", is the calibrated stack of all members; with more than one member their own calibrated
    probabilities follow, "p_<name>". A row whose `correct` is NaN is asked and not answered: it is predicted and
    leaves the state as it was.

    Args:
        memory: the features of all members.
        members: networks and trees, by name.
        calibration: of as many members; None for an unfitted one.

    Raises:
        ValueError: where there is no member, or sizes do not agree.
    """

    memory: Any
    members: Any

    def __init__(
        self,
        memory: ConceptMemory,
        members: Mapping[str, TracingNetwork | TreeEnsemble],
        *,
        calibration: Platt | None = None,
    ) -> None:
        super().__init__()
        calibration = Platt(len(members)) if calibration is None else calibration
        if calibration.num_members != len(members):
            raise ValueError(
                f"TracingModel: the calibration is of {calibration.num_members} members, but there are "
                f"{len(members)}: {list(members)}"
            )
        for name, member in members.items():
            if isinstance(member, TreeEnsemble) and member.num_features != memory.out_features:
                raise ValueError(
                    f"TracingModel: {name} takes {member.num_features} features, the memory gives "
                    f"{memory.out_features}; train the trees on this memory's features"
                )
        self.memory, self.members, self.calibration = memory, nn.ModuleDict(members), calibration
        self.in_features, self.num_outputs = memory.in_features, calibration.num_outputs
        self.out_names = ("p_correct", *(f"p_{name}" for name in members if len(members) > 1))

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> TracingState:
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        members = [
            () if isinstance(member, TreeEnsemble) else member.init_state(batch_size, **options)
            for member in self.members.values()
        ]
        return TracingState(self.memory.init_state(batch_size, **options), tuple(members))

    def forward(
        self, x_BTF: Tensor, state: TracingState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, TracingState]:
        logit_BTM, state = self.logits(x_BTF, state, mask_BT=mask_BT)
        return self.calibration(logit_BTM), state

    def logits(
        self, x_BTF: Tensor, state: TracingState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, TracingState]:
        """Logits (B, T, M) of the members, which `calibration.fit` takes, and the state after the last step."""
        if state is None:
            state = self.init_state(x_BTF.shape[0], device=x_BTF.device, dtype=x_BTF.dtype)
        z_BTZ, memory = self.memory(x_BTF, state.memory, mask_BT=mask_BT)
        logits, states = [], []
        for member, before in zip(self.members.values(), state.members, strict=True):
            if isinstance(member, TreeEnsemble):
                logit_BT, after = member(z_BTZ), ()
            else:
                logit_BT, after = member(z_BTZ, x_BTF, before, mask_BT=mask_BT)
            logits.append(logit_BT)
            states.append(after)
        return torch.stack(logits, -1), TracingState(memory, tuple(states))

    def step(
        self, x_BF: Tensor, state: TracingState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, TracingState]:
        z_BZ, memory = self.memory.step(x_BF, state.memory, mask_B=mask_B)
        logits, states = [], []
        for member, before in zip(self.members.values(), state.members, strict=True):
            if isinstance(member, TreeEnsemble):
                logit_B, after = member(z_BZ), ()
            else:
                logit_B, after = member.step(z_BZ, x_BF, before, mask_B=mask_B)
            logits.append(logit_B)
            states.append(after)
        return self.calibration(torch.stack(logits, -1)), TracingState(memory, tuple(states))

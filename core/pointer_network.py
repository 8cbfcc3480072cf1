"""The pointer network: reads points with any layer, writes the numbers of some of them with another.

    e = encoder(embed(x))                              one vector a point, and one learned vector for the end
    d_t = decoder(input of the point taken before)     a sequence layer; trained over all steps at once, then stepped
    p_t = pointer attention of d_t to e                over what the rule allows

Two well-known networks are configurations of it: `PointerNetwork.of_paper` and `PointerNetwork.set_transformer`.

Source: Vinyals, Fortunato & Jaitly 2015 (arXiv 1506.03134). Theirs: one LSTM layer of 256 to 512 units, uniform
(-0.08, 0.08) initial weights, SGD with learning rate 1, batch 128, gradient norm at most 2, a million pairs. Adam
gets further in minutes.
Shape legend: B batch, N points, F features of a point, A = N + 1 actions (N is the end), L steps, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from .blocks import Block
from .layers.attention import CausalAttention
from .layers.lstm import LSTM
from .layers.pointer import PointerAttention, PointerKeys
from .layers.set_attention import SetAttention
from .ops.history import take
from .pointer_rules import RULES, Rule
from .state import SequenceLayer, State, flatten

SLOWEST = 1000.0
"""Steps after which the slowest hand of the clock has gone round by one radian."""


class Encoded(NamedTuple):
    """A problem: keys of the pointer, what the decoder is fed when a point was taken (B, A, D), its first input
    (B, D) and its first state."""

    keys: PointerKeys
    fed: Tensor
    first: Tensor
    state: State


class PointerState(NamedTuple):
    """An answer that grows.

    keys and fed as in `Encoded`; real (B, N) which points are there; input (B, D) of the decoder's next step, and its
    state; taken (B, A) what the rule keeps from coming again; done (B,) whether the end was taken; answer (B, L)
    int64, -1 where there is nothing yet; step (B,) int64.
    """

    keys: PointerKeys
    fed: Tensor
    real: Tensor
    input: Tensor
    decoder: State
    taken: Tensor
    done: Tensor
    answer: Tensor
    step: Tensor


class PointerNetwork(nn.Module):
    """Points to log-probabilities of answers, and a policy of `core.decode`.

    Args:
        rule: which answers there are: a name in `RULES` or a `Rule`.
        num_features: F.
        encoder: makes an encoder layer of a width, once a layer: any sequence layer, or `SetAttention`.
        decoder: makes the decoder layer: any sequence layer.
        d_model: width D.
        num_layers: of the encoder.
        ff_mult: hidden width of the feed-forward parts, in units of `d_model`.
        both_ways: a second encoder reads the points backwards.
        residual: layers stand in pre-norm blocks with feed-forward parts; otherwise bare.
        start: the decoder starts in the "last" state of the encoder, which must be of its kind; or in its own, and
            its first input knows the "mean" of the encodings.
        feed: the decoder is fed the "point" that was taken, or its "encoding".
        clock: the decoder is told the number of the step.
        glimpses: see `PointerAttention`.
        clip: likewise.

    Raises:
        ValueError: where a name is unknown, a number too small, or the encoder's state no state of the decoder.
    """

    encoder: Any  # modules with the methods of their layers
    backwards: Any
    decoder: Any
    pointer: Any
    mean: Any
    merge: Any
    encoder_norm: Any
    decoder_norm: Any
    speed_D: Tensor
    ahead_D: Tensor

    def __init__(
        self,
        rule: str | Rule,
        *,
        num_features: int = 2,
        encoder: Callable[[int], nn.Module] = SetAttention,
        decoder: Callable[[int], SequenceLayer] = LSTM,
        d_model: int = 96,
        num_layers: int = 2,
        ff_mult: int = 2,
        both_ways: bool = False,
        residual: bool = True,
        start: Literal["last", "mean"] = "mean",
        feed: Literal["point", "encoding"] = "encoding",
        clock: bool = True,
        glimpses: int = 0,
        clip: float | None = None,
    ) -> None:
        super().__init__()
        self.rule = _rule(rule)
        for name, value, known in (("start", start, ("last", "mean")), ("feed", feed, ("point", "encoding"))):
            if value not in known:
                raise ValueError(f"PointerNetwork: {name} is {value!r}; wanted one of {known}")
        if num_layers < 1:
            raise ValueError(f"PointerNetwork: num_layers is {num_layers}; it must be at least 1")
        self.d_model, self.start_from, self.feed, self.clock = d_model, start, feed, clock

        def stack(layer: Callable[[int], Any], number: int) -> nn.ModuleList:
            layers = [layer(d_model) for _ in range(number)]
            return nn.ModuleList(
                [Block(one, d_model, ff_mult=ff_mult) if residual else one for one in layers]
            )

        self.embed = nn.Linear(num_features, d_model)
        self.encoder = stack(encoder, num_layers)
        self.backwards = stack(encoder, num_layers) if both_ways else None
        self.merge = nn.Linear(2 * d_model, d_model) if both_ways else None
        (self.decoder,) = stack(decoder, 1)
        self.encoder_norm = nn.LayerNorm(d_model) if residual else nn.Identity()
        self.decoder_norm = nn.LayerNorm(d_model) if residual else nn.Identity()
        self.end_D = nn.Parameter(0.1 * torch.randn(d_model))
        self.first_D = nn.Parameter(0.1 * torch.randn(d_model))
        self.mean = nn.Linear(d_model, d_model) if start == "mean" else None
        self.pointer = PointerAttention(d_model, glimpses=glimpses, clip=clip)
        if start == "last":
            _check_same_kind(self.encoder[-1].init_state(1), self.decoder.init_state(1))
        number_D = torch.arange(d_model)
        speed_D = SLOWEST ** -(number_D // 2 * 2 / d_model)
        if self.rule.group:  # two hands go round once a group
            speed_D[:2] = 2 * math.pi / self.rule.group
        self.register_buffer("speed_D", speed_D, persistent=False)
        self.register_buffer("ahead_D", number_D % 2 * math.pi / 2, persistent=False)

    @classmethod
    def of_paper(cls, rule: str | Rule, *, num_features: int = 2, d_model: int = 256) -> PointerNetwork:
        """The paper's: an LSTM encoder and an LSTM decoder that starts where the encoder ended, fed points."""
        return cls(
            rule,
            num_features=num_features,
            encoder=LSTM,
            decoder=LSTM,
            d_model=d_model,
            num_layers=1,
            residual=False,
            start="last",
            feed="point",
            clock=False,
        )

    @classmethod
    def set_transformer(
        cls, rule: str | Rule, *, num_features: int = 2, d_model: int = 96, num_layers: int = 3
    ) -> PointerNetwork:
        """Attention blocks over the set of points, causal attention over those taken, scores clipped at 10."""
        return cls(
            rule,
            num_features=num_features,
            encoder=SetAttention,
            decoder=CausalAttention,
            d_model=d_model,
            num_layers=num_layers,
            clip=10.0,
        )

    def encode(self, x_BNF: Tensor, real_BN: Tensor) -> Encoded:
        """What the decoder needs to know of the points that are there."""
        embedded_BND = self.embed(x_BNF)
        e_BND, state = _through(self.encoder, embedded_BND, real_BN)
        if self.merge is not None:
            other_BND, _ = _through(self.backwards, embedded_BND.flip(1), real_BN.flip(1))
            e_BND = self.merge(torch.cat([e_BND, other_BND.flip(1)], -1))
        e_BND = self.encoder_norm(e_BND)
        batch = e_BND.shape[0]
        end_B1D = self.end_D.expand(batch, 1, -1)
        fed_BND = e_BND if self.feed == "encoding" else embedded_BND
        first_BD = self.first_D.expand(batch, -1)
        if self.mean is not None:
            state = self.decoder.init_state(batch, device=e_BND.device, dtype=e_BND.dtype)
            there_BN1 = real_BN[..., None].to(e_BND.dtype)
            mean_BD = (e_BND * there_BN1).sum(1) / there_BN1.sum(1).clamp(min=1.0)
            first_BD = first_BD + self.mean(mean_BD)
        keys = self.pointer.keys(torch.cat([e_BND, end_B1D], 1))
        return Encoded(keys, torch.cat([fed_BND, end_B1D], 1), first_BD, state)

    def forward(self, x_BNF: Tensor, real_BN: Tensor, action_BL: Tensor) -> Tensor:
        """Log-probabilities (B, L) of the actions of given answers, all steps at once; 0 where there is none.

        Args:
            x_BNF: points.
            real_BN: which of them are there.
            action_BL: numbers of points, N the end, -1 behind the last action.
        """
        encoded = self.encode(x_BNF, real_BN)
        real_BL = action_BL >= 0
        place_BL = action_BL.clamp(min=0)
        before_BLD = torch.cat([encoded.first[:, None], take(encoded.fed, place_BL)], 1)[:, :-1]
        step_BL = torch.arange(action_BL.shape[1], device=action_BL.device).expand_as(action_BL)
        d_BLD, _ = self.decoder(self._timed(before_BLD, step_BL), encoded.state, mask_BT=real_BL)
        taken_BLA = self.rule.taken_before(action_BL, encoded.fed.shape[1])
        feasible_BLA = self.rule.feasible(taken_BLA, real_BN[:, None], step_BL)
        log_p_BLA = self.pointer(self.decoder_norm(d_BLD), encoded.keys, feasible_BLA)
        return log_p_BLA.gather(2, place_BL[..., None])[..., 0].masked_fill(~real_BL, 0.0)

    def start(self, x_BNF: Tensor, real_BN: Tensor) -> PointerState:
        """The state before the first step."""
        encoded = self.encode(x_BNF, real_BN)
        nobody_BN = torch.zeros_like(real_BN)
        taken_BA = torch.cat([nobody_BN, nobody_BN[:, :1]], 1)
        step_B = nobody_BN[:, 0].long()
        answer_BL = torch.cat([nobody_BN.long() - 1] * self.rule.per_point, 1)
        return PointerState(
            encoded.keys,
            encoded.fed,
            real_BN,
            encoded.first,
            encoded.state,
            taken_BA,
            nobody_BN[:, 0],
            answer_BL,
            step_B,
        )

    def steps(self, points: int) -> int:
        """Actions of the longest answer about so many points."""
        return points * self.rule.per_point + int(self.rule.ends)

    def propose(self, state: PointerState) -> tuple[Tensor, State]:
        d_BD, decoder = self.decoder.step(self._timed(state.input, state.step), state.decoder)
        feasible_BA = self.rule.feasible(state.taken, state.real, state.step) & ~state.done[:, None]
        log_p_B1A = self.pointer(self.decoder_norm(d_BD)[:, None], state.keys, feasible_BA[:, None])
        return log_p_B1A[:, 0], decoder

    def advance(self, state: PointerState, notes: State, action_B: Tensor) -> PointerState:
        is_end_B = action_B == state.real.shape[1]
        number_L = torch.arange(state.answer.shape[1], device=action_B.device)
        here_BL = (number_L == state.step[:, None]) & ~is_end_B[:, None]
        return PointerState(
            state.keys,
            state.fed,
            state.real,
            take(state.fed, action_B[:, None])[:, 0],
            notes,
            self.rule.take(state.taken, action_B, state.step),
            state.done | is_end_B,
            torch.where(here_BL, action_B[:, None], state.answer),
            state.step + 1,
        )

    def _timed(self, input: Tensor, step: Tensor) -> Tensor:
        """The decoder's input (..., D) with the number of the step (...) added as turns of hands."""
        if not self.clock:
            return input
        return input + torch.sin(step[..., None] * self.speed_D + self.ahead_D)


def _rule(rule: str | Rule) -> Rule:
    if isinstance(rule, Rule):
        return rule
    if rule not in RULES:
        raise ValueError(f"PointerNetwork: no rule {rule!r}; wanted one of {', '.join(RULES)}, or a Rule")
    return RULES[rule]


def _through(layers: Any, h_BND: Tensor, real_BN: Tensor) -> tuple[Tensor, State]:
    state: State = ()
    for layer in layers:
        h_BND, state = layer(h_BND, None, mask_BT=real_BN)
    return h_BND, state


def _check_same_kind(encoder: State, decoder: State) -> None:
    ours, theirs = ({name: t.shape for name, t in flatten(state).items()} for state in (encoder, decoder))
    if ours != theirs:
        raise ValueError(
            f'PointerNetwork: start is "last", but the encoder ends in a state {ours} and the decoder starts from '
            f'{theirs}; take layers of one kind, or start="mean"'
        )

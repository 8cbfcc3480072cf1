"""Decoding of toy policies whose best answers are known."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from remem.core.decode import Policy, beam, feasible_log_p, greedy, sample
from remem.core.export import ExportError
from remem.core.export_decoder import export_decoder
from remem.core.ops.softmax_scan import NOTHING

END = 0


class Chain(NamedTuple):
    table: Tensor
    before: Tensor
    done: Tensor
    answer: Tensor
    t: Tensor


class Table:
    """Random probabilities (B, T, A, A) of an action at a time after an action; `END` ends the answer."""

    def __init__(self, batch: int, steps: int, actions: int) -> None:
        random = torch.Generator().manual_seed(actions)
        self.steps = steps
        self.log_p = (2 * torch.randn(batch, steps, actions, actions, generator=random)).log_softmax(-1)

    def start(self) -> Chain:
        nobody = torch.zeros(len(self.log_p), dtype=torch.long)
        answer = torch.full(self.log_p.shape[:2], -1)
        return Chain(self.log_p, nobody, nobody.bool(), answer, nobody)

    def propose(self, state: Chain) -> tuple[Tensor, tuple[()]]:
        row = torch.arange(len(state.t))
        log_p_BA = state.table[row, state.t.clamp(max=self.steps - 1), state.before]
        return log_p_BA.masked_fill(state.done[:, None], NOTHING), ()

    def advance(self, state: Chain, notes: tuple[()], action_B: Tensor) -> Chain:
        answer = state.answer.clone()
        answer[torch.arange(len(answer)), state.t.clamp(max=self.steps - 1)] = action_B
        # on purpose without a guard: what it does to finished rows must be undone
        return Chain(state.table, action_B, action_B == END, answer, state.t + 1)

    def likelihood(self, row: int, answer: tuple[int, ...]) -> float:
        total, before = 0.0, 0
        for t, action in enumerate(answer):
            total += self.log_p[row, t, before, action].item()
            before = action
        return total

    def answers(self) -> list[tuple[int, ...]]:
        """All of them: up to the first END, or of full length."""
        going = range(1, self.log_p.shape[-1])
        ended = [(*a, END) for n in range(self.steps) for a in itertools.product(going, repeat=n)]
        return ended + list(itertools.product(going, repeat=self.steps))


class Places(NamedTuple):
    xy: Tensor
    left: Tensor
    at: Tensor
    tour: Tensor
    t: Tensor


class Nearest(nn.Module):
    """A closed tour that goes on to a near point, over the points that are there."""

    def start(self, xy: Tensor, real: Tensor) -> Places:
        at_B = torch.zeros_like(xy[:, 0, 0]).long()
        return Places(xy, real, at_B, torch.zeros_like(real).long() - 1, at_B)

    def propose(self, state: Places) -> tuple[Tensor, Tensor]:
        here_B12 = state.xy.gather(1, state.at[:, None, None].expand(-1, 1, 2))
        far_BN = (state.xy - here_B12).square().sum(-1)
        return feasible_log_p(-20 * far_BN, state.left), state.t + 1

    def advance(self, state: Places, notes: Tensor, action_B: Tensor) -> Places:
        number_N = torch.arange(state.left.shape[1])
        left_BN = state.left & (number_N != action_B[:, None])
        tour_BN = torch.where(number_N == state.t[:, None], action_B[:, None], state.tour)
        return Places(state.xy, left_BN, action_B, tour_BN, notes)


class Tour(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.policy, self.width = Nearest(), width

    def forward(self, xy: Tensor, real: Tensor, graph: bool = True) -> tuple[Tensor, Tensor]:
        start, steps = self.policy.start(xy, real), xy.shape[1]
        if self.width == 1:
            state, log_p_B = greedy(self.policy, start, steps, graph=graph)
        else:
            state, log_p_B = beam(self.policy, start, steps, self.width, graph=graph)
        return state.tour, log_p_B


def points(batch: int, n: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(100 * batch + n)
    real = torch.rand(batch, n, generator=random) < 0.8
    real[:, 0] = True
    return torch.rand(batch, n, 2, generator=random), real


def taken(answer_T: Tensor) -> tuple[int, ...]:
    return tuple(action for action in answer_T.tolist() if action >= 0)


def test_greedy_takes_the_likeliest_action_and_stops_at_the_end() -> None:
    policy = Table(20, 4, 5)
    state, log_p_B = greedy(policy, policy.start(), 4)
    for row, answer_T in enumerate(state.answer):
        answer, before = taken(answer_T), 0
        for t, action in enumerate(answer):
            assert action == policy.log_p[row, t, before].argmax()
            before = action
        assert answer in policy.answers()
        assert log_p_B[row].item() == pytest.approx(policy.likelihood(row, answer), abs=1e-5)
    assert len({len(taken(answer_T)) for answer_T in state.answer}) > 1


def test_a_beam_that_holds_every_prefix_finds_the_best_answer_of_all() -> None:
    policy = Table(30, 4, 4)
    state, log_p_B = beam(policy, policy.start(), 4, width=len(policy.answers()))
    for row, answer_T in enumerate(state.answer):
        best = max(policy.answers(), key=lambda answer: policy.likelihood(row, answer))
        assert taken(answer_T) == best
        assert log_p_B[row].item() == pytest.approx(policy.likelihood(row, best), abs=1e-5)


def test_a_beam_of_one_is_greedy_and_a_wider_one_is_better_on_average() -> None:
    policy = Table(200, 5, 6)
    state, log_p_B = greedy(policy, policy.start(), 5)
    alone, alone_B = beam(policy, policy.start(), 5, 1)
    torch.testing.assert_close(alone.answer, state.answer, rtol=0, atol=0)
    torch.testing.assert_close(alone_B, log_p_B)
    _, wide_B = beam(policy, policy.start(), 5, 4)
    assert wide_B.mean() > log_p_B.mean() + 0.1


def test_samples_come_with_their_probabilities() -> None:
    policy = Table(1, 2, 3)
    many = policy.start()
    many = Chain(*(tensor.expand(20_000, *tensor.shape[1:]) for tensor in many))
    state, log_p_B = sample(policy, many, 2, torch.Generator().manual_seed(0))
    seen: dict[tuple[int, ...], int] = {}
    for answer_T, log_p in zip(state.answer, log_p_B, strict=True):
        answer = taken(answer_T)
        seen[answer] = seen.get(answer, 0) + 1
        assert abs(log_p.item() - policy.likelihood(0, answer)) < 1e-5
    for answer in policy.answers():
        p = torch.tensor(policy.likelihood(0, answer)).exp().item()
        assert seen.get(answer, 0) / 20_000 == pytest.approx(p, abs=0.015)
    again, _ = sample(policy, many, 2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(again.answer, state.answer, rtol=0, atol=0)


@pytest.mark.parametrize("width", [1, 3])
def test_rows_without_anything_feasible_stay_as_they_are(width: int) -> None:
    """Padding decodes to what the problem alone gives, and a row without any point to nothing."""
    xy, real = points(4, 9)
    real[2] = False
    tour_BN, log_p_B = Tour(width)(xy, real, graph=False)
    assert torch.isfinite(log_p_B).all()
    assert (tour_BN[2] == -1).all()
    assert log_p_B[2] == 0
    for row in (0, 1, 3):
        number = real[row].nonzero()[:, 0]
        alone, alone_p = Tour(width)(xy[row, number][None], real[row, number][None], graph=False)
        tour = tour_BN[row, : len(number)]
        assert (tour_BN[row, len(number) :] == -1).all()
        torch.testing.assert_close(tour, number[alone[0]])
        torch.testing.assert_close(log_p_B[row], alone_p[0])


def test_the_number_of_steps_is_a_limit_given_as_number_or_tensor() -> None:
    xy, real = points(3, 8)
    policy = Nearest()
    for steps in (3, torch.tensor(3)):
        state, _ = greedy(policy, policy.start(xy, torch.ones_like(real)), steps)
        assert ((state.tour >= 0).sum(1) == 3).all()


def test_feasible_log_p_is_exact_and_has_finite_gradients() -> None:
    logits = torch.tensor([[1.0, 500.0, 2.0], [3.0, 4.0, 5.0]], requires_grad=True)
    feasible = torch.tensor([[True, False, True], [False, False, False]])
    log_p = feasible_log_p(logits, feasible)
    assert (log_p[~feasible] == NOTHING).all()
    assert log_p[0, [0, 2]].exp().sum().item() == pytest.approx(1.0)
    log_p[feasible].sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[~feasible] == 0).all()


@pytest.mark.parametrize("width", [1, 3])
def test_one_graph_decodes_sizes_never_traced(width: int) -> None:
    free = {0: "batch", 1: "n"}
    graph = export_decoder(
        Tour(width),
        inputs={"xy": free, "real": free},
        outputs={"tour": free, "log_p": {0: "batch"}},
        example=points(3, 7),
        probes=[points(1, 1), points(5, 20)],
    )
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for batch, n in ((2, 3), (1, 40), (9, 11)):
        xy, real = points(batch, n)
        tour_BN, log_p_B = Tour(width)(xy, real, graph=False)
        got_tour, got_log_p = session.run(None, {"xy": xy.numpy(), "real": real.numpy()})
        assert got_tour.tolist() == tour_BN.tolist()
        torch.testing.assert_close(torch.from_numpy(got_log_p), log_p_B, rtol=1e-5, atol=1e-5)


def test_a_graph_that_differs_from_its_decoder_is_refused() -> None:
    class Frozen(Tour):
        def forward(self, xy: Tensor, real: Tensor, graph: bool = True) -> tuple[Tensor, Tensor]:
            tour_BN, log_p_B = super().forward(xy, real, graph)
            return (tour_BN + 1 if graph else tour_BN), log_p_B

    free = {0: "batch", 1: "n"}
    with pytest.raises(ExportError, match="tour differs"):
        export_decoder(
            Frozen(1),
            inputs={"xy": free, "real": free},
            outputs={"tour": free, "log_p": {0: "batch"}},
            example=points(3, 7),
            probes=[points(2, 5)],
        )


def test_a_beam_without_width_is_refused() -> None:
    policy: Policy = Table(1, 2, 3)
    with pytest.raises(ValueError, match="width is 0"):
        beam(policy, Table(1, 2, 3).start(), 2, 0)

"""Pointer networks: valid answers, one set of numbers trained, stepped and exported, and that they learn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from remem.core import LSTM, Aaren, CausalAttention, LSTMAttention
from remem.core.decode import beam, greedy, sample
from remem.core.export_decoder import export_decoder
from remem.core.layers.set_attention import SetAttention
from remem.core.pointer_network import PointerNetwork
from remem.core.pointer_rules import RULES

NETWORKS: dict[str, Callable[[str], PointerNetwork]] = {
    "paper": partial(PointerNetwork.of_paper, d_model=16),
    "set transformer": partial(PointerNetwork.set_transformer, d_model=16, num_layers=1),
    "Aaren both ways": partial(
        PointerNetwork, encoder=Aaren, decoder=Aaren, d_model=16, both_ways=True, glimpses=1, clip=10.0
    ),
    "LSTM + attention": partial(
        PointerNetwork, encoder=LSTMAttention, decoder=LSTMAttention, d_model=16, start="last"
    ),
    "causal attention": partial(PointerNetwork, encoder=CausalAttention, decoder=CausalAttention, d_model=16),
}


def points(batch: int, n: int, features: int = 2) -> tuple[Tensor, Tensor]:
    """Points, some of which are not there."""
    random = torch.Generator().manual_seed(100 * batch + n)
    real = torch.rand(batch, n, generator=random) < 0.8
    real[:, -1] = True
    return torch.rand(batch, n, features, generator=random), real


def with_end(answer: Tensor, done: Tensor, end: int) -> Tensor:
    """The actions behind an answer: itself, and the end where that was taken."""
    answer = torch.cat([answer, torch.full_like(answer[:, :1], -1)], 1)
    length = (answer >= 0).sum(1, keepdim=True)
    return torch.where(
        done[:, None] & (torch.arange(answer.shape[1]) == length), torch.full_like(answer, end), answer
    )


def fault(rule: str, answer: list[int], real: Tensor) -> str:
    there = set(real.nonzero()[:, 0].tolist())
    if not set(answer) <= there:
        return "points that are not there"
    if rule == "triangles":
        triples = [answer[i : i + 3] for i in range(0, len(answer), 3)]
        return "" if all(len(set(triple)) == 3 for triple in triples) else f"no triangles: {triples}"
    if len(set(answer)) < len(answer):
        return f"repeated: {answer}"
    if rule == "polygon":
        return "" if answer else "empty"
    if set(answer) != there:
        return "points left out"
    return "" if rule == "permutation" or answer[0] == min(there) else "another first point"


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", NETWORKS)
def test_answers_are_valid_and_their_log_probability_is_the_teacher_forced_one(name: str, rule: str) -> None:
    torch.manual_seed(1)
    network = NETWORKS[name](rule).eval()
    xy, real = points(6, 9)
    with torch.no_grad():
        start = network.start(xy, real)
        steps = network.steps(9)
        decoded = [
            greedy(network, start, steps),
            beam(network, start, steps, 3),
            sample(network, start, steps, torch.Generator().manual_seed(3)),
        ]
        for state, log_p_B in decoded:
            for row, answer in enumerate(state.answer.tolist()):
                assert state.done[row] == RULES[rule].ends
                taken = answer[: int(state.step[row]) - int(state.done[row])]
                assert fault(rule, taken, real[row]) == ""
                assert answer[len(taken) :] == [-1] * (len(answer) - len(taken))
            action_BL = with_end(state.answer, state.done, 9)
            forced_BL = network(xy, real, action_BL)
            torch.testing.assert_close(forced_BL.sum(1), log_p_B, rtol=1e-5, atol=1e-5)
            assert (forced_BL[action_BL < 0] == 0).all()


@pytest.mark.parametrize("rule", ["tour", "polygon", "triangles"])
def test_points_that_are_not_there_change_nothing(rule: str) -> None:
    torch.manual_seed(1)
    network = NETWORKS["set transformer"](rule).eval()
    xy, real = points(5, 8)
    with torch.no_grad():
        state, log_p_B = greedy(network, network.start(xy, real), network.steps(8))
        for row in range(5):
            number = real[row].nonzero()[:, 0]
            few = xy[row, number][None]
            start = network.start(few, torch.ones_like(real[row, number])[None])
            alone, alone_p = greedy(network, start, network.steps(len(number)))
            taken, answer = alone.answer[0], state.answer[row]
            assert answer[answer >= 0].tolist() == number[taken[taken >= 0]].tolist()
            torch.testing.assert_close(log_p_B[row], alone_p[0], rtol=1e-5, atol=1e-5)


def test_what_a_rule_forbids_has_no_probability_whatever_the_weights() -> None:
    """Greedy decoding of 10,000 problems never repeats a point."""
    torch.manual_seed(0)
    for rule in ("tour", "polygon"):
        network = PointerNetwork.of_paper(rule, d_model=8).eval()
        for parameter in network.parameters():
            parameter.data *= 5
        xy, real = points(5000, 8)
        with torch.no_grad():
            state, _ = greedy(network, network.start(xy, real), network.steps(8))
        counts_BN = (state.answer[..., None] == torch.arange(8)).sum(1)
        assert counts_BN.max() == 1
        assert (counts_BN[~real] == 0).all()
        if rule == "tour":
            assert (counts_BN[real] == 1).all()


def test_a_set_encoder_does_not_see_the_order_of_the_points_and_an_lstm_does() -> None:
    torch.manual_seed(0)
    xy = torch.rand(2, 7, 2)
    real = torch.ones(2, 7, dtype=torch.bool)
    order = torch.tensor([4, 2, 6, 0, 5, 1, 3])
    action = torch.tensor([[0, 3, 5, 7], [2, 1, 7, -1]])
    place = torch.cat([order.argsort(), torch.tensor([7])])
    moved = torch.where(action < 0, action, place[action.clamp(min=0)])
    for name, alike in (("set transformer", True), ("paper", False)):
        network = NETWORKS[name]("polygon").eval()
        one, two = network(xy, real, action), network(xy[:, order], real, moved)
        assert torch.allclose(one, two, atol=1e-5) == alike


def test_the_papers_decoder_starts_where_its_encoder_ended() -> None:
    torch.manual_seed(0)
    network = PointerNetwork.of_paper("tour", d_model=8)
    xy, real = points(3, 6)
    _, last = network.encoder[0](network.embed(xy), mask_BT=real)
    torch.testing.assert_close(network.start(xy, real).decoder, last)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "circle"}, "no rule 'circle'; wanted one of permutation"),
        ({"rule": "tour", "start": "last"}, "take layers of one kind"),
        ({"rule": "tour", "num_layers": 0}, "num_layers is 0"),
        ({"rule": "tour", "feed": "nothing"}, "feed is 'nothing'"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PointerNetwork(encoder=SetAttention, decoder=LSTM, d_model=8, **arguments)


def test_it_learns_to_sort_five_numbers() -> None:
    torch.manual_seed(0)
    network = PointerNetwork("permutation", num_features=1, d_model=32, num_layers=1, decoder=LSTM)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    real = torch.ones(128, 5, dtype=torch.bool)
    steps = 500
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * (1 - step / steps)
        x = torch.rand(128, 5, 1)
        loss = -network(x, real, x[..., 0].argsort(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = torch.rand(2000, 5, 1, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        state, _ = greedy(network, network.start(x, torch.ones(2000, 5, dtype=torch.bool)), 5)
    exact = (state.answer == x[..., 0].argsort(1)).all(1).float().mean().item()
    assert exact >= 0.95


class Greedy(nn.Module):
    def __init__(self, network: PointerNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, xy: Tensor, real: Tensor, graph: bool = True) -> tuple[Tensor, Tensor]:
        start = self.network.start(xy, real)
        state, log_p_B = greedy(self.network, start, self.network.steps(xy.shape[1]), graph=graph)
        return state.answer, log_p_B


def test_encoder_and_loop_export_as_one_graph() -> None:
    """The paper's LSTM network, whose encoder is the trap: a traced length may stay in it."""
    torch.manual_seed(0)
    network = PointerNetwork.of_paper("polygon", d_model=8)
    free = {0: "batch", 1: "n"}
    export_decoder(
        Greedy(network),
        inputs={"xy": free, "real": free},
        outputs={"answer": free, "log_p": {0: "batch"}},
        example=points(3, 37),
        probes=[points(1, 1), points(5, 80), points(2, 9)],
    )

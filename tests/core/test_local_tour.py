"""The tour policy: what it sees is free of place, size and direction, and whatever it says is a tour."""

import math

import numpy as np
import pytest
import torch

from remem.core.decode import greedy, sample
from remem.core.local_tour import PathNetwork, PathPolicy, Seen, TourDecoder, look
from remem.core.ops.softmax_scan import NOTHING


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return PathNetwork(24, num_heads=3, num_layers=2).double().eval().requires_grad_(False)


def problems(batch, n, seed=0):
    xy = torch.rand(batch, n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return xy, torch.ones(batch, n, dtype=torch.bool)


def closed(xy, first=0):
    ends = torch.full((len(xy),), first)
    return ends, ends


def decoded(network, xy, real, head, tail, window=8, width=1):
    return TourDecoder(PathPolicy(network, window), width)(xy, real, head, tail, graph=False)


@pytest.mark.parametrize("turn", [0.7, 3.0])
def test_moving_turning_and_scaling_change_nothing(network, turn):
    xy, real = problems(6, 23)
    turned = torch.tensor(
        [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]], dtype=torch.float64
    )
    for moved in (xy + 5, xy * 1e-3, xy @ turned.T, 300 * (xy @ turned.T) - 7):
        tour, log_p = decoded(network, xy, real, *closed(xy))
        other, other_log_p = decoded(network, moved, real, *closed(xy))
        assert torch.equal(tour, other)
        torch.testing.assert_close(log_p, other_log_p, rtol=1e-6, atol=0)


def test_a_mirror_is_seen(network):
    """The frame takes turns away, not mirrors: training and x8 decoding count on that."""
    place, real = problems(1, 9)
    straight = network(Seen(place, real))
    mirrored = network(Seen(place * torch.tensor([-1.0, 1.0]), real))
    assert (straight - mirrored).abs().max() > 1e-3


def test_names_of_nodes_change_nothing(network):
    xy, real = problems(4, 17)
    order = torch.randperm(17, generator=torch.Generator().manual_seed(1))
    tour, _ = decoded(network, xy, real, *closed(xy, 5))
    other, _ = decoded(network, xy[:, order], real, *closed(xy, int(order.argsort()[5])))
    assert torch.equal(tour, order[other])


@pytest.mark.parametrize("width", [1, 3])
def test_every_answer_is_a_tour_with_its_ends(network, width):
    for n in (1, 2, 3, 5, 9, 30):
        xy, real = problems(5, n, seed=n)
        xy[0] = xy[0, :1]  # all at one place
        head = torch.arange(5) % n
        tail = torch.where(torch.arange(5) % 2 == 0, head, (head + 1) % n)
        tour, log_p = decoded(network, xy, real, head, tail, width=width)
        assert (tour.sort(1).values == torch.arange(n)).all()
        assert torch.equal(tour[:, 0], head)
        apart = head != tail
        assert torch.equal(tour[apart, -1], tail[apart])
        assert torch.isfinite(log_p).all()


def test_padding_is_nothing(network):
    xy, real = problems(3, 14)
    real[1, 9:] = False
    tour, log_p = decoded(network, xy, real, *closed(xy))
    alone, alone_log_p = decoded(network, xy[1:2, :9], real[1:2, :9], *closed(xy[1:2]))
    assert torch.equal(tour[1, :9], alone[0])
    assert tour[1, 9:].tolist() == [9, 10, 11, 12, 13]
    torch.testing.assert_close(log_p[1], alone_log_p[0], rtol=0, atol=1e-9)


def test_log_p_is_the_sum_of_its_steps(network):
    policy = PathPolicy(network, 8)
    xy, real = problems(4, 12)
    start = policy.start(xy, real, *closed(xy))
    state, log_p = sample(policy, start, 11, torch.Generator().manual_seed(0))
    tour = policy.tour(state, real)
    # the same tour again, step by step: every node is put next to the end the policy chose
    state, total = start, torch.zeros(4, dtype=torch.float64)
    for _ in range(11):
        log_p_BK, notes = policy.propose(state)
        place = tour.argsort(1)
        wanted = torch.where(notes.at_head, tour[:, 1:].gather(1, state.ahead[:, None])[:, 0], -1)
        wanted = torch.where(notes.at_head, wanted, tour.gather(1, 11 - state.behind[:, None])[:, 0])
        assert (place.gather(1, wanted[:, None]) >= 0).all()
        action = (notes.node == wanted[:, None]).long().argmax(1)
        total += log_p_BK.gather(1, action[:, None])[:, 0]
        state = policy.advance(state, notes, action)
    torch.testing.assert_close(total.float(), log_p.float(), rtol=0, atol=1e-5)


def test_the_window_holds_the_nearest_of_either_end():
    xy, _ = problems(3, 40)
    left = torch.ones(3, 40, dtype=torch.bool)
    left[:, :4] = False
    head, tail = torch.tensor([0, 1, 2]), torch.tensor([3, 0, 1])
    node, seen = look(xy, left, head, tail, 6)
    for b in range(3):
        away = torch.cdist(xy[b], xy[b, torch.stack([head[b], tail[b]])]).amin(1)
        away[:4] = torch.inf
        assert set(node[b].tolist()) == set(away.topk(6, largest=False).indices.tolist())
        assert torch.equal(seen.place[b, 2:], xy[b, node[b]])


def test_what_is_not_there_gets_nothing(network):
    place, real = problems(2, 11)
    real[0, 7:] = False
    logit = network(Seen(place, real))
    assert (logit[0, :, 7:] == NOTHING).all()
    assert (logit[:, range(11), range(11)] == NOTHING).all()
    assert (logit[:, :2, :2] == NOTHING).all()
    moved = place.clone()
    moved[0, 7:] = 100.0
    torch.testing.assert_close(network(Seen(moved, real))[0, :7, :7], logit[0, :7, :7])


def test_gradients_are_finite_where_points_coincide():
    torch.manual_seed(0)
    network = PathNetwork(16, num_heads=2, num_layers=1)
    place = torch.zeros(2, 6, 2, requires_grad=True)
    network(Seen(place, torch.ones(2, 6, dtype=torch.bool))).clamp(min=-50).sum().backward()
    assert torch.isfinite(place.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="num_heads 5 does not divide d_model 24"):
        PathNetwork(24, num_heads=5)


def test_a_policy_that_knows_distances_is_nearest_neighbour_from_both_ends():
    """With all weights zero but that of the distance, the decoder must be the textbook heuristic."""
    network = PathNetwork(16, num_heads=2, num_layers=1).double().requires_grad_(False)
    for parameter in network.parameters():
        parameter.zero_()
    network.near.weight[0, 0] = -3.0  # of the distance in units of the mean one
    xy, real = problems(3, 15, seed=4)
    policy = PathPolicy(network, 20)
    state, _ = greedy(policy, policy.start(xy, real, *closed(xy)), 14)
    for b in range(3):
        away = torch.cdist(xy[b], xy[b]).numpy()
        path, left = [0], list(range(1, 15))
        while left:
            from_ends = np.stack([away[path[-1], left], away[path[0], left]])
            weight = np.exp(-3.0 * np.minimum(from_ends / from_ends.min(0).mean(), 10.0))
            sure = weight.max(1) / weight.sum(1)
            side = 0 if sure[0] >= sure[1] else 1
            j = left.pop(int(from_ends[side].argmin()))
            path = [*path, j] if side == 0 else [j, *path]
        at = path.index(0)
        assert policy.tour(state, real)[b].tolist() == path[at:] + path[:at]

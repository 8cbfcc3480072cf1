"""The hull policy: what it may choose, what it must not notice, what it learns, and its graph."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from remem.core.decode import greedy
from remem.core.export_decoder import export_decoder
from remem.core.glimpses import closeness
from remem.core.local_hull import (
    Corner,
    HullDecoder,
    HullPointer,
    HullPolicy,
    feasible_corners,
    look,
    middling,
    true_steps,
)
from remem.data.geometry.hull import convex_hull, is_simple
from remem.data.geometry.instances import generate


def decoded(pointer: HullPointer, xy: torch.Tensor, real: torch.Tensor | None = None) -> list[list[int]]:
    policy = HullPolicy(pointer)
    real = torch.ones_like(xy[..., 0], dtype=torch.bool) if real is None else real
    with torch.no_grad():
        state, _ = greedy(policy, policy.start(xy, real), xy.shape[1] + 1)
    return [row[row >= 0].tolist() for row in state.hull]


def points(batch: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, n, 2, generator=torch.Generator().manual_seed(seed))


def labels(xy: torch.Tensor) -> torch.Tensor:
    hulls = [convex_hull(one.double().numpy()) for one in xy]
    label = np.full((len(hulls), max(map(len, hulls))), -1)
    for row, hull in zip(label, hulls, strict=True):
        row[: len(hull)] = hull
    return torch.from_numpy(label)


def least_turn() -> HullPointer:
    """A pointer whose network is written by hand: the less the turn, the better."""
    pointer = HullPointer(4, num_glimpses=3)

    class Least(torch.nn.Module):
        def forward(self, turn, far, feasible):
            angle = torch.atan2(turn[..., 1], turn[..., 0])
            return (-1e3 * angle + far).masked_fill(~feasible, -1e30)

    pointer.network = Least()
    return pointer


@pytest.fixture(scope="module")
def untrained() -> HullPointer:
    torch.manual_seed(3)
    return HullPointer(8, num_glimpses=2).eval()


@pytest.fixture(scope="module")
def trained() -> HullPointer:
    """Some seconds of training on 5 to 30 points."""
    torch.manual_seed(0)
    pointer = HullPointer(16, num_glimpses=2)
    optimizer = torch.optim.Adam(pointer.parameters(), lr=1e-2)
    for step in range(160):
        xy = points(32, 5 + step % 26, seed=step)
        label = labels(xy)
        corners, targets = true_steps(xy, label)
        row, at = torch.nonzero(targets >= 0, as_tuple=True)
        corner, target, seen = Corner(*(part[row, at] for part in corners)), targets[row, at], xy[row]
        is_first = torch.arange(xy.shape[1]) == label[row, :1]
        feasible = feasible_corners(seen, corner, torch.ones_like(is_first), is_first)
        turn, far = look(seen, corner, feasible)
        logit = pointer.network(turn, closeness(far, middling(far, feasible)), feasible)
        again = pointer.again(turn, far, feasible, logit.argmax(-1))
        loss = F.cross_entropy(logit, target) + F.cross_entropy(again, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return pointer.eval()


def test_the_true_hull_is_always_feasible_and_its_steps_lead_round_it():
    for n in (3, 5, 20, 100):
        xy = points(30, n, seed=n)
        label = labels(xy)
        corners, targets = true_steps(xy, label)
        row, at = torch.nonzero(targets >= 0, as_tuple=True)
        corner = Corner(*(part[row, at] for part in corners))
        is_first = torch.arange(n) == label[row, :1]
        feasible = feasible_corners(xy[row], corner, torch.ones_like(is_first), is_first)
        assert feasible.gather(1, targets[row, at][:, None]).all()
        for hull, target in zip(label, targets, strict=True):
            assert torch.equal(torch.roll(hull[hull >= 0], -1), target[target >= 0])


def test_a_net_that_takes_the_least_turn_finds_every_hull():
    for n in (3, 4, 7, 50, 300):
        xy = points(20, n, seed=n)
        assert decoded(least_turn(), xy) == [row[row >= 0].tolist() for row in labels(xy)]


@pytest.mark.parametrize("n", [3, 4, 6, 15, 60])
def test_whatever_the_net_says_the_polygon_is_simple_and_turns_left(untrained, n):
    xy = points(60, n, seed=n)
    for one, hull in zip(xy.double().numpy(), decoded(untrained, xy), strict=True):
        assert len(hull) >= 3
        assert is_simple(one, hull)
        assert convex_hull(one[hull]).tolist() == list(range(len(hull)))


def test_points_on_a_line_in_one_place_and_alone_end_without_a_fault(untrained):
    line = torch.arange(6.0)[:, None].expand(6, 2)[None] / 6
    assert len(decoded(untrained, line)[0]) == 2
    assert decoded(untrained, torch.full((1, 5, 2), 0.3)) == [[0]]
    assert decoded(untrained, torch.zeros(2, 1, 2)) == [[0], [0]]


def test_moving_scaling_and_turning_by_a_right_angle_change_nothing_else(trained):
    # float32 keeps these moves exact, so the answers must be the same, not nearly
    xy = torch.round(points(40, 30) * 2**12) / 2**12
    wanted = decoded(trained, xy)
    assert decoded(trained, xy * 2.0**-9 + 0.25) == wanted
    turned = torch.stack([-xy[..., 1], xy[..., 0]], -1)
    for a, b in zip(decoded(trained, turned), wanted, strict=True):
        at = b.index(a[0])
        assert a == b[at:] + b[:at]


def test_permuting_the_points_permutes_the_hull(trained):
    xy = points(40, 25)
    order = torch.randperm(25, generator=torch.Generator().manual_seed(1))
    for a, b in zip(decoded(trained, xy[:, order]), decoded(trained, xy), strict=True):
        assert order[a].tolist() == b


def test_padding_and_other_rows_change_nothing(trained):
    xy = points(8, 20)
    padded = torch.cat([xy, torch.full((8, 7, 2), -5.0)], 1)
    real = torch.arange(27).expand(8, 27) < 20
    assert decoded(trained, padded, real) == decoded(trained, xy)
    assert [decoded(trained, one[None])[0] for one in xy] == decoded(trained, xy)


def test_looking_again_finds_more_hulls_than_looking_once(trained, record_property):
    """Trained for seconds on at most 30 points; what the second glimpse is for."""
    xy = points(100, 200, seed=9)
    wanted = [row[row >= 0].tolist() for row in labels(xy)]
    exact = {}
    for trained.num_glimpses in (1, 2):
        exact[trained.num_glimpses] = sum(a == b for a, b in zip(decoded(trained, xy), wanted, strict=True))
    record_property("told", f"hulls of 200 points, of 100: {exact[1]} with one glimpse, {exact[2]} with two")
    assert exact[2] >= 80
    assert exact[2] > exact[1] + 10


def test_the_graph_answers_as_torch_at_sizes_it_never_saw(untrained):
    free = {0: "batch", 1: "n"}

    def example(batch, n):
        return points(batch, n, seed=n), torch.arange(n).expand(batch, n) < n - (torch.arange(batch) % 3)[
            :, None
        ]

    graph = export_decoder(
        HullDecoder(untrained),
        inputs={"xy": free, "real": free},
        outputs={"hull": free, "log_p": {0: "batch"}},
        example=example(3, 12),
        probes=[example(*size) for size in ((1, 3), (6, 40), (2, 5))],
    )
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    xy = np.stack([generate("grid", 90, seed) for seed in range(3)]).astype(np.float32)
    hull, _ = session.run(None, {"xy": xy, "real": np.ones((3, 90), bool)})
    assert [row[row >= 0].tolist() for row in hull] == decoded(untrained, torch.from_numpy(xy))


def test_without_a_glimpse_there_is_an_error():
    with pytest.raises(ValueError, match="num_glimpses is 0"):
        HullPointer(num_glimpses=0)


def test_a_very_short_edge_does_not_lead_astray():
    # on a circle the gap after the leftmost point is one that float32 turns anywhere
    for gap in (1e-3, 1e-5, 3e-7):
        angle = np.pi + np.sort(np.r_[0.0, gap, np.linspace(0.1, 6.2, 61)])
        xy = torch.from_numpy(0.5 + 0.5 * np.column_stack([np.cos(angle), np.sin(angle)])).float()[None]
        for turned in (xy, 1 - xy, torch.stack([xy[..., 1], 1 - xy[..., 0]], -1)):
            assert len(decoded(least_turn(), turned)[0]) >= 61

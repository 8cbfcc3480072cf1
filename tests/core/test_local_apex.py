"""The apex pointer: what it may choose, what it must not notice, how far it sees, what it learns, and its graph."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from remem.core.export_decoder import export_decoder
from remem.core.local_apex import ApexDecoder, ApexPointer, edge_frame, left_of
from remem.core.ops.softmax_scan import NOTHING
from remem.data.geometry.delaunay import delaunay_triangles
from remem.data.geometry.hull import convex_hull


def points(batch: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, n, 2, generator=torch.Generator().manual_seed(seed))


def true_apexes(xy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Edges (E, 3) of the triangulations of xy (B, N, 2), with the hull's the wrong way round, and apexes (E,)."""
    edges, apexes = [], []
    for i, one in enumerate(xy.double().numpy()):
        for a, b, c in delaunay_triangles(one).tolist():
            edges += [(i, a, b), (i, b, c), (i, c, a)]
            apexes += [c, a, b]
        hull = convex_hull(one).tolist()
        edges += [(i, b, a) for a, b in zip(hull, hull[1:] + hull[:1], strict=True)]
        apexes += [-1] * len(hull)
    return torch.tensor(edges), torch.tensor(apexes)


def asked(pointer: ApexPointer, xy: torch.Tensor, edge: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return ApexDecoder(pointer)(xy, torch.ones_like(xy[..., 0], dtype=torch.bool), edge)[0]


class Deepest(torch.nn.Module):
    """A network written by hand: the least turn, that is the deepest inside the circle."""

    def forward(self, turn, far, feasible):
        return (-torch.atan2(turn[..., 1], turn[..., 0])).masked_fill(~feasible, NOTHING)


@pytest.fixture(scope="module")
def untrained() -> ApexPointer:
    torch.manual_seed(3)
    return ApexPointer(8, num_glimpses=2, window=4).eval()


@pytest.fixture(scope="module")
def trained() -> ApexPointer:
    """Some seconds of training on 5 to 30 points."""
    torch.manual_seed(0)
    pointer = ApexPointer(16, num_glimpses=2, window=8)
    optimizer = torch.optim.Adam(pointer.parameters(), lr=1e-2)
    for step in range(120):
        xy = points(10, 5 + step % 26, seed=step)
        edge, apex = true_apexes(xy)
        edge, apex = edge[apex >= 0], apex[apex >= 0]
        place = edge_frame(xy[edge[:, 0]], edge[:, 1:])
        left = left_of(place, edge[:, 1:], torch.ones_like(place[..., 0], dtype=torch.bool))
        chosen, losses = None, []
        for _ in range(2):
            view = pointer.near(place, left, chosen)
            if chosen is None:
                logit = pointer.first(view)
            else:
                logit = pointer.again(view, (view.node == chosen[:, None]).int().argmax(-1))
            hit = (view.node == apex[:, None]) & view.left
            there = hit.any(-1)
            losses.append(F.cross_entropy(logit[there], hit[there].int().argmax(-1)))
            chosen = view.node.gather(1, logit.argmax(-1)[:, None])[:, 0]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
    return pointer.eval()


def test_a_net_that_goes_deepest_finds_every_apex_through_a_small_window():
    pointer = ApexPointer(4, num_glimpses=6, window=4)
    pointer.network = Deepest()
    for n in (3, 5, 20, 200):
        xy = points(3, n, seed=n)
        edge, apex = true_apexes(xy)
        assert torch.equal(asked(pointer, xy, edge), apex)


def test_the_first_window_is_what_is_nearest_and_the_next_what_is_deepest():
    xy = points(1, 60)
    edge, _ = true_apexes(xy)
    pointer = ApexPointer(4, window=5)
    place = edge_frame(xy[edge[:, 0]], edge[:, 1:])
    left = left_of(place, edge[:, 1:], torch.ones_like(place[..., 0], dtype=torch.bool))
    far = torch.where(left, (place**2).sum(-1), torch.inf)
    view = pointer.near(place, left, None)
    wanted = far.topk(5, largest=False).indices
    assert torch.equal(view.node.sort(1).values[view.left.all(1)], wanted.sort(1).values[view.left.all(1)])
    some = left.any(-1)
    chosen = torch.where(left, far, -1.0).argmax(-1)  # any point will do, as this one, the farthest
    again = pointer.near(place[some], left[some], chosen[some])
    assert (again.node == chosen[some][:, None]).any(1).all()


def test_neither_end_nor_a_point_to_the_right_is_ever_chosen(untrained):
    xy = points(4, 30)
    edge, _ = true_apexes(xy)
    apex = asked(untrained, xy, edge)
    for (i, a, b), c in zip(edge.tolist(), apex.tolist(), strict=True):
        left = (xy[i, b] - xy[i, a])[0] * (xy[i] - xy[i, a])[:, 1] - (xy[i, b] - xy[i, a])[1] * (
            xy[i] - xy[i, a]
        )[:, 0]
        left[[a, b]] = 0.0
        assert (c >= 0) == bool((left > 1e-6).any())
        assert c < 0 or (left[c] > 0 and c not in (a, b))


def test_a_hull_edge_has_nothing_outside_though_rounding_lifts_its_ends():
    # 1000 points: the ends of an edge come to heights of about 1e-6 in its frame
    xy = points(1, 1000, seed=4)
    hull = convex_hull(xy[0].double().numpy()).tolist()
    edge = torch.tensor([(0, b, a) for a, b in zip(hull, hull[1:] + hull[:1], strict=True)])
    pointer = ApexPointer(4)
    assert (asked(pointer, xy, edge) == -1).all()


def test_moving_scaling_turning_and_permuting_change_nothing_else(trained):
    # float32 keeps these moves exact
    xy = torch.round(points(6, 40) * 2**12) / 2**12
    edge, _ = true_apexes(xy)
    wanted = asked(trained, xy, edge)
    assert torch.equal(asked(trained, xy * 2.0**-9 + 0.25, edge), wanted)
    assert torch.equal(asked(trained, torch.stack([-xy[..., 1], xy[..., 0]], -1), edge), wanted)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    place = torch.empty_like(order)
    place[order] = torch.arange(40)
    moved = torch.cat([edge[:, :1], place[edge[:, 1:]]], 1)
    found = asked(trained, xy[:, order], moved)
    assert torch.equal(torch.where(found >= 0, order[found.clamp(min=0)], -1), wanted)


def test_looking_again_finds_more_apexes_than_looking_once(trained, record_property):
    """Trained for seconds on at most 30 points."""
    xy = points(2, 300, seed=9)
    edge, apex = true_apexes(xy)
    wrong = {}
    for trained.num_glimpses in (1, 3):
        wrong[trained.num_glimpses] = int((asked(trained, xy, edge) != apex).sum())
    record_property(
        "told", f"wrong apexes of {len(apex)}: {wrong[1]} with one glimpse, {wrong[3]} with three"
    )
    assert wrong[3] <= 0.005 * len(apex)
    assert wrong[3] < wrong[1]


def test_the_graph_answers_as_torch_at_sizes_it_never_saw(untrained):
    free = {0: "batch", 1: "n"}

    def example(batch, n):
        xy = points(batch, n, seed=n)
        real = torch.arange(n).expand(batch, n) < n - (torch.arange(batch) % 2)[:, None]
        return xy, real, true_apexes(xy[:, : n - 1])[0][: 3 * n : 2]

    export_decoder(
        ApexDecoder(untrained),
        inputs={"xy": free, "real": free, "edge": {0: "edges"}},
        outputs={"apex": {0: "edges"}, "log_p": {0: "edges"}},
        example=example(3, 12),
        probes=[example(*size) for size in ((1, 4), (6, 40), (1, 150))],
    )


def test_without_a_glimpse_or_a_window_there_is_an_error():
    with pytest.raises(ValueError, match="num_glimpses is 0"):
        ApexPointer(num_glimpses=0)
    with pytest.raises(ValueError, match="window 0"):
        ApexPointer(window=0)

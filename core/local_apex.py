"""A Delaunay policy that looks from a directed edge for the third corner of the triangle to its left.

The frame is the edge: from -1 to 1 on the x axis, so place, size and direction of the problem are gone, and its size
with them. A candidate is told by the angle under which it sees the edge, and a glimpse by the circle through the edge
and the present choice: the angle against the choice's says how deep inside or far outside a candidate is. The first
circle has the edge as its diameter. This is an inductive bias, and the whole one of the empty circle (B. Delaunay
1934); what is left to learn is that the apex is the candidate deepest inside. Pointing is by glimpses, see
`core/glimpses.py`.

Each glimpse sees the `window` candidates of least power to the circle at hand, at first those nearest to the middle
of the edge. So apexes far away, as edges near the hull have, come in sight from the choice before.

Sources: Vinyals et al. 2015 (arXiv 1506.03134: triangles by a pointer). The edge frame and the glimpses are ours.
Shape legend: E directed edges, N points, K points in the window, 2 coordinates, or cosine and sine.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .glimpses import GlimpseNetwork, at, closeness, turned_back
from .local_frame import to_frame, unit

FLAT = 1e-6
"""Points whose height over the edge is less than this share of their distance count as on its line."""
BEYOND = 1e30


class View(NamedTuple):
    """Candidates of an edge: node (E, K) int64, place in the frame (E, K, 2), cosine and sine of the angle under which
    they see the edge (E, K, 2), and whether they are left of it (E, K)."""

    node: Tensor
    place: Tensor
    angle: Tensor
    left: Tensor


class ApexPointer(nn.Module):
    """For directed edges the point that makes the Delaunay triangle on their left.

    Args:
        d_model: hidden width of the network.
        num_glimpses: times it points, each from the choice before.
        window: candidates K that a glimpse sees.

    Raises:
        ValueError: without a glimpse or a window.
    """

    def __init__(self, d_model: int = 16, *, num_glimpses: int = 3, window: int = 16) -> None:
        super().__init__()
        if num_glimpses < 1 or window < 1:
            raise ValueError(
                f"ApexPointer: num_glimpses is {num_glimpses} and window {window}; wanted 1 or more of both"
            )
        self.num_glimpses, self.window = num_glimpses, window
        self.network = GlimpseNetwork(d_model)

    def forward(self, place: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """The apex (E,) int64, -1 where nothing lies left of the edge, and its log-probability (E,).

        Args:
            place: (E, N, 2) points in the frames of the edges, see `edge_frame`. left: (E, N) bool, see `left_of`.
        """
        view = self.near(place, left, None)
        logit = self.first(view)
        for _ in range(self.num_glimpses - 1):
            choice = logit.argmax(-1)
            chosen = view.node.gather(1, choice[:, None])
            view = self.near(place, left, chosen[:, 0])
            logit = self.again(view, (view.node == chosen).to(logit.dtype).argmax(-1))
        log_p, choice = torch.log_softmax(logit, -1).max(-1)
        apex = view.node.gather(1, choice[:, None])[:, 0]
        some = left.any(-1)
        return torch.where(some, apex, -1), torch.where(some, log_p, 0.0)

    def near(self, place: Tensor, left: Tensor, chosen: Tensor | None) -> View:
        """The window of the circle through the edge and `chosen` (E,) int64; None: the circle on the edge."""
        power = _power(place, None if chosen is None else at(place, chosen))
        power = power.masked_fill(~left, BEYOND)
        if chosen is not None:  # it stays in sight, whatever rounding says of its own circle
            itself = torch.arange(place.shape[1], device=place.device) == chosen[:, None]
            power = power.masked_fill(itself & left, -BEYOND)
        return view_of(place, left, least(power, self.window))

    def first(self, view: View) -> Tensor:
        """Logits (E, K) of the first glimpse, from the circle with the edge as its diameter."""
        cos, sin = view.angle[..., 0], view.angle[..., 1]
        turn = torch.stack([sin, cos], -1)  # a right angle less the angle
        return self.network(turn, _far(view), view.left)

    def again(self, view: View, choice: Tensor) -> Tensor:
        """Logits (E, K) of a glimpse from the present choice (E,), a place in the window, whatever made it."""
        back = turned_back(view.angle, choice)
        turn = torch.stack([back[..., 0], -back[..., 1]], -1)
        return self.network(turn, _far(view), view.left)


def edge_frame(xy: Tensor, edge: Tensor) -> Tensor:
    """Points xy (E, N, 2) in the frames (E, N, 2) of directed edges (E, 2) int64, whose ends come to -1 and 1."""
    tail, head = at(xy, edge[:, 0]), at(xy, edge[:, 1])
    half = torch.sqrt(((head - tail) ** 2).sum(-1).clamp(min=1e-20)) / 2
    return to_frame(xy, ((head + tail) / 2)[:, None], unit(head - tail)[:, None]) / half[:, None, None]


def left_of(place: Tensor, edge: Tensor, real: Tensor) -> Tensor:
    """(E, N) bool: the points left of the edges; neither of its ends, whatever rounding says of their height."""
    index = torch.arange(place.shape[1], device=place.device)
    end = (index == edge[:, :1]) | (index == edge[:, 1:])
    far = torch.sqrt((place * place).sum(-1))
    return real & ~end & (place[..., 1] > FLAT * (1 + far))


def least(power: Tensor, window: int) -> Tensor:
    """Where (E, K) the `window` least values of power (E, N) are, the least first; N or more behind the last."""
    padding = torch.full_like(power[:, :1], BEYOND).expand(-1, window)
    return torch.topk(torch.cat([power, padding], 1), window, largest=False).indices


def view_of(place: Tensor, left: Tensor, index: Tensor) -> View:
    """What a glimpse sees of points (E, N, 2) that are left of their edges (E, N) at index (E, K), N for nothing."""
    last = place.shape[1] - 1
    known = index.clamp(max=last)
    seen = place.gather(1, known[..., None].expand(-1, -1, 2))
    x, y = seen[..., 0], seen[..., 1]
    to_ends = torch.sqrt((((x + 1) ** 2 + y * y) * ((x - 1) ** 2 + y * y)).clamp(min=1e-20))
    angle = torch.stack([(x * x + y * y - 1) / to_ends, 2 * y / to_ends], -1)
    return View(known, seen, angle, left.gather(1, known) & (index <= last))


class ApexDecoder(nn.Module):
    """One wave of an advancing front, for `core/export_decoder.py`: the apexes of many directed edges.

    Args:
        pointer: a trained pointer.
    """

    def __init__(self, pointer: ApexPointer) -> None:
        super().__init__()
        self.pointer = pointer

    def forward(self, xy: Tensor, real: Tensor, edge: Tensor, graph: bool = True) -> tuple[Tensor, Tensor]:
        """apex (E,) int64, -1 where nothing lies left of the edge, and its log-probability (E,).

        Args:
            xy: (B, N, 2) points. real: (B, N) bool, which of them are points.
            edge: (E, 3) int64 of each edge the problem and the two ends. graph: nothing; there is no loop.
        """
        problem, ends = edge[:, 0], edge[:, 1:]
        place = edge_frame(xy.index_select(0, problem), ends)
        return self.pointer(place, left_of(place, ends, real.index_select(0, problem)))


def _power(place: Tensor, through: Tensor | None) -> Tensor:
    """Power (E, N) of the points to the circle through both ends of the edge and a third point (E, 2)."""
    x, y = place[..., 0], place[..., 1]
    power = x * x + y * y - 1
    if through is None:
        return power
    height = ((through * through).sum(-1) - 1) / through[..., 1].clamp(min=1e-20)
    return power - y * height[:, None]


def _far(view: View) -> Tensor:
    far = torch.sqrt((view.place * view.place).sum(-1))
    return closeness(far, torch.ones_like(far[..., :1]))

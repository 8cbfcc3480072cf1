"""A convex-hull policy that goes round the points from corner to corner, each step in the local frame of the last edge.

From the current corner a step points at the next: origin there, the last edge ahead, so place, size and direction of
the problem are gone and its size with them. A net trained on 50 points therefore runs on thousands. This is an
inductive bias, and the whole one of gift wrapping (R. A. Jarvis 1973): what is left to learn is that the corner
with the least turn is next, the farthest of several. Pointing is by glimpses, see `core/glimpses.py`.

Masks let a corner be chosen only where the polygon can still close with left turns only: it is strictly convex,
simple and counter-clockwise whatever the net says, up to the rounding of float32 and where no edge is `SHORT`.

Sources: the pointer of Vinyals et al. 2015 (arXiv 1506.03134). The frame, the glimpses and the masks are ours.
Shape legend: B batch, N points, S steps, 2 coordinates, or cosine and sine.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .decode import feasible_log_p, greedy
from .glimpses import GlimpseNetwork, at, closeness, turned_back
from .local_frame import to_frame, unit

FLAT = 1e-6
"""Turns with a sine up to this count as none: float32 cannot tell them."""
SHORT = 1e-4
"""Edges up to this share of the farthest distance give no direction."""


class Corner(NamedTuple):
    """Where a step stands: the corner, the first corner, the directions of the last and of the first edge, and how
    many corners there are. Place (..., 2), directions (..., 2), made (...) int64."""

    place: Tensor
    first: Tensor
    axis: Tensor
    first_axis: Tensor
    made: Tensor


class HullPointer(nn.Module):
    """Logits of the next corner from where a step stands.

    Args:
        d_model: hidden width of the network.
        num_glimpses: times it points, each from the choice before.

    Raises:
        ValueError: without a glimpse.
    """

    def __init__(self, d_model: int = 16, *, num_glimpses: int = 3) -> None:
        super().__init__()
        if num_glimpses < 1:
            raise ValueError(f"HullPointer: num_glimpses is {num_glimpses}; wanted 1 or more")
        self.num_glimpses = num_glimpses
        self.network = GlimpseNetwork(d_model)

    def forward(self, xy: Tensor, corner: Corner, feasible: Tensor) -> Tensor:
        """Logits (..., N) of the points xy (..., N, 2) after the last glimpse; `NOTHING` where infeasible."""
        turn, far = look(xy, corner, feasible)
        logit = self.network(turn, closeness(far, middling(far, feasible)), feasible)
        for _ in range(self.num_glimpses - 1):
            logit = self.again(turn, far, feasible, logit.argmax(-1))
        return logit

    def again(self, turn: Tensor, far: Tensor, feasible: Tensor, choice: Tensor) -> Tensor:
        """Logits (..., N) of a glimpse from the present choice (...) int64, whatever made it."""
        yardstick = at(far[..., None], choice)
        return self.network(turned_back(turn, choice), closeness(far, yardstick), feasible)


def look(xy: Tensor, corner: Corner, feasible: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine (..., N, 2) of the turn from the last edge to each point, and its distance (..., N)."""
    local = to_frame(xy, corner.place[..., None, :], corner.axis[..., None, :])
    far = _length(local)
    return local / far[..., None], far


def middling(far: Tensor, feasible: Tensor) -> Tensor:
    """Mean distance (..., 1) of what is feasible."""
    weight = feasible.to(far.dtype)
    return (far * weight).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True).clamp(min=1.0)


def feasible_corners(xy: Tensor, corner: Corner, real: Tensor, is_first: Tensor) -> Tensor:
    """(..., N) bool: where the polygon may go from here.

    A point outside the edge that would close the polygon, to the left of its last and of its first edge; the first
    corner, which closes it, from three corners on. Of points on one line, any other place; nothing where there is none.

    Args:
        xy: (..., N, 2). real: (..., N) bool, which of them are points. is_first: (..., N) bool, the first corner.
    """
    away = xy - corner.place[..., None, :]
    back = corner.first[..., None, :] - xy
    far, home = _length(away), _length(back)
    ahead = _cross(corner.axis[..., None, :], away) > FLAT * far
    outside = _cross(away, back) > FLAT * far * home
    inward = _cross(corner.first_axis[..., None, :], -back) > FLAT * home
    begins = (corner.made == 1)[..., None]
    corners = real & ~is_first & ahead & inward & (outside | begins)
    closes = is_first & ~begins & ((corner.made > 2)[..., None] | ~corners.any(-1, keepdim=True))
    elsewhere = real & begins & ~corners.any(-1, keepdim=True) & (away != 0).any(-1)
    return corners | closes | elsewhere


def first_corner(xy: Tensor, real: Tensor) -> tuple[Tensor, Corner]:
    """The leftmost, then lowest of the points xy (B, N, 2), as its index (B,), and how a step stands there.

    Its last edge comes from above; its first one, for the masks, goes away from the steepest point, so that the
    first corner chosen leaves something to its left.
    """
    x, y = xy[..., 0], xy[..., 1]
    beyond = 1e30
    x = x.masked_fill(~real, beyond)
    y = y.masked_fill(x > x.amin(-1, keepdim=True), beyond)
    index = y.argmin(-1)
    place = at(xy, index)
    away = xy - place[:, None]
    across, up = away[..., 0], away[..., 1]
    steep = up / (across + up.abs()).clamp(min=1e-20)
    there = real & (away != 0).any(-1)
    steepest = at(xy, steep.masked_fill(~there, -beyond).argmax(-1))
    down = torch.stack([torch.zeros_like(x[:, 0]), -torch.ones_like(x[:, 0])], -1)
    return index, Corner(place, place.clone(), down, unit(place - steepest), torch.ones_like(index))


def true_steps(xy: Tensor, label: Tensor) -> tuple[Corner, Tensor]:
    """How the steps along the true hulls label (B, L), -1 behind the end, stand, (B, L, ...), and where they go (B, L).

    The step from the last corner goes to the first; -1 where there is no step.
    """
    length = (label >= 0).sum(-1, keepdim=True)
    known = label.clamp(min=0)
    corners = xy.gather(1, known[..., None].expand(-1, -1, 2))
    _, start = first_corner(xy, torch.ones_like(xy[..., 0], dtype=torch.bool))
    edge = unit(corners[:, 1:] - corners[:, :-1])
    axis = torch.cat([start.axis[:, None], edge], 1)
    first_axis = torch.cat([start.first_axis[:, None], edge[:, :1].expand_as(edge)], 1)
    place = torch.arange(label.shape[1], device=xy.device)
    following = torch.cat([label[:, 1:], label[:, :1]], 1)
    target = torch.where(place == length - 1, label[:, :1], following)
    target = target.masked_fill(place >= length, -1)
    count = (place + 1).expand_as(label)
    return Corner(corners, corners[:, :1].expand_as(corners), axis, first_axis, count), target


class HullState(NamedTuple):
    """A polygon as far as it goes: the points xy (B, N, 2), which of them are real (B, N), how a step stands, the index
    of the first corner (B,), the corners so far, -1 behind them (B, N), and whether it is closed (B,)."""

    xy: Tensor
    real: Tensor
    corner: Corner
    start: Tensor
    hull: Tensor
    closed: Tensor


class HullPolicy(nn.Module):
    """The pointer as a policy of `core/decode.py`: actions are points, the first corner closes the polygon.

    N + 1 steps at most; `hull` of the last state is the answer.
    """

    def __init__(self, pointer: HullPointer) -> None:
        super().__init__()
        self.pointer = pointer

    def start(self, xy: Tensor, real: Tensor) -> HullState:
        """The state before the first step on points xy (B, N, 2), real (B, N) bool, at least one each."""
        index, corner = first_corner(xy, real)
        place = torch.arange(xy.shape[1], device=xy.device)
        hull = torch.where(place == 0, index[:, None], -1)
        return HullState(xy, real, corner, index, hull, index < 0)

    def propose(self, state: HullState) -> tuple[Tensor, tuple[()]]:
        place = torch.arange(state.xy.shape[1], device=state.xy.device)
        is_first = place == state.start[:, None]
        feasible = feasible_corners(state.xy, state.corner, state.real, is_first) & ~state.closed[:, None]
        return feasible_log_p(self.pointer(state.xy, state.corner, feasible), feasible), ()

    def advance(self, state: HullState, notes: tuple[()], action: Tensor) -> HullState:
        corner, closed = state.corner, action == state.start
        place = at(state.xy, action)
        edge = place - corner.place
        away = (state.xy - place[:, None]).masked_fill(~state.real[..., None], 0.0)
        # rounding turns a short edge anywhere: the direction before it then is the better one
        long = edge.abs().amax(-1) > SHORT * away.abs().amax((1, 2))
        axis = torch.where(long[:, None], unit(edge), corner.axis)
        begins = (corner.made == 1) & long
        first_axis = torch.where(begins[:, None], axis, corner.first_axis)
        after = Corner(place, corner.first, axis, first_axis, corner.made + 1)
        index = torch.arange(state.xy.shape[1], device=action.device)
        here = (index == corner.made[:, None]) & ~closed[:, None]
        hull = torch.where(here, action[:, None], state.hull)
        return HullState(state.xy, state.real, after, state.start, hull, closed)


class HullDecoder(nn.Module):
    """The greedy decoder for `core/export_decoder.py`.

    Args:
        pointer: a trained pointer.
    """

    def __init__(self, pointer: HullPointer) -> None:
        super().__init__()
        self.policy = HullPolicy(pointer)

    def forward(self, xy: Tensor, real: Tensor, graph: bool = True) -> tuple[Tensor, Tensor]:
        """hull (B, N) int64, canonical, -1 behind it, and its log-probability (B,), of points xy (B, N, 2), of which
        real (B, N) bool are points."""
        state, log_p = greedy(self.policy, self.policy.start(xy, real), xy.shape[1] + 1, graph=graph)
        return state.hull, log_p


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _length(v: Tensor) -> Tensor:
    return torch.sqrt((v * v).sum(-1).clamp(min=1e-20))

"""Which answers a pointer may give: what is feasible after what was taken, for one step and for all steps at once.

An action is the number of a point, 0 to N - 1, or N: the end of the answer.

Shape legend: B batch, N points, A = N + 1 actions, L steps, ... any leading axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """How answers are built.

    from_first: the answer begins with the first point that is there.
    ends: it ends by an end symbol; otherwise where every point was taken.
    group: points come in groups of so many, distinct in each group, and the end comes behind a whole group;
        0: no point comes twice, and the end comes behind at least one.
    per_point: how many times the number of points an answer is long at most.
    """

    from_first: bool = False
    ends: bool = False
    group: int = 0
    per_point: int = 1

    def feasible(self, taken: Tensor, real: Tensor, step: Tensor) -> Tensor:
        """(..., A) whether an action may be taken, from the points taken (..., A), `real` (..., N), and step (...)."""
        points = real & ~taken[..., :-1]
        if self.from_first:
            first = real & (real.long().cumsum(-1) == 1)
            points = points & ((step > 0)[..., None] | first)
        if not self.ends:
            end = torch.zeros_like(step, dtype=torch.bool)
        elif self.group:
            end = step % self.group == 0
            # no group is begun that cannot be filled, or is one too many
            number = real.long().sum(-1)
            begun = (number >= self.group) & (step < self.per_point * number)
            points = points & (~end | begun)[..., None]
        else:
            end = step > 0
        return torch.cat([points, end[..., None]], -1)

    def take(self, taken_BA: Tensor, action_B: Tensor, step_B: Tensor) -> Tensor:
        """Points taken (B, A) after the action of a step."""
        new_BA = torch.arange(taken_BA.shape[1], device=taken_BA.device) == action_B[:, None]
        if not self.group:
            return taken_BA | new_BA
        going_B = (step_B + 1) % self.group > 0
        return (taken_BA | new_BA) & going_B[:, None]

    def taken_before(self, action_BL: Tensor, actions: int) -> Tensor:
        """Points taken (B, L, A) before each of the actions (B, L), of which -1 is none."""
        number_A = torch.arange(actions, device=action_BL.device)
        new_BLA = (action_BL[..., None] == number_A).long()
        if not self.group:
            return new_BLA.cumsum(1) - new_BLA > 0
        length = action_BL.shape[1]
        new_BGgA = F.pad(new_BLA, (0, 0, 0, -length % self.group)).unflatten(1, (-1, self.group))
        return (new_BGgA.cumsum(2) - new_BGgA > 0).flatten(1, 2)[:, :length]


RULES = {
    "permutation": Rule(),
    "tour": Rule(from_first=True),
    "polygon": Rule(ends=True),
    "triangles": Rule(ends=True, group=3, per_point=6),
}
"""All points in an order; all points from the first on; some points, none twice; three points each, at most 2 N."""

"""Branch and bound on 1-trees: what the ascent alone leaves open, by cases.

Where the best 1-tree has a node of three or more edges, every tour lacks the first of them, or has it and lacks the
second, or has both and none of the others: three smaller problems, each bounded by an ascent of its own. The least
bound of all open cases holds for every tour. An edge is forced, or forbidden, by a bonus, or a price, that outbids
all others, as the ends of a path are.

Source: Held and Karp 1971; Volgenant and Jonker 1982.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .costs import Costs

Edge = tuple[int, int]
Ascend = Callable[[Costs, float, int, float, np.ndarray], tuple[float, np.ndarray]]
"""(costs, aim, steps, deadline, prices to begin with) -> bound and the prices that give it."""
Tree = Callable[[Costs, np.ndarray], list[Edge]]
"""(costs, prices) -> edges of the minimum 1-tree."""

CASE_STEPS = 40
"""Trees for the bound of a case."""


@dataclass(frozen=True)
class _Case:
    forced: frozenset[Edge]
    forbidden: frozenset[Edge]
    price: np.ndarray


def branch(
    costs: Costs,
    bound: float,
    price: np.ndarray,
    aim: float,
    *,
    cases: int,
    deadline: float,
    ascend: Ascend,
    tree: Tree,
) -> float:
    """A bound at least as high as `bound`, in units of `costs.net`; done at `aim`, after `cases` or at the deadline.

    Args:
        costs: a matrix. bound, price: where the ascent ended. aim: length of a tour.
    """
    outbid = math.ceil(8.0 * costs.largest) + 1.0 if costs.whole else 8.0 * costs.largest
    number = itertools.count()
    waiting = [(bound, next(number), _Case(frozenset(), frozenset(), price))]
    for _ in range(cases):
        least, _, case = waiting[0]
        if least >= aim or time.perf_counter() >= deadline:
            break
        edges = tree(_costs(costs, case, outbid), case.price)
        parts = _parts(edges, case)
        if not parts:  # the tree is a tour: the bound of this case is its length
            break
        heapq.heappop(waiting)
        for part in parts:
            bonus = outbid * len(part.forced)
            found, at = ascend(_costs(costs, part, outbid), aim - bonus, CASE_STEPS, deadline, case.price)
            entry = (max(found + bonus, least), next(number), replace(part, price=at))
            heapq.heappush(waiting, entry)
    return waiting[0][0]


def _costs(costs: Costs, case: _Case, outbid: float) -> Costs:
    matrix = costs.matrix.copy()
    for edges, extra in ((case.forced, -outbid), (case.forbidden, outbid)):
        for i, j in edges:
            matrix[i, j] += extra
            matrix[j, i] += extra
    return replace(costs, matrix=matrix, largest=max(costs.largest, 9 * outbid / 8))


def _parts(edges: list[Edge], case: _Case) -> list[_Case]:
    """The cases that this one falls into; none where the tree is a tour."""
    degree = np.bincount(np.array(edges).ravel())
    if degree.max() <= 2:
        return []
    node = int(degree.argmax())
    here = [edge for edge in edges if node in edge]
    held = [edge for edge in here if edge in case.forced]
    free = [edge for edge in here if edge not in case.forced]
    if len(held) >= 2:  # forced beyond what a tour has, or by a bonus twice: nothing is left to divide
        return []
    parts, forced = [], case.forced
    for edge in free[: 2 - len(held)]:
        parts.append(replace(case, forced=forced, forbidden=case.forbidden | {edge}))
        forced = forced | {edge}
    others = {(min(node, k), max(node, k)) for k in range(len(degree)) if k != node}
    kept = {edge for edge in forced if node in edge}
    parts.append(replace(case, forced=forced, forbidden=case.forbidden | (others - kept)))
    return parts

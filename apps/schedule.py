"""How the learning rate moves over a fit."""

from __future__ import annotations

import math


def one_cycle(done: float, *, warm_up: float = 0.15, first: float = 0.04, last: float = 1e-3) -> float:
    """Share of the learning rate after `done` (0 to 1) of a fit: up from `first`, then down to `last`, by cosines."""
    if done < warm_up:
        return first + (1 - first) * (1 - math.cos(math.pi * done / warm_up)) / 2
    falling = min((done - warm_up) / (1 - warm_up), 1.0)
    return last + (1 - last) * (1 + math.cos(math.pi * falling)) / 2

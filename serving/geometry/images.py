"""Images of one instance that a decoder answers differently: other starts, mirrored, turned, run from the other end.

Every image has the same tours with the same lengths, so the best of several answers is an answer.
"""

from __future__ import annotations

import numpy as np

from .decoder import Decoded, Task


def images(xy: np.ndarray, ends: tuple[int, int] | None, number: int, seed: int) -> list[Task]:
    """`number` tasks of the same points, the first of them the plain one.

    Args:
        xy: (n, 2) float64.
        ends: of a path; None for a closed tour, whose images have other starts, drawn with `seed`.
    """
    n = len(xy)
    starts = np.append(0, 1 + np.random.default_rng(seed).permutation(max(n - 1, 1))) % n
    out = []
    for k in range(number):
        turned = _turned(xy, k & 1, k >> 1)
        if ends is None:
            start = int(starts[k % n])
            out.append(Task(turned, start, start))
        else:
            out.append(Task(turned, *(ends[::-1] if k >> 1 & 1 else ends)))
    return out


def upright(decoded: Decoded, ends: tuple[int, int] | None) -> np.ndarray:
    """(n,) the tour of an image as one of the instance: of a path, from its start to its end."""
    if ends is not None and decoded.tour[0] != ends[0]:
        return np.ascontiguousarray(decoded.tour[::-1])
    return decoded.tour


def _turned(xy: np.ndarray, mirrored: int, quarters: int) -> np.ndarray:
    """Mirrored, then turned by quarters: signs and an exchange, which round nothing."""
    x, y = xy.T
    x = -x if mirrored else x
    for _ in range(quarters % 4):
        x, y = -y, x
    return np.stack([x, y], axis=1)

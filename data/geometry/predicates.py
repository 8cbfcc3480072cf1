"""Which side of a line, in or out of a circle: signs that are right for every float64 coordinate.

A float value decides where its error bound lets it (J. R. Shewchuk, Adaptive Precision Floating-Point Arithmetic,
1997, filters A); else whole numbers do, all coordinates times one power of two.
"""

from __future__ import annotations

import numpy as np

_EPSILON = 2.0**-53
_SIDE = (3 + 16 * _EPSILON) * _EPSILON
_CIRCLE = (10 + 96 * _EPSILON) * _EPSILON
_UNDERFLOW = 1e-280
"""Values below this may have lost digits to underflow, which the bounds do not count."""


class Predicates:
    """Signs for the points xy (n, 2), finite."""

    def __init__(self, xy: np.ndarray) -> None:
        self.x: list[float] = xy[:, 0].tolist()
        self.y: list[float] = xy[:, 1].tolist()
        self._whole: list[tuple[int, int]] = []

    def side(self, a: int, b: int, c: int) -> int:
        """1 where c is to the left of the line from a to b, -1 to its right, 0 on it."""
        x, y = self.x, self.y
        left = (x[a] - x[c]) * (y[b] - y[c])
        right = (y[a] - y[c]) * (x[b] - x[c])
        d = left - right
        bound = _SIDE * (abs(left) + abs(right)) + _UNDERFLOW
        if d > bound:  # never true of nan, nor of inf, whose bound is inf
            return 1
        if d < -bound:
            return -1
        (ax, ay), (bx, by), (cx, cy) = (self._exact(i) for i in (a, b, c))
        return _sign((ax - cx) * (by - cy) - (ay - cy) * (bx - cx))

    def in_circle(self, a: int, b: int, c: int, d: int) -> int:
        """1 where d is inside the circle through a, b, c (counter-clockwise), -1 outside, 0 on it."""
        x, y = self.x, self.y
        adx, ady, bdx, bdy = x[a] - x[d], y[a] - y[d], x[b] - x[d], y[b] - y[d]
        cdx, cdy = x[c] - x[d], y[c] - y[d]
        alift, blift, clift = adx * adx + ady * ady, bdx * bdx + bdy * bdy, cdx * cdx + cdy * cdy
        bc1, bc2, ca1, ca2, ab1, ab2 = bdx * cdy, cdx * bdy, cdx * ady, adx * cdy, adx * bdy, bdx * ady
        value = alift * (bc1 - bc2) + blift * (ca1 - ca2) + clift * (ab1 - ab2)
        size = (abs(bc1) + abs(bc2)) * alift + (abs(ca1) + abs(ca2)) * blift + (abs(ab1) + abs(ab2)) * clift
        bound = _CIRCLE * size + _UNDERFLOW
        if value > bound:
            return 1
        if value < -bound:
            return -1
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = (self._exact(i) for i in (a, b, c, d))
        ax, ay, bx, by, cx, cy = ax - dx, ay - dy, bx - dx, by - dy, cx - dx, cy - dy
        return _sign(
            (ax * ax + ay * ay) * (bx * cy - cx * by)
            + (bx * bx + by * by) * (cx * ay - ax * cy)
            + (cx * cx + cy * cy) * (ax * by - bx * ay)
        )

    def _exact(self, i: int) -> tuple[int, int]:
        if not self._whole:
            ratios = [
                (a.as_integer_ratio(), b.as_integer_ratio()) for a, b in zip(self.x, self.y, strict=True)
            ]
            # all denominators are powers of two, so the largest is a multiple of each
            common = max(max(a[1], b[1]) for a, b in ratios)
            self._whole = [(a[0] * (common // a[1]), b[0] * (common // b[1])) for a, b in ratios]
        return self._whole[i]


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)

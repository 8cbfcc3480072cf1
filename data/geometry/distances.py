"""Edge lengths: TSPLIB's integer functions to the last digit, and plain float ones.

Names of TSPLIB are written as there (`EUC_2D`); its lengths are whole numbers held in float64. `euclidean` is the
plain distance in the unit of the coordinates; `haversine` takes (latitude, longitude) in degrees and gives km;
`EXPLICIT` says that what is given is already the matrix.
Source: G. Reinelt, TSPLIB 95 (University of Heidelberg, 1995), section 2, with the degrees of GEO cut, not rounded,
as in the published optima.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

EARTH_KM = 6371.0088
"""Mean radius of the Earth, IUGG."""

MAX_DENSE = 20_000
"""Most points that `distance_matrix` takes: 3.2 GB."""

_GEO_KM, _GEO_PI = 6378.388, 3.141592  # the constants of TSPLIB, few digits and all

_BLOCK = 1 << 22


def _nint(x: np.ndarray) -> np.ndarray:
    return np.floor(x + 0.5)


def _straight(d: np.ndarray) -> np.ndarray:
    # not hypot: the last bit decides a rounding, and TSPLIB's program took the root of the sum of squares
    return np.sqrt((d * d).sum(axis=-1))


def _float_straight(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    d = a - b
    return np.hypot(d[..., 0], d[..., 1])  # squares would overflow or vanish at 1e200 and 1e-200


def _att(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    d = a - b
    root = np.sqrt((d * d).sum(axis=-1) / 10.0)
    nearest = _nint(root)
    return np.where(nearest < root, nearest + 1, nearest)


def _geo(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    def radians(x: np.ndarray) -> np.ndarray:
        degrees = np.trunc(x)  # 38.24 is 38 degrees 24 minutes
        return _GEO_PI * (degrees + 5.0 * (x - degrees) / 3.0) / 180.0

    a, b = radians(a), radians(b)
    q1 = np.cos(a[..., 1] - b[..., 1])
    q2, q3 = np.cos(a[..., 0] - b[..., 0]), np.cos(a[..., 0] + b[..., 0])
    cosine = np.clip(0.5 * ((1.0 + q1) * q2 - (1.0 - q1) * q3), -1.0, 1.0)
    return np.floor(_GEO_KM * np.arccos(cosine) + 1.0)


def _haversine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = np.radians(a), np.radians(b)
    half = np.sin((a - b) / 2.0) ** 2
    h = half[..., 0] + np.cos(a[..., 0]) * np.cos(b[..., 0]) * half[..., 1]
    return 2.0 * EARTH_KM * np.arcsin(np.sqrt(np.minimum(h, 1.0)))


_LENGTHS: dict[str, tuple[int, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "EUC_2D": (2, lambda a, b: _nint(_straight(a - b))),
    "EUC_3D": (3, lambda a, b: _nint(_straight(a - b))),
    "MAN_2D": (2, lambda a, b: _nint(np.abs(a - b).sum(axis=-1))),
    "MAN_3D": (3, lambda a, b: _nint(np.abs(a - b).sum(axis=-1))),
    "MAX_2D": (2, lambda a, b: _nint(np.abs(a - b)).max(axis=-1)),
    "MAX_3D": (3, lambda a, b: _nint(np.abs(a - b)).max(axis=-1)),
    "CEIL_2D": (2, lambda a, b: np.ceil(_straight(a - b))),
    "GEO": (2, _geo),
    "ATT": (2, _att),
    "euclidean": (2, _float_straight),
    "haversine": (2, _haversine),
}

KINDS = (*_LENGTHS, "EXPLICIT")
"""Every kind of edge length."""


def dimensions(kind: str) -> int:
    """Coordinates of a point: 2 or 3.

    Raises:
        ValueError: no length of coordinates has this name.
    """
    return _length(kind)[0]


def edge_lengths(a: np.ndarray, b: np.ndarray, kind: str = "euclidean") -> np.ndarray:
    """(...,) float64 lengths of the edges between the points a and b, (..., 2 or 3) each, of shapes that broadcast.

    Raises:
        ValueError: unknown kind; coordinates of another number.
    """
    size, length = _length(kind)
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    for points in (a, b):
        if points.ndim == 0 or points.shape[-1] != size:
            raise ValueError(
                f"edge lengths: {kind} got points of shape {points.shape}; wanted {size} coordinates in the last axis"
            )
    return length(a, b)


def distance_matrix(xy: np.ndarray, kind: str = "euclidean") -> np.ndarray:
    """(n, n) float64 lengths of all edges of the points xy (n, 2 or 3), 0 on the diagonal.

    With `EXPLICIT` a square matrix is handed back as float64.

    Raises:
        ValueError: unknown kind; a wrong shape; more than `MAX_DENSE` points.
    """
    xy = np.asarray(xy, np.float64)
    if xy.ndim != 2:
        raise ValueError(f"distance matrix: got an array of shape {xy.shape}; wanted (n, 2 or 3)")
    n = len(xy)
    if kind == "EXPLICIT":
        _refuse_oblong(xy)
        return xy
    if n > MAX_DENSE:
        raise ValueError(
            f"distance matrix: {n} points would take {n * n * 8 / 1e9:.0f} GB; wanted at most {MAX_DENSE}; "
            "work from the coordinates"
        )
    out = np.zeros((n, n))
    rows = max(1, _BLOCK // max(n, 1))  # temporaries of some tens of MB, whatever n
    for start in range(0, n, rows):
        out[start : start + rows] = edge_lengths(xy[start : start + rows, None], xy[None], kind)
    np.fill_diagonal(out, 0.0)  # GEO gives 1 for a point and itself
    return out


def tour_length(
    tour: np.ndarray, matrix_or_xy: np.ndarray, kind: str = "euclidean", *, closed: bool = True
) -> float:
    """Length of a tour (n,) of node numbers from 0, with the edge back to its start where it is closed.

    Args:
        matrix_or_xy: points (n, 2 or 3), or with `EXPLICIT` the matrix (n, n).
        kind: one of `KINDS`.

    Raises:
        ValueError: unknown kind; wrong shapes; a node that is not there.
    """
    tour = np.asarray(tour)
    places = np.asarray(matrix_or_xy, np.float64)
    if tour.ndim != 1 or not np.issubdtype(tour.dtype, np.integer):
        if tour.size or tour.ndim != 1:
            raise ValueError(
                f"tour length: got a tour of {tour.dtype}, shape {tour.shape}; wanted (n,) whole numbers"
            )
        tour = tour.astype(np.int64)
    if len(tour) and (tour.min() < 0 or tour.max() >= len(places)):
        raise ValueError(
            f"tour length: the tour goes from node {tour.min()} to {tour.max()}; wanted 0 to {len(places) - 1}"
        )
    if len(tour) < 2:
        return 0.0
    ahead = np.roll(tour, -1) if closed else tour[1:]
    behind = tour if closed else tour[:-1]
    if kind == "EXPLICIT":
        _refuse_oblong(places)
        return float(places[behind, ahead].sum())
    return float(edge_lengths(places[behind], places[ahead], kind).sum())


def _length(kind: str) -> tuple[int, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    if kind not in _LENGTHS:
        raise ValueError(
            f"edge lengths: no kind {kind!r} for coordinates; wanted one of {', '.join(_LENGTHS)}"
        )
    return _LENGTHS[kind]


def _refuse_oblong(matrix: np.ndarray) -> None:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"distance matrix: EXPLICIT got shape {matrix.shape}; wanted (n, n)")

"""Edge weights listed in one of TSPLIB's formats -> the full matrix."""

from __future__ import annotations

import numpy as np

# of a symmetric matrix, a triangle by columns is the other triangle by rows
_TRIANGLES = {
    "UPPER_ROW": ("upper", 1),
    "LOWER_COL": ("upper", 1),
    "UPPER_DIAG_ROW": ("upper", 0),
    "LOWER_DIAG_COL": ("upper", 0),
    "LOWER_ROW": ("lower", 1),
    "UPPER_COL": ("lower", 1),
    "LOWER_DIAG_ROW": ("lower", 0),
    "UPPER_DIAG_COL": ("lower", 0),
}

FORMATS = ("FULL_MATRIX", *_TRIANGLES)
"""Values of EDGE_WEIGHT_FORMAT."""


def full_matrix(weights: np.ndarray, n: int, form: str, place: str) -> np.ndarray:
    """(n, n) float64 from the weights (k,) in the order of `form`, one of `FORMATS`.

    Raises:
        ValueError: unknown form; another number of weights.
    """
    if form not in FORMATS:
        raise ValueError(f"{place}: EDGE_WEIGHT_FORMAT is {form!r}; wanted one of {', '.join(FORMATS)}")
    offset = 0 if form == "FULL_MATRIX" else _TRIANGLES[form][1]
    wanted = n * n if form == "FULL_MATRIX" else n * (n + 1) // 2 - offset * n
    if len(weights) != wanted:
        raise ValueError(
            f"{place}: EDGE_WEIGHT_SECTION holds {len(weights)} numbers; wanted {wanted} for {n} nodes as {form}; "
            "check DIMENSION and EDGE_WEIGHT_FORMAT, or whether the file is cut short"
        )
    if form == "FULL_MATRIX":
        return weights.reshape(n, n).copy()
    matrix = np.zeros((n, n))
    part = _TRIANGLES[form][0]
    rows, columns = np.triu_indices(n, offset) if part == "upper" else np.tril_indices(n, -offset)
    matrix[rows, columns] = weights
    matrix[columns, rows] = weights
    return matrix

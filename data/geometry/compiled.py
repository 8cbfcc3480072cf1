"""Loops compiled by numba where it is installed; without it the same functions run as Python: same numbers, slowly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])

try:
    import numba
except ImportError:  # a machine that may only hold numpy
    numba = None  # type: ignore[assignment]

kept = True
"""Whether the machine code of this process is kept for the next one."""


def compiled(function: F) -> F:
    """`function` in machine code, kept between processes where the package's folder (or the user's cache) can be
    written. No fast-math: sums are the same to the last bit with and without numba."""
    return _compile(function, {"error_model": "numpy"})


def inlined(function: F) -> F:
    """As `compiled`, for the few lines that are run most: written into their callers."""
    return _compile(function, {"error_model": "numpy", "inline": "always"})


def _compile(function: F, options: dict[str, str]) -> F:
    global kept  # noqa: PLW0603  (said where somebody waits for it)
    if numba is None:
        return function
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[call-overload]
    except RuntimeError:  # no folder to keep it in
        kept = False
        return numba.njit(**options)(function)  # type: ignore[call-overload]

"""Parameters of the estimators, checked when they are used: scikit-learn sets them without looking."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ...data.battery.schema import near


def check_choice(place: str, name: str, value: Any, wanted: Iterable[str]) -> None:
    """
    Raises:
        ValueError: not one of `wanted`; the message names the near ones.
    """
    wanted = list(wanted)
    if value not in wanted:
        raise ValueError(f"{place}: {name} is {near(str(value), wanted)}; wanted one of {', '.join(wanted)}")


def check_flag(place: str, name: str, value: Any) -> None:
    """
    Raises:
        ValueError: neither True nor False.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{place}: {name} is {value!r}; wanted True or False")


def check_whole(place: str, name: str, value: Any, least: int, *, optional: bool = False) -> None:
    """
    Raises:
        ValueError: not a whole number of at least `least`, nor None where it is optional.
    """
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        or_none = ", or None" if optional else ""
        raise ValueError(f"{place}: {name} is {value!r}; wanted a whole number of {least} or more{or_none}")


def check_number(place: str, name: str, value: Any) -> None:
    """
    Raises:
        ValueError: neither None nor a finite number above 0.
    """
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if value is not None and not (number and 0 < value < math.inf):
        raise ValueError(f"{place}: {name} is {value!r}; wanted more than 0, or None")

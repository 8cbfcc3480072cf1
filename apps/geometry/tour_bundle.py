"""The folder that production gets of a tour policy: greedy and beam search as one graph each, and a manifest."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from ...core.local_tour import PathPolicy

M = TypeVar("M", bound=nn.Module)


def halved(network: M) -> M:
    """A copy whose weights are rounded to the half precision in which graphs store them."""
    network = copy.deepcopy(network)
    for parameter in network.parameters():
        parameter.data = parameter.data.half().float()
    return network


def write_tour_bundle(folder: str | Path, policy: PathPolicy, record: Mapping[str, Any]) -> None:
    """Later in this change."""
    raise ValueError("not yet")

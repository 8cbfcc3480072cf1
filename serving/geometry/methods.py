"""Names of ways to a tour: what decodes it, and what improves it afterwards."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ...data.battery.schema import near

Improve = Literal["none", "local", "search"]

DECODERS = ("greedy", "x8", "beam")
IMPROVERS = ("local", "search")
METHODS = (*IMPROVERS, *DECODERS, *(f"{decoder}+{last}" for decoder in DECODERS for last in IMPROVERS))
"""`greedy`, `beam` and `x8` (the best of 8 images; any `xK`) decode with a model; `+local` descends from there to
where no 2-opt or Or-opt move helps, `+search` is the iterated search from there. Alone, both begin with the nearest
neighbour and need no model."""


@dataclass(frozen=True)
class Method:
    """graph: the bundle's file that decodes, None for none. images: of each instance. improve: what comes after."""

    graph: str | None
    images: int
    improve: Improve

    @classmethod
    def named(cls, name: str, place: str = "method") -> Method:
        """
        Raises:
            ValueError: no such method; the message names the near ones.
        """
        name = str(name)
        if name in IMPROVERS:
            return cls(None, 1, name)  # type: ignore[arg-type]
        decoder, plus, last = name.partition("+")
        many = re.fullmatch(r"x([1-9]\d{0,2})", decoder)
        if not (many or decoder in DECODERS) or (plus and last not in IMPROVERS):
            raise ValueError(f"{place}: no method {near(name, METHODS)}; wanted one of {', '.join(METHODS)}")
        graph = "beam.onnx" if decoder == "beam" else "greedy.onnx"
        return cls(graph, int(many[1]) if many else 1, last or "none")  # type: ignore[arg-type]

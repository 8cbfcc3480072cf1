"""Nested JSON records -> answers: what readers of statements and events share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from .findings import Findings

SCHEMA: dict[str, pl.DataType] = {
    "student_id": pl.String(),
    "question_id": pl.String(),
    "concepts": pl.List(pl.String()),
    "correct": pl.Int8(),
    "timestamp": pl.String(),
    "duration_ms": pl.Int64(),
    "attempt": pl.Int64(),
    "session_id": pl.String(),
}
_DURATION = re.compile(r"^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$", re.ASCII)
_SECONDS = (86_400, 3_600, 60, 1)
_LONGEST_DIGITS = 40


@dataclass
class Collected:
    """Answers found so far, and the names of the records that were refused, by finding."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    refused: dict[str, list[str]] = field(default_factory=dict)

    def add(self, row: dict[str, Any], fault: str | None, name: str) -> int:
        """The place of the row, -1 where it has a fault and is refused."""
        if fault:
            self.refused.setdefault(fault, []).append(name)
            return -1
        self.rows.append(row)
        return len(self.rows) - 1

    @property
    def frame(self) -> pl.DataFrame:
        return pl.DataFrame(self.rows, schema=SCHEMA)

    @property
    def report(self) -> Findings:
        return Findings.of((fault, len(names), f"record {names[0]}") for fault, names in self.refused.items())


def at(record: Any, *path: str) -> Any:
    """The value at a path of keys, None where there is none."""
    for key in path:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


def text(value: Any) -> str | None:
    """Text that is not blank, or None."""
    return value.strip() or None if isinstance(value, str) else None


def number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def milliseconds(duration: Any) -> int | None:
    """An ISO 8601 duration (PT1M30.5S), or None where there is none that can be read."""
    found = (
        _DURATION.match(duration) if isinstance(duration, str) and len(duration) < _LONGEST_DIGITS else None
    )
    if found is None:
        return None
    total = 1000 * sum(float(part or 0) * unit for part, unit in zip(found.groups(), _SECONDS, strict=True))
    return round(total) if total < 2**62 else None

"""Named flags and the report of what a reader, check or repair saw: nothing is changed or refused in silence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import polars as pl

FLAGS: dict[str, str] = {
    # seen by checks
    "sign_flipped": "voltage falls while current is positive: the file counts discharge as +",
    "unsigned_current": "current is never negative although the cell is discharged: the file gives magnitudes",
    "time_in_ms": "time steps are a thousand times too long for the charge that flows: milliseconds, not seconds",
    "capacity_in_mah": "capacities are a thousand times too large for a cell: milliampere hours, not ampere hours",
    "capacity_spike": "capacity leaves its neighbouring cycles by more than a cell can in one cycle",
    "cycle_gap": "cycles are missing inside a cell's record",
    "duplicate_cycle": "a cell has the same cycle number twice",
    "duplicate_time": "the same time stamp occurs twice in a row",
    "non_monotone_time": "time runs backwards inside a cycle",
    "constant_cycle_count": "the cycle number never changes although the cell was cycled",
    "missing_value": "a value is null or not a number",
    "infinite_value": "a value is infinite",
    "already_failing": "the cell already fades fast, or is past its end of life, at its last cycle",
    "short_history": "the record ends well before the last cycle that the forecast may look at",
    "out_of_domain": "a value lies outside what a lithium-ion cell can show, or outside the training data",
    # written by readers and repairs
    "incomplete_discharge": "the discharge was cut short, so the cycle has no capacity",
    "vendor_capacity": "capacity is the file's own figure, not integrated from current here",
    "cycle_from_order": "the file has no cycle number; the order of its rows was taken",
    "cell_from_file_name": "the file has no cell name; the name of the file was taken",
    "time_restarts": "the clock restarts inside a cycle; steps were laid end to end",
    "unit_converted": "a column was converted to our unit",
    "empty_row": "rows without any number were dropped",
    "repaired": "a value was replaced by a repair that was asked for",
    "not_covered": "the discharge does not span the voltage grid, so the ends of its curve are held constant",
}

SCHEMA = {
    "cell_id": pl.String,
    "cycle": pl.Int32,
    "flag": pl.String,
    "values": pl.Int64,
    "detail": pl.String,
}


def _empty() -> pl.DataFrame:
    return pl.DataFrame(schema=SCHEMA)


@dataclass(frozen=True)
class Report:
    """Flags raised over a table.

    table: `cell_id, cycle, flag, values, detail`; cell_id or cycle null where a flag concerns more than one,
        `values` the number of values, rows or points concerned.
    """

    table: pl.DataFrame = field(default_factory=_empty)

    def __post_init__(self) -> None:
        unknown = set(self.table["flag"].unique()) - set(FLAGS)
        if unknown:
            raise ValueError(f"Report: unknown flags {sorted(unknown)}; known: {sorted(FLAGS)}")

    @classmethod
    def of(cls, rows: Iterable[tuple[str | None, int | None, str, int, str]]) -> Report:
        """A report of rows `(cell_id, cycle, flag, values, detail)`."""
        return cls(pl.DataFrame(list(rows), schema=SCHEMA, orient="row"))

    @property
    def counts(self) -> dict[str, int]:
        """Number of values concerned by each flag that was raised."""
        total = self.table.group_by("flag").agg(pl.col("values").sum()).sort("flag")
        return dict(zip(total["flag"], total["values"], strict=True))

    def __add__(self, other: Report) -> Report:
        return Report(pl.concat([self.table, other.table]))

    def __contains__(self, flag: object) -> bool:
        return flag in self.table["flag"]

    def __iter__(self) -> Iterator[dict[str, object]]:
        return self.table.iter_rows(named=True)

    def __len__(self) -> int:
        return self.table.height

    def __str__(self) -> str:
        """One line per flag: its count, its meaning, its first case."""
        if not len(self):
            return "no flags"
        lines = []
        for flag, count in self.counts.items():
            first = self.table.filter(pl.col("flag") == flag).row(0, named=True)
            at = ", ".join(f"{k} {first[k]}" for k in ("cell_id", "cycle") if first[k] is not None)
            lines.append(
                f"{flag}: {count} ({FLAGS[flag]}); {'first at ' + at + ': ' if at else ''}{first['detail']}"
            )
        return "\n".join(lines)

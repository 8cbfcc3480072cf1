"""Times of any writing -> Datetime("us") without a zone, in UTC."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from .casts import first_true
from .findings import Findings

EPOCH = datetime(2015, 1, 1)
"""Relative clocks start here, and `encode` counts its minutes from here."""

_EARLIEST_S = 631_152_000
"""1990 in Unix time: logs of answers are younger, so smaller numbers count from a start of their own."""
_UNITS = ((1e11, 1_000_000), (1e14, 1_000), (1e17, 1))
"""Unix times below the bound are seconds, milliseconds, microseconds; above all, nanoseconds."""
_LATEST_US = 4_102_444_800_000_000
"""2100 in microseconds."""
_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y/%m/%d %H:%M",
    "%m/%d/%Y %H:%M:%S%.f",
    "%m/%d/%Y %H:%M",
    "%d-%b-%y %H:%M:%S",
    "%d-%b-%Y %H:%M:%S",
)
_ISO = r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d(?:\.\d+)?)? ?(Z|[+-]\d\d:?\d\d)$"


def to_timestamps(column: pl.Series, source: str) -> tuple[pl.Series, Findings]:
    """`column` as Datetime("us"), null where it is null, and what that took.

    Knows datetimes (with a zone or not), dates, Unix times in seconds to nanoseconds, clocks that count from a start
    of their own (seconds), ISO 8601 and the usual ways of writing day and time.

    Raises:
        ValueError: a value is no time; the message names the row and the value.
    """
    kind = column.dtype
    if kind == pl.String:
        column = column.str.strip_chars().replace(["", "NA", "null", "None", "\\N"], None)
        numbers = column.cast(pl.Float64, strict=False)
        if numbers.null_count() == column.null_count():
            return _from_numbers(numbers, source)
        return _from_text(column, source), Findings()
    if isinstance(kind, pl.Datetime):
        zoned = column if kind.time_zone is None else column.dt.convert_time_zone("UTC")
        return zoned.dt.replace_time_zone(None).cast(pl.Datetime("us")), Findings()
    if kind == pl.Date:
        return column.cast(pl.Datetime("us")), Findings()
    if kind.is_numeric():
        return _from_numbers(column.cast(pl.Float64) if kind.is_float() else column.cast(pl.Int64), source)
    if kind == pl.Null:
        return column.cast(pl.Datetime("us")), Findings()
    raise ValueError(f"{source}: timestamp is of type {kind}; wanted a datetime, a date, text or a Unix time")


def _from_numbers(column: pl.Series, source: str) -> tuple[pl.Series, Findings]:
    if column.dtype.is_float():
        column = column.fill_nan(None)
        bad = (column.is_infinite() | (column.abs() > 9e18)).fill_null(False)
        if bad.any():
            at = first_true(bad)
            raise ValueError(
                f"{source}: timestamp in row {at} is {column[at]}; wanted a Unix time; correct it"
            )
    if (column.drop_nulls() == 0).all():
        return _no_times(column)
    largest = float(column.abs().max())  # type: ignore[arg-type]
    scale = next((micro for bound, micro in _UNITS if largest < bound), 1e-3)
    micro = (column * scale).cast(pl.Int64) if scale >= 1 else column.cast(pl.Int64) // 1000
    found = Findings()
    if largest * scale < _EARLIEST_S * 1_000_000:
        micro = micro + int((EPOCH - datetime(1970, 1, 1)).total_seconds()) * 1_000_000
        found = Findings.of([("relative_time", len(column), f"{source}: largest is {largest:g} s")])
    bad = ((micro > _LATEST_US) | (micro < -_LATEST_US)).fill_null(False)
    if bad.any():
        at = first_true(bad)
        raise ValueError(
            f"{source}: timestamp in row {at} is {column[at]}, after 2100; wanted a Unix time; correct it"
        )
    return micro.cast(pl.Datetime("us")), found


def _from_text(column: pl.Series, source: str) -> pl.Series:
    iso = column.str.replace(_ISO, "${1}T${2}${3}${4}").str.replace(r"T(\d\d:\d\d)(Z|[+-])", "T${1}:00${2}")
    iso = iso.str.replace("Z$", "+0000").str.replace(r"([+-]\d\d):(\d\d)$", "${1}${2}")
    zoned = iso.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", strict=False)
    best = zoned.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    plain = column.str.replace(r"^(\d{4}-\d\d-\d\d)T", "${1} ")
    for form in _FORMATS:
        if best.null_count() == column.null_count():
            break
        if "%H" in form:
            tried = plain.str.to_datetime(form, time_unit="us", strict=False)
        else:
            tried = plain.str.to_date(form, strict=False).cast(pl.Datetime("us"))
        best = best.fill_null(tried) if tried.null_count() < len(tried) else best
    bad = best.is_null() & column.is_not_null()
    if bad.any():
        at = first_true(bad)
        raise ValueError(
            f"{source}: timestamp in row {at} is '{column[at]}'; wanted ISO 8601 (2024-01-31T12:00:00Z), "
            "2024-01-31 12:00:00 or a Unix time; correct it or leave the column out"
        )
    return best


def _no_times(column: pl.Series) -> tuple[pl.Series, Findings]:
    """Nulls for a column that tells nothing: real logs fill it with 0 where they have no times."""
    some = column.drop_nulls()
    none = pl.Series(column.name, [None] * len(column), dtype=pl.Datetime("us"))
    return none, Findings.of([("zero_time", len(some), "every timestamp is 0")])

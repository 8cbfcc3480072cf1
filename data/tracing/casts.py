"""Columns of any type -> the types of a log. Each function adds what it repaired to `found`."""

from __future__ import annotations

import numpy as np
import polars as pl

Found = list[tuple[str, int, str]]
"""Rows of `Findings`: name, count, first case."""

_LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
_NO_LABEL = ("", "na", "nan", "null", "none")


def first_true(mask: pl.Series) -> int:
    """Place of the first True, 0 where there is none."""
    return int(mask.to_numpy().argmax()) if len(mask) else 0


def read_ids(column: pl.Series, source: str, found: Found) -> pl.Series:
    """Ids as text: 1 and 1.0 become "1", blanks at the ends go, empty ones become null."""
    kind = column.dtype
    if kind.is_nested() or kind in (pl.Boolean, pl.Binary, pl.Object):
        raise ValueError(
            f"{source}: {column.name} is of type {kind}; wanted whole numbers or text; convert it"
        )
    if kind.is_float():
        column = column.fill_nan(None)
        whole = (column == column.round()).fill_null(True) & (column.abs() < 2**53).fill_null(True)
        if whole.all():
            found.append(
                ("float_id", len(column) - column.null_count(), f"{column.name} {column.drop_nulls()[:1]}")
            )
            column = column.cast(pl.Int64)
    text = column.cast(pl.String)
    if kind in (pl.String, pl.Categorical, pl.Enum):
        cut = text.str.strip_chars()
        if cut.str.contains(r"^-?\d+\.0$|^$").all() and cut.str.ends_with(".0").any():
            found.append(("float_id", len(cut) - cut.null_count(), f"{column.name} {text.drop_nulls()[0]!r}"))
            return cut.str.strip_suffix(".0").set(cut == "", None)
        changed = (cut != text).fill_null(False)
        if changed.any():
            at = first_true(changed)
            found.append(("trimmed_id", int(changed.sum()), f"{column.name} in row {at}: {text[at]!r}"))
        text = cut.set(cut == "", None)
    return text


def read_concepts(frame: pl.DataFrame, source: str, found: Found) -> pl.Series:
    """Lists of distinct concepts as text, never null."""
    if "concepts" not in frame.columns:
        return pl.Series([[]] * frame.height, dtype=pl.List(pl.String))
    column = frame["concepts"]
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if not isinstance(column.dtype, pl.List):
        one = read_ids(column, source, found)
        table = pl.DataFrame({"one": one}).select(
            pl.when(pl.col("one").is_null())
            .then(pl.lit([], dtype=pl.List(pl.String)))
            .otherwise(pl.concat_list("one"))
        )
        return table.to_series()
    lists = column.fill_null([]).rename("concepts")
    long = pl.DataFrame({"row": np.arange(len(lists)), "concepts": lists}).filter(
        pl.col("concepts").list.len() > 0
    )
    long = long.explode("concepts")
    long = long.with_columns(read_ids(long["concepts"], source, found))
    full = long.drop_nulls()
    found.append(("empty_concept", long.height - full.height, f"of {len(lists)} rows"))
    once = full.unique(maintain_order=True)
    found.append(("duplicate_concept", full.height - once.height, f"of {len(lists)} rows"))
    grouped = once.group_by("row", maintain_order=True).agg("concepts")
    every = pl.DataFrame({"row": np.arange(len(lists))}).join(
        grouped, on="row", how="left", maintain_order="left"
    )
    return every["concepts"].fill_null(pl.Series([[]], dtype=pl.List(pl.String)))


def read_labels(column: pl.Series, source: str, found: Found) -> pl.Series:
    kind = column.dtype
    if kind in (pl.Boolean, pl.Null):
        labels = column.cast(pl.Int8)
        bad = pl.repeat(False, len(column), eager=True)
    elif kind.is_numeric():
        plain = column.fill_nan(None) if kind.is_float() else column
        bad = ((plain != 0) & (plain != 1)).fill_null(False)
        labels = plain.set(bad, None).cast(pl.Int8)
    elif kind in (pl.String, pl.Categorical, pl.Enum):
        text = column.cast(pl.String).str.strip_chars().str.to_lowercase()
        labels = text.replace_strict(_LABELS, default=None, return_dtype=pl.Int8)
        bad = labels.is_null() & text.is_not_null() & ~text.is_in(_NO_LABEL).fill_null(True)
    else:
        raise ValueError(
            f"{source}: correct is of type {kind}; wanted 0 and 1, or true and false; convert it"
        )
    if bad.any():
        at = first_true(bad)
        raise ValueError(
            f"{source}: correct in row {at} is {column[at]!r} ({int(bad.sum())} such rows); wanted 0, 1 or empty; "
            "round or drop partial credit first"
        )
    found.append(("no_label", labels.null_count(), f"row {first_true(labels.is_null())}"))
    return labels


def read_number(column: pl.Series, kind: pl.DataType, found: Found) -> pl.Series:
    number = (
        column.cast(pl.String).cast(pl.Float64, strict=False) if not column.dtype.is_numeric() else column
    )
    number = number.cast(pl.Float64).fill_nan(None)
    bounds = (kind.min(), kind.max())  # type: ignore[attr-defined]
    limit = float(pl.select(bounds[1]).item()) if bounds else 0.0
    good = number.set((number < 0) | (number.abs() >= limit), None).round().cast(kind)
    lost = good.is_null() & column.is_not_null()
    if lost.any():
        at = first_true(lost)
        found.append(("unreadable_number", int(lost.sum()), f"{column.name} in row {at}: {column[at]!r}"))
    return good


def read_steps(column: pl.Series, source: str) -> pl.Series:
    step = column.cast(pl.Float64, strict=False) if column.dtype in (pl.String, pl.Null) else column
    if not step.dtype.is_numeric():
        raise ValueError(f"{source}: step is of type {column.dtype}; wanted whole numbers from 0; convert it")
    step = step.fill_nan(None) if step.dtype.is_float() else step
    bad = (step < 0).fill_null(True)
    if bad.any():
        at = first_true(bad)
        raise ValueError(
            f"{source}: step in row {at} is {column[at]!r}; wanted 0 or more; correct it, or leave the column out to "
            "keep the order of the file"
        )
    return step

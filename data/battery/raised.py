"""More lives from the same cells: a cell that fades to 80 % of its capacity has faded to 85 and to 90 % before.

Seen from a raised level a record is a shorter life with the same physics. Lowering the capacities by the same amount
brings that life back to the level the model knows, so a network learns what lies between capacity and end instead of
what is usual for a set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from .online import label_rul


def raised_lives(
    cycles: pl.DataFrame,
    *,
    nominal_capacity_ah: float | Mapping[str, float],
    eol_fraction: float = 0.8,
    levels: Sequence[float] = (0.0,),
    tolerance: float = 0.03,
) -> pl.DataFrame:
    """Training cells, once for each level that they reach.

    Args:
        cycles: a cycles table; a column `rul` (see `label_rul`) is kept where it is known at level 0.
        nominal_capacity_ah, eol_fraction: as in `label_rul`.
        levels: by how much of the nominal capacity the end of life is raised; 0 is the cells as they are.
        tolerance: as in `label_rul`; generous, since training takes a life that is known to a few per cent.

    Returns:
        The table with `rul`, `source` (the cell) and `cell_id` made unique by level. Cells without a life at a
        level are left out there.
    """
    parts = []
    for level in levels:
        labels = label_rul(
            cycles,
            nominal_capacity_ah=nominal_capacity_ah,
            eol_fraction=eol_fraction + level,
            tolerance=tolerance,
        )
        rul = pl.col("rul")
        if level == 0 and "rul" in cycles.columns:
            rul = pl.coalesce(pl.Series("known", cycles["rul"]), rul)
        part = labels.frame.with_columns(
            rul.alias("rul"),
            pl.col("cell_id").alias("source"),
            (pl.col("capacity_ah") - level * _nominal(nominal_capacity_ah)).alias("capacity_ah"),
        )
        part = part.filter(pl.col("rul").is_not_null())
        parts.append(part.with_columns(pl.col("cell_id") + f"+{level:g}" if level else pl.col("cell_id")))
    return pl.concat(parts)


def _nominal(nominal_capacity_ah: float | Mapping[str, float]) -> pl.Expr:
    if isinstance(nominal_capacity_ah, Mapping):
        return pl.col("group").replace_strict(dict(nominal_capacity_ah), return_dtype=pl.Float64)
    return pl.lit(float(nominal_capacity_ah))

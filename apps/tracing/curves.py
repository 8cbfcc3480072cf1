"""Learning curves: the share of right answers by opportunity, observed and forecast."""

from __future__ import annotations

import numpy as np
import polars as pl

SHOWN = 6
OPPORTUNITIES = 15
FEWEST = 20
"""Students that a point of a curve needs."""


def learning_curves(
    frame: pl.DataFrame,
    p: np.ndarray,
    *,
    concepts: int = SHOWN,
    most: int = OPPORTUNITIES,
    fewest: int = FEWEST,
) -> pl.DataFrame:
    """Shares by opportunity on the most practised concepts.

    Args:
        frame: a conformed log.
        p: (rows,) forecast of each row.
        concepts: how many, those with the most answers first.
        most: opportunities that are looked at.
        fewest: students that a point needs; later points are of those who went on, who are not the same students.

    Returns:
        `concept, opportunity, n, observed, lo, hi, forecast`: `lo, hi` is the 95 % score interval (Wilson 1927) of
        the observed share.
    """
    each = (
        frame.select("student_id", "concepts", "correct", pl.Series("p", p))
        .filter(pl.col("correct").is_not_null())
        .explode("concepts")
        .filter(pl.col("concepts").is_not_null())
        .rename({"concepts": "concept"})
        .with_columns((pl.int_range(pl.len()) + 1).over("student_id", "concept").alias("opportunity"))
    )
    chosen = each["concept"].value_counts().sort("count", "concept", descending=[True, False]).head(concepts)
    table = (
        each.filter(pl.col("concept").is_in(chosen["concept"].to_list()) & (pl.col("opportunity") <= most))
        .group_by("concept", "opportunity")
        .agg(
            pl.len().alias("n"),
            pl.col("correct").mean().alias("observed"),
            pl.col("p").mean().alias("forecast"),
        )
        .filter(pl.col("n") >= fewest)
    )
    z = 1.96
    n, share = pl.col("n"), pl.col("observed")
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * (share * (1 - share) / n + z**2 / (4 * n**2)).sqrt() / (1 + z**2 / n)
    table = table.with_columns((centre - half).alias("lo"), (centre + half).alias("hi"))
    ordered = chosen.select("concept", pl.int_range(pl.len()).alias("_rank"))
    table = table.join(ordered, on="concept").sort("_rank", "opportunity")
    return table.select("concept", "opportunity", "n", "observed", "lo", "hi", "forecast")

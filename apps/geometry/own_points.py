"""A fit of `remem tsp|hull|delaunay fit` on somebody's own points, called from an estimator."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl


def fit_settings(estimator: Any) -> dict[str, object]:
    """Of the command, from the parameters that all estimators of points have."""
    return {
        "data.seed": estimator.random_state,
        "seed_everything": estimator.random_state,
        "data.steps": estimator.steps,
        "trainer.max_epochs": estimator.max_epochs or 10,
        "trainer.enable_progress_bar": estimator.verbose,
    }


def fit_points(
    task: str, points: Sequence[np.ndarray], folder: Path, settings: Mapping[str, object]
) -> list[dict[str, object]]:
    """Train on these instances (n, 2), leave `folder`/run/bundle, and return the rows of the verdict.

    Args:
        settings: of the command, as {"trainer.max_epochs": 3}.

    Raises:
        ValueError: as the command; nothing was fitted.
    """
    # lightning costs seconds that a solver which is never fitted must not pay
    from .cli import with_config  # noqa: PLC0415
    from .fitting import run  # noqa: PLC0415

    columns = {
        "instance": [str(i) for i in range(len(points))],
        "n": [len(xy) for xy in points],
        "x": [xy[:, 0].tolist() for xy in points],
        "y": [xy[:, 1].tolist() for xy in points],
    }
    pl.DataFrame(columns).write_parquet(folder / "X.parquet")
    words = [f"--data.path={folder / 'X.parquet'}", f"--out={folder / 'run'}"]
    words += [f"--{name}={str(value).lower()}" for name, value in settings.items()]
    with redirect_stdout(sys.stderr):
        fitted = run(with_config(task, ["fit", *words]))
    if fitted is None:
        raise ValueError("fit: nothing was fitted")
    return fitted.rows

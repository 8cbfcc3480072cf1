"""Gradient-boosted trees on the features of the concept memory, stopped on validation."""

from __future__ import annotations

import numpy as np

from ...core.trees import TreeEnsemble


def fit_trees(
    z: np.ndarray,
    correct: np.ndarray,
    z_valid: np.ndarray,
    correct_valid: np.ndarray,
    *,
    most: int,
    depth: int,
    lr: float,
    least_weight: float = 20.0,
    rows: float = 0.8,
    columns: float = 0.5,
    penalty: float = 5.0,
    patience: int = 30,
    seed: int = 0,
) -> TreeEnsemble:
    """Trees for the logit of a right answer.

    Args:
        z, correct: (n, Z) features, none of which knows the row's own student's labels, and (n,) labels.
        z_valid, correct_valid: of other students, to stop on.
        most: trees at most.
        depth: of each tree.
        lr: learning rate.
        least_weight: least sum of p (1 - p) in a leaf.
        rows, columns: share of rows and of columns that each tree sees.
        penalty: on the squares of leaf values.
        patience: trees without a better log loss on validation before it stops.
        seed: of these draws.
    """
    import xgboost  # noqa: PLC0415  (only a fit pays for it)

    train = xgboost.DMatrix(z, label=correct)
    valid = xgboost.DMatrix(z_valid, label=correct_valid)
    booster = xgboost.train(
        {
            "objective": "binary:logistic",
            "eval_metric": "logloss",
            "tree_method": "hist",
            "max_depth": depth,
            "eta": lr,
            "min_child_weight": least_weight,
            "subsample": rows,
            "colsample_bytree": columns,
            "lambda": penalty,
            "max_bin": 128,
            "seed": seed,
        },
        train,
        num_boost_round=most,
        evals=[(valid, "valid")],
        early_stopping_rounds=patience,
        verbose_eval=False,
    )
    return TreeEnsemble.from_xgboost(booster[: booster.best_iteration + 1])

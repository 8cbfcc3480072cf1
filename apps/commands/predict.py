"""`remem predict BUNDLE INPUT... -o OUT`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from ...serving.opening import open_predictor
from ...serving.tracing.predictor import TracingPredictor
from .inputs import add_input_arguments, open_answers, open_cells


def main(argv: Sequence[str]) -> int:
    """Write one forecast per cell (early) or per row of the input, in its order (online, tracing)."""
    parser = argparse.ArgumentParser(
        prog="remem predict",
        description="Forecasts for every cell (early prediction) or every cycle (online), with intervals and flags; "
        "for every row of a log of answers (tracing), the probability of a right answer before it was given. Needs "
        "neither torch nor lightning.",
    )
    add_input_arguments(parser)
    parser.add_argument(
        "-o", "--out", type=Path, metavar="OUT", help="OUT.parquet or OUT.csv; default: csv to stdout"
    )
    options = parser.parse_args(argv)
    if options.out and options.out.suffix not in (".parquet", ".csv"):
        parser.error(f"-o {options.out}: end the name in .parquet or .csv")

    predictor = open_predictor(options.bundle, device=options.device)
    if isinstance(predictor, TracingPredictor):
        out, digits = predictor.predict(open_answers(predictor, options)), 6
    else:
        reading = open_cells(predictor, options)
        out, digits = predictor.predict(reading.frame), 1
        if predictor.bundle.task == "online":
            out = out[np.argsort(reading.order)]
    if options.out is None:
        sys.stdout.write(_flat(out).write_csv(float_precision=digits))
        return 0
    _write(out, options.out)
    print(f"{out.height} forecasts in {options.out}", file=sys.stderr)
    return 0


def _flat(out: pl.DataFrame) -> pl.DataFrame:
    """Lists as text, since csv has none: joined by ";"."""
    return out.with_columns(pl.col(pl.List(pl.String)).list.join(";"))


def _write(out: pl.DataFrame, path: Path) -> None:
    """All or nothing: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.suffix == ".csv":
            _flat(out).write_csv(partial)
        else:
            out.write_parquet(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

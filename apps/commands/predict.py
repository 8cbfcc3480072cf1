"""`remem predict BUNDLE INPUT... -o OUT`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...serving.battery.predictor import Predictor
from ...serving.opening import open_predictor
from ...serving.tracing.predictor import TracingPredictor
from .inputs import add_input_arguments, open_answers, open_cells
from .points import add_point_arguments, predict_points, refuse_options
from .writing import flat, write


def main(argv: Sequence[str]) -> int:
    """Write one forecast per cell (early), per row of the input, in its order (online, tracing), or per instance
    (geometry)."""
    parser = argparse.ArgumentParser(
        prog="remem predict",
        description="Forecasts for every cell (early prediction) or every cycle (online), with intervals and flags; "
        "for every row of a log of answers (tracing), the probability of a right answer before it was given; for every "
        "set of points (geometry) a short tour with a lower bound, the convex hull or the Delaunay triangulation. "
        "Needs neither torch nor lightning.",
    )
    add_input_arguments(parser)
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="OUT",
        help="OUT.parquet or OUT.csv, of tours on the globe also OUT.geojson; default: csv to stdout",
    )
    add_point_arguments(parser)
    options = parser.parse_args(argv)
    if options.out and options.out.suffix not in (".parquet", ".csv", ".geojson"):
        parser.error(f"-o {options.out}: end the name in .parquet, .csv or .geojson")

    predictor = open_predictor(options.bundle, device=options.device)
    refuse_options(parser, options, predictor.bundle)
    if predictor.bundle.app == "geometry":
        return predict_points(predictor, options)
    if options.out and options.out.suffix == ".geojson":
        parser.error(f"-o {options.out}: end the name in .parquet or .csv")
    if isinstance(predictor, TracingPredictor):
        out, digits = predictor.predict(open_answers(predictor, options)), 6
    elif isinstance(predictor, Predictor):
        reading = open_cells(predictor, options)
        out, digits = predictor.predict(reading.frame), 1
        if predictor.bundle.task == "online":
            out = out[np.argsort(reading.order)]
    if options.out is None:
        sys.stdout.write(flat(out).write_csv(float_precision=digits))
        return 0
    write(out, options.out)
    print(f"{out.height} forecasts in {options.out}", file=sys.stderr)
    return 0

"""What `predict` and `evaluate` share: files of any known layout, read for a bundle, and a word on what that took."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ...data.battery.readers import Reading, read_curves, read_cycles
from ...data.tracing.opening import open_log
from ...data.tracing.schema import Log
from ...serving.battery.predictor import Predictor
from ...serving.tracing.predictor import TracingPredictor

if TYPE_CHECKING:
    from ...data.geometry.tsplib import Problem


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """BUNDLE INPUT... --columns --device."""
    parser.add_argument(
        "bundle",
        metavar="BUNDLE",
        help="folder with manifest.json, as `remem export` writes it; or a shipped one: tsp, hull, delaunay",
    )
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="parquet or csv tables; cycler files or a folder of csv curves (battery); logs of answers of any known "
        "format (tracing); .tsp files of TSPLIB and .geojson (geometry)",
    )
    parser.add_argument(
        "--columns",
        type=column_map,
        default={},
        metavar="OLD=NEW,...",
        help="other names of columns, e.g. cell=cell_id or user=student_id",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="default: a GPU where there is one that works",
    )


def column_map(text: str) -> dict[str, str]:
    """`old=new,old=new` as a mapping."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(old.strip() and new.strip() for old, _, new in pairs):
        raise argparse.ArgumentTypeError(f"'{text}' is not OLD=NEW,OLD=NEW,...")
    return {old.strip(): new.strip() for old, _, new in pairs}


def open_cells(predictor: Predictor, options: argparse.Namespace) -> Reading:
    """The table that a battery predictor wants, read from all inputs; flags that reading raised go to stderr."""
    read = read_curves if predictor.table == "curves" else read_cycles
    reading = read(options.inputs, columns=options.columns)
    cells = reading.frame["cell_id"].n_unique()
    print(f"read {reading.frame.height} {predictor.table} of {cells} cells", file=sys.stderr)
    if len(reading.report):
        print(reading.report, file=sys.stderr)
    return reading


def open_answers(predictor: TracingPredictor, options: argparse.Namespace) -> Log:
    """The log in all inputs; what reading repaired and what the bundle does not know go to stderr."""
    log = open_log(options.inputs, columns=options.columns)
    print(f"read {len(log)} answers of {log.frame['student_id'].n_unique()} students", file=sys.stderr)
    for told in (log.report, predictor.unknown(log)):
        if len(told):
            print(told, file=sys.stderr)
    return log


def open_problems(options: argparse.Namespace) -> list[Problem]:
    """The instances in all inputs, in their order; what reading put up with goes to stderr."""
    from ..geometry.files import read_instances  # noqa: PLC0415  (scipy costs others a third of a second)

    problems = []
    for path in options.inputs:
        found = read_instances(path, columns=options.columns)
        for note in dict.fromkeys(note for problem in found for note in problem.notes):
            print(f"{path}: {note}", file=sys.stderr)
        problems += found
    points = sum(problem.n for problem in problems)
    print(f"read {len(problems)} instances of {points} points together", file=sys.stderr)
    return problems

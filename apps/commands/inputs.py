"""What `predict` and `evaluate` share: a bundle, files of any known layout, and a word on what reading took."""

from __future__ import annotations

import argparse
import sys

from ...data.battery.readers import Reading, read_curves, read_cycles
from ...serving.battery.predictor import Predictor


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """BUNDLE INPUT... --columns --device."""
    parser.add_argument(
        "bundle", metavar="BUNDLE", help="folder with manifest.json, as `remem export` writes it"
    )
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="parquet or csv tables, cycler files, or a folder of csv curves",
    )
    parser.add_argument(
        "--columns",
        type=column_map,
        default={},
        metavar="OLD=NEW,...",
        help="other names of columns, e.g. cell=cell_id",
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


def open_inputs(options: argparse.Namespace) -> tuple[Predictor, Reading]:
    """The predictor and the table it wants, read from all inputs; flags that reading raised go to stderr."""
    predictor = Predictor(options.bundle, device=options.device)
    read = read_curves if predictor.table == "curves" else read_cycles
    reading = read(options.inputs, columns=options.columns)
    cells = reading.frame["cell_id"].n_unique()
    print(f"read {reading.frame.height} {predictor.table} of {cells} cells", file=sys.stderr)
    if len(reading.report):
        print(reading.report, file=sys.stderr)
    return predictor, reading

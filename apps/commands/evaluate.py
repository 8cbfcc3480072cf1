"""`remem evaluate BUNDLE INPUT...`: INPUT holds the labels."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...serving.battery.predictor import Predictor
from ...serving.opening import GeometryPredictor, open_predictor
from ...serving.tracing.predictor import TracingPredictor
from ..battery.evaluation import FAILING, evaluate_cells
from ..report import text_table
from ..tracing.judge import PROTOCOLS, judge_log
from .inputs import add_input_arguments, open_answers, open_cells
from .points import add_method, evaluate_points, refuse_options


def main(argv: Sequence[str]) -> int:
    """Print the figures of the model and of the baselines that its bundle carries."""
    parser = argparse.ArgumentParser(
        prog="remem evaluate",
        description="Figures of the model beside those of its baselines, on cells whose life is known or on a log of "
        "answers. Early prediction has every figure twice: over all cells, and without the cells that fade already. A "
        "log has one headline figure, under the protocol that it names, and figures of parts of the log. Points "
        "have their answers in the column tour, hull or triangles, NAME.tsp in NAME.opt.tour; without these, tours are "
        "compared with our search, the others with exact arithmetic.",
        epilog="Battery: rmse and mae in cycles; mape, within_15, coverage and width as fractions; mape_low and "
        "mape_high are the 95 %% bootstrap interval over cells. Tracing: auc, nll, accuracy, brier, ece in 15 bins, "
        "and core, the AUC balanced within questions. Tours: gap_pct and worst_pct, mean and worst gap to the tours "
        "compared with; optimal, share of tours as short; cpu_ms of each instance. Needs neither torch nor lightning.",
    )
    add_input_arguments(parser)
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        help="what of a log of answers is scored (default: honest, every answered question once)",
    )
    add_method(parser)
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="tours: draw the gap of every instance here, by model"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args(argv)

    if options.plot and options.plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        parser.error(f"--plot {options.plot}: end the name in .png, .svg or .pdf")
    predictor = open_predictor(options.bundle, device=options.device)
    refuse_options(parser, options, predictor.bundle)
    if isinstance(predictor, TracingPredictor):
        return _answers(predictor, options)
    if options.protocol:
        parser.error(f"--protocol is for logs of answers; this bundle's task is '{predictor.bundle.task}'")
    if isinstance(predictor, Predictor):
        return _cells(predictor, options)
    return _points(predictor, options)


def _cells(predictor: Predictor, options: argparse.Namespace) -> int:
    failing, rows = evaluate_cells(predictor, open_cells(predictor, options))
    if options.json:
        about = {"bundle": options.bundle, "task": predictor.bundle.task, FAILING: failing}
        print(json.dumps(about | {"rows": rows}, indent=1))
    else:
        print(text_table(rows))
    return 0


def _answers(predictor: TracingPredictor, options: argparse.Namespace) -> int:
    verdict = judge_log(predictor, open_answers(predictor, options), options.protocol or "honest")
    if options.json:
        about = {"bundle": options.bundle, "task": predictor.bundle.task, "headline": verdict.headline}
        found = {"rows": _plain(verdict.rows()), "slices": _plain(verdict.slices())}
        print(json.dumps(about | found, indent=1, allow_nan=False))
    else:
        print("\n\n".join([verdict.headline, text_table(verdict.rows()), text_table(verdict.slices())]))
    return 0


def _points(predictor: GeometryPredictor, options: argparse.Namespace) -> int:
    compared, rows = evaluate_points(predictor, options)
    if options.json:
        about = {"bundle": options.bundle, "task": predictor.bundle.task, "compared_with": compared}
        print(json.dumps(about | {"rows": _plain(rows)}, indent=1, allow_nan=False))
    else:
        print(f"compared with: {compared}\n\n{text_table(rows)}")
    return 0


def _plain(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Rows for JSON, which knows no NaN: null where a figure has no value."""
    return [
        {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
        for row in rows
    ]

"""`remem tracing fit|validate|test|predict`: LightningCLI over the tracing module.

`fit --out DIR` leaves DIR/bundle, model.ckpt, metrics.json, report.html and config.yaml. `validate`, `test` (students
of --data.test_folds or --data.test_path) and `predict` (DIR/predictions.parquet, one row per row of --data.test_path)
take --out DIR and go on from there. Every one of them has --help.

    remem tracing fit --data.set=assistments2009 --data.train_folds=0,2,3,4 --data.valid_folds=1 --out out/2009
    remem tracing fit --data.path=log.csv --data.columns.user=student_id --out out/mine
    remem tracing fit --model.recall=cakt --model.trees=false          one network, without trees beside it
    remem tracing fit --model.layer=remem.core.LSTM                    another memory layer in it

With no --config, configs/default.yaml is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import arguments as shared

CONFIGS = Path(__file__).parent / "configs"


def preset(arguments: Sequence[str]) -> Path:
    """The packaged config, whatever the arguments are."""
    return CONFIGS / "default.yaml"


def with_config(arguments: Sequence[str]) -> list[str]:
    """Arguments with a config first: the user's own, a packaged name, that of the fit in `--out`, or the preset."""
    return shared.with_config(arguments, configs=CONFIGS, preset=preset)


def main(argv: Sequence[str]) -> int:
    """Run one subcommand. Progress goes to stderr, the table of results to stdout."""
    return shared.run_subcommand(
        argv, name="remem tracing", text=__doc__, complete=with_config, launch=_launch
    )


def _launch(arguments: Sequence[str]) -> str:
    from .fitting import launch  # noqa: PLC0415  (lightning costs seconds that other commands must not pay)

    return launch(arguments).told

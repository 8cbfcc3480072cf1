"""`remem tsp|hull|delaunay fit|validate|test|predict`: LightningCLI over the geometry modules.

`fit --out DIR` leaves DIR/bundle, model.ckpt, metrics.json, report.html and config.yaml. `validate`, `test` (fresh
instances) and `predict` (DIR/predictions.parquet, of --data.path) take --out DIR and go on from there. Every one of
them has --help.

    remem tsp fit --trainer.max_epochs=2 --out out/tsp        tours, on generated instances and tours of our own search
    remem tsp fit --data.path=stops.parquet --out out/mine    on your own coordinates
    remem hull fit --out out/hull                             convex hulls
    remem delaunay fit --out out/delaunay                     Delaunay triangulations
    remem hull fit --config pointer_network --out out/paper   the LSTM pointer network of Vinyals et al. instead

With no --config, configs/tsp.yaml, hull.yaml or delaunay.yaml is taken: the recipe of the bundle that remem ships.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .. import arguments as shared

CONFIGS = Path(__file__).parent / "configs"


def with_config(task: str, arguments: Sequence[str]) -> list[str]:
    """Arguments with a config first: the user's own, a packaged name, that of the fit in `--out`, or the task's."""
    return shared.with_config(arguments, configs=CONFIGS, preset=lambda _: CONFIGS / f"{task}.yaml")


def _main(task: str, argv: Sequence[str]) -> int:
    """Run one subcommand. Progress goes to stderr, the table of results to stdout."""
    return shared.run_subcommand(
        argv, name=f"remem {task}", text=__doc__, complete=partial(with_config, task), launch=_launch
    )


def tsp(argv: Sequence[str]) -> int:
    """`remem tsp`."""
    return _main("tsp", argv)


def hull(argv: Sequence[str]) -> int:
    """`remem hull`."""
    return _main("hull", argv)


def delaunay(argv: Sequence[str]) -> int:
    """`remem delaunay`."""
    return _main("delaunay", argv)


def _launch(arguments: Sequence[str]) -> str:
    from .fitting import launch  # noqa: PLC0415  (lightning costs seconds that other commands must not pay)

    return launch(arguments).told

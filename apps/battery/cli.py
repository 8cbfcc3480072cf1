"""`remem battery fit|validate|test|predict`: LightningCLI over the battery modules.

`fit --out DIR` leaves DIR/bundle, model.ckpt, metrics.json, report.html and config.yaml. `validate` (a fold kept from
training by --data.valid_fold), `test` and `predict` (DIR/predictions.parquet) take --out DIR and go on from there;
`--data.test_path FILE` names other cells. Every one of them has --help.

With no --config the preset follows from the wish: `--data.task online` takes configs/online.yaml, a network
(`--model.layer ...` or --data.view sequence) takes configs/sequence.yaml, everything else configs/default.yaml.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import arguments as shared

CONFIGS = Path(__file__).parent / "configs"


def preset(arguments: Sequence[str]) -> Path:
    """The packaged config that fits the arguments (see the module's text)."""
    joined = " ".join(arguments).replace("=", " ")
    if "--data.task online" in joined:
        return CONFIGS / "online.yaml"
    if "--model.layer" in joined or "--data.view sequence" in joined:
        return CONFIGS / "sequence.yaml"
    return CONFIGS / "default.yaml"


def with_config(arguments: Sequence[str]) -> list[str]:
    """Arguments with a config first: the user's own, a packaged name, that of the fit in `--out`, or the preset."""
    return shared.with_config(arguments, configs=CONFIGS, preset=preset)


def main(argv: Sequence[str]) -> int:
    """Run one subcommand. Progress goes to stderr, the table of results to stdout."""
    return shared.run_subcommand(
        argv, name="remem battery", text=__doc__, complete=with_config, launch=_launch
    )


def _launch(arguments: Sequence[str]) -> str:
    from .fitting import launch  # noqa: PLC0415  (lightning costs seconds that other commands must not pay)

    return launch(arguments).told

"""`remem battery fit|validate|test|predict`: LightningCLI over the battery modules.

`fit --out DIR` leaves DIR/bundle, model.ckpt, metrics.json, report.html and config.yaml. `validate` (a fold kept from
training by --data.valid_fold), `test` and `predict` (DIR/predictions.parquet) take --out DIR and go on from there;
`--data.test_path FILE` names other cells. Every one of them has --help.

With no --config the preset follows from the wish: `--data.task online` takes configs/online.yaml, a network
(`--model.layer ...` or --data.view sequence) takes configs/sequence.yaml, everything else configs/default.yaml.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

CONFIGS = Path(__file__).parent / "configs"
SUBCOMMANDS = ("fit", "validate", "test", "predict")


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
    out = list(arguments)
    if out and out[0] in SUBCOMMANDS:
        given = [
            i for i, word in enumerate(out) if word in ("--config", "-c") or word.startswith("--config=")
        ]
        left = Path(_value(out, "--out"))
        if not given and out[0] != "fit" and (left / "config.yaml").is_file():
            model = ["--ckpt_path", str(left / "model.ckpt")]
            return [out[0], "--config", str(left / "config.yaml"), *model, *out[1:]]
        if not given:
            return [out[0], "--config", str(preset(out)), *out[1:]]
        for i in given:
            flag, equals, value = out[i].partition("=")
            name = value if equals else (out[i + 1] if i + 1 < len(out) else "")
            packaged = CONFIGS / f"{name}.yaml"
            if packaged.is_file() and not Path(name).exists():
                if equals:
                    out[i] = f"{flag}={packaged}"
                else:
                    out[i + 1] = str(packaged)
    return out


def _value(arguments: Sequence[str], flag: str) -> str:
    """What follows the last `flag`, with or without an equals sign; empty where it does not stand there."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    places = [i for i, word in enumerate(words[:-1]) if word == flag]
    return words[places[-1] + 1] if places else ""


def main(argv: Sequence[str]) -> int:
    """Run one subcommand. Progress goes to stderr, the table of results to stdout."""
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__, file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    from .fitting import launch  # noqa: PLC0415  (lightning costs seconds that other commands must not pay)

    arguments, before = with_config(argv), sys.argv
    sys.argv = ["remem battery"]  # what the parser calls itself in its help and errors
    try:
        shows = any(word in ("--help", "-h") or word.startswith("--print_config") for word in arguments)
        with contextlib.nullcontext() if shows else contextlib.redirect_stdout(sys.stderr):
            told = launch(arguments).told
    finally:
        sys.argv = before
    print(told)
    return 0

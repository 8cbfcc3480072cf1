"""Arguments of `remem APP fit|validate|test|predict`: which config they go with, and how a subcommand is run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

SUBCOMMANDS = ("fit", "validate", "test", "predict")


def with_config(
    arguments: Sequence[str], *, configs: Path, preset: Callable[[Sequence[str]], Path]
) -> list[str]:
    """Arguments with a config first: the user's own, a packaged name, that of the fit in `--out`, or the preset.

    Args:
        arguments: subcommand and options.
        configs: folder of the packaged configs.
        preset: the packaged config that fits the arguments, where none is given.
    """
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
            packaged = configs / f"{name}.yaml"
            if packaged.is_file() and not Path(name).exists():
                if equals:
                    out[i] = f"{flag}={packaged}"
                else:
                    out[i + 1] = str(packaged)
    return out


def run_subcommand(
    argv: Sequence[str],
    *,
    name: str,
    text: str | None,
    complete: Callable[[Sequence[str]], list[str]],
    launch: Callable[[Sequence[str]], str],
) -> int:
    """Run one subcommand; progress goes to stderr, what `launch` tells to stdout.

    Args:
        argv: subcommand and options.
        name: what the parser calls itself in its help and errors, as "remem battery".
        text: the help where no subcommand is given.
        complete: adds the config.
        launch: does it, and returns what people read in the end.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(text, file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    arguments, before = complete(argv), sys.argv
    sys.argv = [name]
    try:
        shows = any(word in ("--help", "-h") or word.startswith("--print_config") for word in arguments)
        with contextlib.nullcontext() if shows else contextlib.redirect_stdout(sys.stderr):
            told = launch(arguments)
    finally:
        sys.argv = before
    print(told)
    return 0


def _value(arguments: Sequence[str], flag: str) -> str:
    """What follows the last `flag`, with or without an equals sign; empty where it does not stand there."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    places = [i for i, word in enumerate(words[:-1]) if word == flag]
    return words[places[-1] + 1] if places else ""

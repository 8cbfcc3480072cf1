"""`remem battery fit|validate|test|predict`: LightningCLI over the battery modules.

With no --config the preset follows from the wish: `--data.task online` takes configs/online.yaml, a network
(`--model.layer ...` or --data.view sequence) takes configs/sequence.yaml, everything else configs/default.yaml.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    """Arguments with a config first: the user's own, one of the packaged names, or the preset."""
    out = list(arguments)
    if out and out[0] in SUBCOMMANDS:
        given = [i for i, word in enumerate(out) if word in ("--config", "-c") or word.startswith("--config=")]
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


def main(argv: Sequence[str]) -> int:
    """Run one subcommand. Progress goes to stderr, the table of results to stdout."""
    _quiet()
    from .fitting import BatteryCLI  # noqa: PLC0415  (lightning costs seconds; --help of other commands must not pay)

    arguments = with_config(argv)
    before = sys.argv
    sys.argv = ["remem battery"]
    try:
        with contextlib.redirect_stdout(sys.stderr if _trains(arguments) else sys.stdout):
            run = BatteryCLI.run(arguments)
        for line in run:
            print(line)
    finally:
        sys.argv = before
    return 0


def _trains(arguments: Sequence[str]) -> bool:
    return not any(word in ("--help", "-h", "--print_config") or word.startswith("--print_config") for word in arguments)


def _quiet() -> None:
    """Silence what lightning says about itself; its own warnings about the user's run stay."""
    os.environ.setdefault("LITLOGGER_DISABLE_TIP", "1")
    for text in ("isinstance.treespec, LeafSpec", "LightningCLI's args parameter", ".*does not have many workers", ".*GPU available but not used"):
        warnings.filterwarnings("ignore", message=f".*{text}")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_tips)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


def _no_tips(record: logging.LogRecord) -> bool:
    return "Tip:" not in str(record.msg)


def arguments_of(**values: Any) -> list[str]:
    """Command-line words of plain keyword values, `a__b=1` becoming `--a.b=1`."""
    return [f"--{name.replace('__', '.')}={value}" for name, value in values.items()]

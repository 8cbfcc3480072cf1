"""`remem COMMAND`: finds the command's file and calls its `main(argv)`. Nothing heavy is imported to show the help."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": (".demo", "train, judge, export and run models on generated data"),
    "battery": (".battery.cli", "battery life: fit, validate, test, predict"),
    "tracing": (
        ".tracing.cli",
        "knowledge tracing, the next answer of a student: fit, validate, test, predict",
    ),
    "tsp": (".geometry.cli:tsp", "short tours by a learned pointer: fit, validate, test, predict"),
    "hull": (".geometry.cli:hull", "convex hulls by a learned pointer: fit, validate, test, predict"),
    "delaunay": (".geometry.cli:delaunay", "Delaunay triangulations: fit, validate, test, predict"),
    "solve": (
        ".commands.solve",
        "a .tsp or .csv file: a short tour, and how far from the shortest it can be",
    ),
    "export": (".commands.export", "a checkpoint becomes a bundle: everything production needs"),
    "predict": (".commands.predict", "a bundle and data files become a table of predictions"),
    "evaluate": (".commands.evaluate", "predictions against labels, beside the simple baselines"),
    "stream": (".commands.stream", "JSON lines in, JSON lines out, constant memory per cell or student"),
    "data": (".commands.data", "list, get and check the real data sets"),
    "bench": (".commands.bench", "print every published figure"),
}
"""Name -> module under `remem.apps` with `main(argv) -> int`, or module:function, and its line in the help."""

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    A `ValueError` or `OSError` becomes one message on stderr; set REMEM_DEBUG=1 for the traceback.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help(), file=sys.stdout if words else sys.stderr)
        return DONE if words else WRONG_USAGE
    if words[0] == "--version":
        print(f"remem {version('remem')}")
        return DONE
    name, *rest = words
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(COMMANDS)}"
        print(f"remem: there is no command '{name}'; {hint}", file=sys.stderr)
        return WRONG_USAGE
    return _run(name, rest)


def _run(name: str, argv: list[str]) -> int:
    try:
        module, _, function = COMMANDS[name][0].partition(":")
        code = getattr(import_module(module, __package__), function or "main")(argv)
        sys.stdout.flush()
    except (ValueError, OSError) as error:
        if os.environ.get("REMEM_DEBUG"):
            raise
        if isinstance(error, BrokenPipeError):  # `remem ... | head`: the reader has what it wanted
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        print(f"remem {name}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"remem {name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return int(code)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: remem COMMAND ...",
            "",
            "Memory-augmented sequence models: trained once, run for ever in constant memory.",
            "",
            *lines,
            "",
            "`remem COMMAND --help` says more. Results go to stdout, progress to stderr.",
            "Exit codes: 0 done, 1 failed, 2 wrong usage. REMEM_DEBUG=1 shows tracebacks.",
        ]
    )

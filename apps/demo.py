"""`remem demo`: the main jobs in miniature on generated data. Train, compare, export, predict, stream, report."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str]) -> int:
    """Run the demo and print what it found and where everything lies."""
    parser = argparse.ArgumentParser(
        prog="remem demo",
        description="Train, judge, export and run battery and tracing models on generated data; none are needed. "
        "DIR/report.html and DIR/tracing/report.html show all of it.",
    )
    parser.add_argument("--out", default="out", metavar="DIR", help="folder to write to (default: out)")
    options = parser.parse_args(argv)
    out, started = Path(options.out), time.monotonic()
    from .battery.showcase import showcase as battery  # noqa: PLC0415  (lightning costs seconds: not for --help)
    from .report import text_table  # noqa: PLC0415
    from .tracing.showcase import showcase as tracing  # noqa: PLC0415

    with contextlib.redirect_stdout(sys.stderr):
        lives, students = battery(out), tracing(out / "tracing")
    print(f"{text_table(lives)}\n\n{text_table(students)}")
    seconds = time.monotonic() - started
    print(f"\n{out}/report.html, {out}/tracing/report.html  plots and tables ({seconds:.0f} s in all)")
    print("cycle life from the first cycles:")
    print(f"  remem predict {out}/early/bundle {out}/new_cells.parquet -o {out}/lives.parquet")
    print("remaining life after every cycle:")
    print(f"  remem stream {out}/online/bundle < {out}/cycles.jsonl")
    print("a student's next answer:")
    print(f"  remem stream {out}/tracing/bundle < {out}/tracing/answers.jsonl")
    return 0

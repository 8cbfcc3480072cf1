"""`remem demo`: the main job in miniature on generated cells. Train, compare, export, predict, stream, report."""

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
        description="Train, judge, export and run battery models on generated cells; no data needed. "
        "DIR/report.html shows all of it.",
    )
    parser.add_argument("--out", default="out", metavar="DIR", help="folder to write to (default: out)")
    options = parser.parse_args(argv)
    out, started = Path(options.out), time.monotonic()
    from .battery.showcase import showcase  # noqa: PLC0415  (lightning costs seconds: not for --help)
    from .report import text_table  # noqa: PLC0415

    with contextlib.redirect_stdout(sys.stderr):
        rows = showcase(out)
    print(text_table(rows))
    print(f"\n{out}/report.html  plots and tables ({time.monotonic() - started:.0f} s in all)")
    print("cycle life from the first cycles:")
    print(f"  remem predict {out}/early/bundle {out}/new_cells.parquet -o {out}/lives.parquet")
    print("remaining life after every cycle:")
    print(f"  remem stream {out}/online/bundle < {out}/cycles.jsonl")
    return 0

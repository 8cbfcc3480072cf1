"""`remem demo`: the main jobs in miniature on generated data. Train, compare, export, predict, solve, report."""

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
        description="Train, judge, export and run battery and tracing models on generated data, and solve tours, hulls "
        "and triangulations with the models that remem ships; no data are needed. DIR/report.html, "
        "DIR/tracing/report.html and DIR/geometry/report.html show all of it.",
    )
    parser.add_argument("--out", default="out", metavar="DIR", help="folder to write to (default: out)")
    options = parser.parse_args(argv)
    out, started = Path(options.out), time.monotonic()
    from .battery.showcase import showcase as battery  # noqa: PLC0415  (lightning costs seconds: not for --help)
    from .geometry.showcase import showcase as geometry  # noqa: PLC0415
    from .report import text_table  # noqa: PLC0415
    from .tracing.showcase import showcase as tracing  # noqa: PLC0415

    with contextlib.redirect_stdout(sys.stderr):
        lives, students, tours = battery(out), tracing(out / "tracing"), geometry(out / "geometry")
    print(f"{text_table(lives)}\n\n{text_table(students)}\n\n{text_table(tours)}")
    seconds = time.monotonic() - started
    pages = ", ".join(f"{part}/report.html" for part in (out, out / "tracing", out / "geometry"))
    print(f"\n{pages}  plots and tables ({seconds:.0f} s in all)")
    print("cycle life from the first cycles:")
    print(f"  remem predict {out}/early/bundle {out}/new_cells.parquet -o {out}/lives.parquet")
    print("remaining life after every cycle:")
    print(f"  remem stream {out}/online/bundle < {out}/cycles.jsonl")
    print("a student's next answer:")
    print(f"  remem stream {out}/tracing/bundle < {out}/tracing/answers.jsonl")
    print("short tours, with a bound below which none is:")
    print(f"  remem predict tsp {out}/geometry/places.parquet -o {out}/tours.parquet")
    return 0

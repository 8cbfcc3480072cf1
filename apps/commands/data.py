"""`remem data list|get|check`: the real data sets."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence

from ...data.files import check_set, data_root, get_set, list_sets
from ..report import text_table

Rows = list[dict[str, str]]


def main(argv: Sequence[str]) -> int:
    """List the sets, bring one under the data root, or check that the files at hand are whole."""
    parser = argparse.ArgumentParser(
        prog="remem data",
        description="Real data sets: where they come from, under which terms, and whether the files at hand are whole.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|get|check")
    listing = actions.add_parser("list", help="all sets, and where they were found")
    getting = actions.add_parser("get", help="copy or download sets; calling again goes on where it stopped")
    getting.add_argument("names", nargs="+", metavar="NAME")
    getting.add_argument(
        "--from", dest="source", metavar="FOLDER|URL", help="a folder that has the files, or your mirror"
    )
    checking = actions.add_parser("check", help="compare every byte with the known sha256")
    checking.add_argument("names", nargs="*", metavar="NAME", help="default: every set that was found")
    for one in (listing, getting, checking):
        one.add_argument(
            "--data.root", dest="root", metavar="DIR", help="default: REMEM_DATA, else the user's cache"
        )
        one.add_argument("--json", action="store_true", help="rows as JSON instead of a table")
    options = parser.parse_args(argv)
    return {"list": _list, "get": _get, "check": _check}[options.action](options)


def _list(options: argparse.Namespace) -> int:
    rows = list_sets(options.root)
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        print(f"{row['name']:15} {row['megabytes']:>5} MB  {row['found'] or 'not found'}")
        print("\n".join(f"    {row[key]}" for key in ("title", "licence", "upstream", "cite")) + "\n")
    return 0


def _get(options: argparse.Namespace) -> int:
    rows: Rows = []
    for name in options.names:
        print(f"getting {name} into {data_root(options.root)}", file=sys.stderr)
        rows += get_set(name, source=options.source, root=options.root)
    _show(rows, options)
    return 0


def _check(options: argparse.Namespace) -> int:
    names = options.names or [row["name"] for row in list_sets(options.root) if row["found"]]
    if not names:
        raise ValueError(
            f"no data set under {data_root(options.root)}; `remem data list` says where they come from"
        )
    rows = [row for name in names for row in check_set(name, options.root)]
    _show(rows, options)
    faults = [row for row in rows if row["state"] in ("missing", "damaged")]
    for row in faults:
        print(f"{row['file']}: {row['state']}; {row['remedy']}", file=sys.stderr)
    return 1 if faults else 0


def _show(rows: Sequence[Mapping[str, str]], options: argparse.Namespace) -> None:
    told = ("file", "state", "action", "path")  # remedies are long, and for stderr
    short = [{key: row[key] for key in told if key in row} for row in rows]
    print(json.dumps(rows, indent=1) if options.json else text_table(short))

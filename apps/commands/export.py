"""`remem export CKPT -o BUNDLE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Turn a checkpoint of `remem ... fit` into a bundle and print its path."""
    parser = argparse.ArgumentParser(
        prog="remem export",
        description="Turn a checkpoint into a bundle: ONNX graphs, checked against torch, and a manifest.",
    )
    parser.add_argument(
        "checkpoint", metavar="CKPT", help="DIR/model.ckpt, as `remem APP fit --out DIR` leaves it"
    )
    parser.add_argument("-o", "--out", required=True, metavar="BUNDLE", help="folder to write")
    options = parser.parse_args(argv)

    # torch and lightning cost seconds: not for --help. A checkpoint may only name classes that are imported already.
    from ..battery import early_network, ensemble, online_network  # noqa: F401, PLC0415
    from ..geometry import (  # noqa: F401, PLC0415
        delaunay_module,
        hull_module,
        pointer_module,
        route_module,
        tour_module,
    )
    from ..module import export_checkpoint  # noqa: PLC0415
    from ..tracing import module  # noqa: F401, PLC0415

    print(f"exporting {options.checkpoint}", file=sys.stderr)
    print(export_checkpoint(options.checkpoint, options.out))
    return 0

"""The weights of a hull or apex pointer inside its bundle, so that torch can be compared with the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ...core.local_apex import ApexPointer
from ...core.local_hull import HullPointer
from ...serving.bundle import Bundle, open_bundle

FILE = "weights.npz"
_SHAPE = "shape"


def write_weights(path: Path, pointer: HullPointer | ApexPointer) -> None:
    """Write the weights, and the shape of the network that they are of."""
    shape = [pointer.network.d_model, pointer.num_glimpses]
    if isinstance(pointer, ApexPointer):
        shape.append(pointer.window)
    weights = {name: tensor.cpu().numpy() for name, tensor in pointer.state_dict().items()}
    np.savez(path, allow_pickle=False, **{_SHAPE: np.array(shape, np.int64)}, **weights)


def read_pointer(bundle: str | Path | Bundle) -> HullPointer | ApexPointer:
    """The pointer of a bundle, as it was exported.

    Raises:
        ValueError: as `open_bundle`; the bundle holds no weights of such a pointer.
    """
    opened = open_bundle(bundle)
    if opened.task not in ("hull", "delaunay") or FILE not in opened.manifest["files"]:
        raise ValueError(
            f"{opened.path}: task '{opened.task}', files {', '.join(opened.manifest['files'])}; wanted {FILE} of a "
            "local-frame pointer; export the bundle again with this version"
        )
    with np.load(opened.path / FILE, allow_pickle=False) as file:
        d_model, glimpses, *window = file[_SHAPE].tolist()
        weights = {name: torch.from_numpy(file[name]) for name in file.files if name != _SHAPE}
    pointer = (
        ApexPointer(d_model, num_glimpses=glimpses, window=window[0])
        if window
        else HullPointer(d_model, num_glimpses=glimpses)
    )
    pointer.load_state_dict(weights)
    return pointer.eval()

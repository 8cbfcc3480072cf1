"""The weights of a tour policy inside its bundle: half precision, for a fit that goes on from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ...core.local_tour import PathNetwork, PathPolicy
from ...serving.bundle import Bundle, open_bundle

FILE = "weights.npz"
_SHAPE = "d_model, num_heads, num_layers, ff_mult, window"


def write_weights(path: Path, policy: PathPolicy) -> None:
    """Write weights, rounded to half precision, and the shape of the network that they are of."""
    network = policy.network
    shape = [network.d_model, network.num_heads, len(network.blocks), network.ff_mult, policy.window]
    weights = {name: tensor.cpu().numpy().astype(np.float16) for name, tensor in network.state_dict().items()}
    np.savez(path, allow_pickle=False, **{_SHAPE: np.array(shape, np.int64)}, **weights)


def read_policy(bundle: str | Path | Bundle) -> PathPolicy:
    """The policy of a bundle of tours, in torch.

    Raises:
        ValueError: as `open_bundle`; the bundle holds no weights.
    """
    opened = open_bundle(bundle)
    if FILE not in opened.manifest["files"]:
        raise ValueError(
            f"{opened.path}: holds no {FILE}; wanted a bundle of points that `remem tsp fit` wrote"
        )
    with np.load(opened.path / FILE, allow_pickle=False) as stored:
        d_model, num_heads, num_layers, ff_mult, window = (int(number) for number in stored[_SHAPE])
        weights = {
            name: torch.from_numpy(stored[name].astype(np.float32)) for name in stored if name != _SHAPE
        }
    network = PathNetwork(d_model, num_heads=num_heads, num_layers=num_layers, ff_mult=ff_mult)
    network.load_state_dict(weights)
    return PathPolicy(network, window).eval()

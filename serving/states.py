"""Fixed-size states: the step graph that carries them on, and the file that keeps them over a restart.

Shape legend: B rows, F features, O outputs.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .bundle import Bundle
from .session import Device

State = tuple[np.ndarray, ...]
"""One array per state tensor of the step graph, rows first."""


class StepGraph:
    """The step graph of a bundle.

    fresh: the state of one row before anything was seen. names: of its arrays, as in the graph ("state.*").
    """

    def __init__(self, bundle: Bundle, *, device: Device = "cpu", threads: int = 1) -> None:
        self._session = bundle.session("step.onnx", device=device, threads=threads)
        self.names = [port.name for port in self._session.get_inputs() if port.name.startswith("state.")]
        self._outputs = ["y", *(name.replace("state.", "next.", 1) for name in self.names)]
        # a masked step leaves the state as it was, so the window graph tells what it is at first
        window = bundle.session("window.onnx", device=device, threads=threads)
        nothing = np.zeros((1, 1, len(bundle.features)), np.float32)
        self.fresh: State = tuple(window.run(self.names, {"x": nothing, "mask": np.zeros((1, 1), bool)}))

    @property
    def state_bytes(self) -> int:
        """Bytes of the state of one row, after one step as after a million."""
        return sum(part.nbytes for part in self.fresh)

    def __call__(self, x_BF: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """(B, F) observations and the states before them to (B, O) outputs and the states after."""
        fed = dict(zip(self.names, state, strict=True))
        y_BO, *after = self._session.run(self._outputs, {"x": x_BF} | fed)
        return y_BO, tuple(after)

    def ask(self, x_BF: np.ndarray, state: State) -> np.ndarray:
        """(B, O) outputs alone, all rows from the one state of `state`."""
        fed = {
            name: np.broadcast_to(part, (len(x_BF), *part.shape[1:]))
            for name, part in zip(self.names, state, strict=True)
        }
        return np.asarray(self._session.run(["y"], {"x": x_BF} | fed)[0])


def save_states(path: str | Path, bundle: Bundle, contents: Mapping[str, Any]) -> None:
    """Write arrays by name into one npz file, all or nothing: an interrupted write leaves the old file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez(file, bundle=np.array(bundle.digest), **contents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def load_states(path: str | Path, bundle: Bundle) -> dict[str, np.ndarray]:
    """The arrays that `save_states` wrote.

    Raises:
        ValueError: where the file is damaged, or was saved with another bundle.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            saved = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: not a state file ({error}); wanted one that `save` of a session wrote; remove it to start fresh"
        ) from error
    if str(saved.get("bundle")) != bundle.digest:
        raise ValueError(
            f"{path}: saved with bundle {saved.get('bundle')}, this one is {bundle.digest} "
            f"({bundle.path}); states do not carry over between models: use that bundle, "
            "or another file to start fresh"
        )
    return saved

"""An estimator that carries its bundle: works with a shipped one until it is fitted, is saved, pickled and exported."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator

from ...data.files import atomic
from ...data.geometry.tsplib import Problem
from ...serving.bundle import open_bundle
from ...serving.geometry.plane import to_plane, to_unit
from .own_points import fit_points

_PARAMETERS = "estimator.json"


class BundleEstimator(BaseEstimator):
    """Base of the solvers. A subclass has a parameter `bundle`, the name or folder of what it works with unless fitted,
    and sets `files_` (bytes by name) when it is."""

    task = ""
    """Of the bundles that it takes."""

    bundle: str | os.PathLike[str]

    def _fit_points(self, problems: Sequence[Problem], settings: Mapping[str, object]) -> None:
        """Train the task's network on these points, and carry its bundle."""
        points = [to_unit(to_plane(problem)).astype(np.float64) for problem in problems]
        with tempfile.TemporaryDirectory() as scratch:
            self.metrics_ = fit_points(self.task, points, Path(scratch), settings)
            self._take(Path(scratch) / "run" / "bundle")

    def export(self, folder: str | os.PathLike[str]) -> Path:
        """Write the bundle for `remem predict` and `remem.serving`, and return its folder.

        Raises:
            ValueError: the folder exists and is no bundle.
        """
        target = Path(folder)
        if target.exists() and not (target / "manifest.json").exists() and any(target.iterdir()):
            raise ValueError(
                f"{target}: exists and is no bundle; choose another folder, nothing was overwritten"
            )
        target.mkdir(parents=True, exist_ok=True)
        for name, content in self._files().items():
            (target / name).write_bytes(content)
        return target

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write parameters and, where it is fitted, the bundle into one zip file; `load` opens it."""
        target = Path(path)
        with atomic(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            about = {"estimator": type(self).__name__, "parameters": self.get_params()}
            archive.writestr(_PARAMETERS, json.dumps(about, default=_plain))
            for name, content in getattr(self, "files_", {}).items():
                archive.writestr(name, content)
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Open what `save` wrote, or a bundle folder (with the default parameters); only plain data is read.

        Raises:
            ValueError: missing, damaged, or of another estimator.
        """
        source = Path(path)
        if not source.is_file():
            out = cls()
            out._take(open_bundle(source).path)
            return out
        try:
            with zipfile.ZipFile(source) as archive:
                files = {name: archive.read(name) for name in archive.namelist()}
            about = json.loads(files.pop(_PARAMETERS))
            if about["estimator"] != cls.__name__:
                raise KeyError(f"saved by {about['estimator']}")
            out = cls(**about["parameters"])
        except (zipfile.BadZipFile, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{source}: not a saved {cls.__name__} ({error}); write one with save()"
            ) from error
        if files:
            with tempfile.TemporaryDirectory() as scratch:
                for name, content in files.items():
                    (Path(scratch) / Path(name).name).write_bytes(content)
                out._take(Path(scratch))
        return out

    def _take(self, folder: Path) -> None:
        """Keep the bundle in this folder, from now on the one to work with."""
        found = open_bundle(folder)
        if found.task != self.task:
            raise ValueError(
                f"{folder}: a bundle of task '{found.task}'; {type(self).__name__} wants '{self.task}'"
            )
        names = ("manifest.json", *found.manifest["files"])
        self.files_ = {name: (found.path / name).read_bytes() for name in names}
        self.kind_ = found.kind
        self._close()

    def _files(self) -> dict[str, bytes]:
        if hasattr(self, "files_"):
            return self.files_
        found = open_bundle(Path(self.bundle))
        return {
            name: (found.path / name).read_bytes() for name in ("manifest.json", *found.manifest["files"])
        }

    def _open(self, kind: Any, **options: Any) -> Any:
        """A predictor of this class, with these options, over the bundle; opened once."""
        opened = self.__dict__.setdefault("_opened", {})
        fitted = hasattr(self, "files_")
        asked = ("" if fitted else str(self.bundle), *options.items())
        if asked not in opened:
            # graphs are opened when they are needed: the folder lives as long as the predictor
            scratch = tempfile.TemporaryDirectory() if fitted else None
            folder = self.export(scratch.name) if scratch else Path(self.bundle)
            opened[asked] = kind(folder, device="cpu", **options), scratch
        return opened[asked][0]

    def _forget(self) -> None:
        """What an earlier fit left."""
        for name in ("files_", "kind_", "metrics_"):
            self.__dict__.pop(name, None)
        self._close()

    def _close(self) -> None:
        self.__dict__.pop("_opened", None)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is opened: sessions of onnxruntime cannot be pickled."""
        return {name: value for name, value in super().__getstate__().items() if name != "_opened"}

    def __sklearn_is_fitted__(self) -> bool:
        return True  # the shipped bundle, or the search, needs no fit


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be saved")

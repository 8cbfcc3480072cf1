"""A bundle: a folder `{window.onnx, step.onnx | model.onnx, manifest.json, ...}`, everything that production needs.

Nothing in it is trusted before it is checked: the manifest against its schema, every file against its sha256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from .session import Device, open_session

SCHEMA_VERSION = 1

OUTPUTS: dict[str, list[str]] = {
    "early": ["cycle_life", "lo", "hi"],
    "online": ["rul", "lo", "hi"],
    "tracing": ["p_correct"],
    "tsp": ["tour"],
    "hull": ["hull"],
    "delaunay": ["triangles"],
}
"""Tasks, and what their graphs give; a tracing bundle of several members gives those too, after `p_correct`."""

SHIPPED = Path(__file__).parent / "geometry" / "bundles"
"""Folder of the bundles that come with the package, each found by its name: tsp, hull, delaunay."""


@dataclass(frozen=True)
class Bundle:
    """An opened and checked bundle folder.

    path: the folder. manifest: the parsed manifest.json, see `open_bundle` for what is guaranteed.
    """

    path: Path
    manifest: Mapping[str, Any]

    @property
    def app(self) -> str:
        """ "battery", "tracing" or "geometry"."""
        return str(self.manifest["app"])

    @property
    def kind(self) -> str:
        """How a table becomes the graph's input, e.g. "early_tabular", "answers" or "points"."""
        return str(self.manifest["input"]["kind"])

    @property
    def task(self) -> str:
        """ "early" (one forecast a cell), "online" (one after every cycle), "tracing" (one before every answer), "tsp",
        "hull" or "delaunay" (one answer a set of points)."""
        return str(self.manifest["task"])

    @property
    def features(self) -> tuple[str, ...]:
        """Feature names in the order of the last axis of the graph's input."""
        return tuple(self.manifest["input"]["features"])

    @property
    def digest(self) -> str:
        """A name for exactly these graphs: states saved under one digest must not be fed to another."""
        return hashlib.sha256(json.dumps(self.manifest["files"], sort_keys=True).encode()).hexdigest()[:16]

    def session(self, name: str, *, device: Device = "auto", threads: int = 0) -> ort.InferenceSession:
        """An onnxruntime session over one of the bundle's graphs, e.g. "window.onnx".

        Raises:
            ValueError: where the bundle has no such graph.
        """
        if name not in self.manifest["files"]:
            raise ValueError(
                f"{self.path}: this bundle has no {name}, only {', '.join(sorted(self.manifest['files']))}; "
                f"its task is '{self.task}' and its input '{self.kind}'"
            )
        return open_session(self.path / name, device=device, threads=threads)


def open_bundle(path: str | Path | Bundle) -> Bundle:
    """Open a bundle folder and check all of it. A bare name ("tsp") that is no folder here is a shipped bundle.

    Guaranteed afterwards: every key of the schema is there in its type, task, kind and outputs fit together, every
    file named in the manifest is there with the sha256 that it had at export, and so are the graphs the kind needs.

    Raises:
        ValueError: where anything is missing, of another schema version, or was changed after the export.
    """
    if isinstance(path, Bundle):
        return path
    folder = _found(Path(path))
    file = folder / "manifest.json"
    if not file.is_file():
        raise ValueError(
            f"{folder}: holds no manifest.json, so it is no bundle; `remem export CKPT -o BUNDLE` makes one"
        )
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not valid JSON ({error}); export the bundle again") from error
    _check_manifest(manifest, file)
    return Bundle(folder, manifest)


def shipped() -> list[str]:
    """Names of the bundles that come with the package."""
    return sorted(file.parent.name for file in SHIPPED.glob("*/manifest.json"))


def _found(folder: Path) -> Path:
    if folder.is_dir():
        return folder
    if str(folder) in shipped():
        return SHIPPED / folder
    known = f"; shipped with the package: {', '.join(shipped())}" if shipped() else ""
    raise ValueError(
        f"{folder}: no such bundle folder; `remem export CKPT -o {folder.name}` makes one{known}"
    )


def _text(value: object) -> bool:
    return isinstance(value, str)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _optional_number(value: object) -> bool:
    return value is None or _number(value)


def _capacity(value: object) -> bool:
    """Of a new cell in Ah: one number, or one for each value of the column `group`."""
    return all(map(_number, value.values())) if isinstance(value, dict) else _optional_number(value)


def _names(value: object) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _mapping(value: object) -> bool:
    return isinstance(value, dict)


def _spread(value: object) -> bool:
    """How far the true probability lies from the forecast, by answers on the concept so far: lower edges, and sd."""
    if value is None:
        return True
    if not isinstance(value, dict) or set(value) != {"answers", "sd"}:
        return False
    edges, sd = value["answers"], value["sd"]
    if not (isinstance(edges, list) and isinstance(sd, list) and all(map(_number, edges + sd))):
        return False
    return len(edges) == len(sd) > 0 == edges[0] and edges == sorted(edges) and min(sd) >= 0


_Schema = Mapping[str, tuple[Callable[[object], bool], str]]

_TOP: _Schema = {
    "remem": (_text, "a version"),
    "task": (_text, "text"),
    "input": (_mapping, "an object"),
    "output": (_names, "a list of names"),
    "confidence": (_number, "a number"),
    "state": (lambda value: isinstance(value, list), "a list"),
    "state_bytes": (_number, "a number"),
    "files": (_mapping, "an object of file names and sha256"),
    "training": (_mapping, "an object"),
    "baselines": (_mapping, "an object"),
}
_INPUT: _Schema = {
    "kind": (_text, "text"),
    "features": (_names, "a list of names"),
    "units": (_mapping, "an object"),
}


@dataclass(frozen=True)
class _App:
    """What the manifest of an app holds beyond `_TOP` and `_INPUT`, and the files each of its tasks and kinds needs."""

    files: Mapping[tuple[str, str], tuple[str, ...]]
    top: _Schema
    input: _Schema


_APPS = {
    "battery": _App(
        files={
            ("early", "early_tabular"): ("model.onnx",),
            ("early", "early_sequence"): ("window.onnx",),
            ("online", "online_sequence"): ("window.onnx", "step.onnx"),
        },
        top={},
        input={
            "max_cycle": (_optional_number, "a number or null"),
            "nominal_capacity_ah": (_capacity, "a number, an object with a number for each group, or null"),
            "eol_fraction": (_optional_number, "a number or null"),
        },
    ),
    "tracing": _App(
        files={("tracing", "answers"): ("window.onnx", "step.onnx", "vocabulary.json")},
        top={"spread": (_spread, 'null, or {"answers": [0, ...rising], "sd": [...as many]}')},
        input={},
    ),
    "geometry": _App(
        # a bundle of tours may have beam.onnx too; one of triangles has apex.onnx, or greedy.onnx of a pointer network
        files={
            ("tsp", "points"): ("greedy.onnx",),
            ("tsp", "routes"): ("cost.onnx",),
            ("hull", "points"): ("greedy.onnx",),
            ("delaunay", "points"): (),
        },
        top={},
        input={},
    ),
}


def _check_manifest(manifest: object, file: Path) -> None:
    if not isinstance(manifest, dict):
        raise ValueError(
            f"{file}: got a JSON {type(manifest).__name__}, wanted an object; export the bundle again"
        )
    written = manifest.get("schema_version")
    if written != SCHEMA_VERSION:
        raise ValueError(
            f"{file}: schema_version is {written!r}, this version of remem reads {SCHEMA_VERSION}; export the bundle "
            "again with this version, or run the version that wrote it"
        )
    name = manifest.get("app")
    if name not in _APPS:
        raise ValueError(f"{file}: app is {name!r}; this version of remem serves {', '.join(_APPS)}")
    app = _APPS[name]
    _check_keys(manifest, {**_TOP, **app.top}, file, "")
    _check_keys(manifest["input"], {**_INPUT, **app.input}, file, "input.")
    task, kind = manifest["task"], manifest["input"]["kind"]
    if (task, kind) not in app.files:
        wanted = " or ".join(f"'{task}' with '{kind}'" for task, kind in app.files)
        raise ValueError(
            f"{file}: task '{task}' with input.kind '{kind}'; wanted {wanted}; export the bundle again"
        )
    if task == "early" and manifest["input"]["max_cycle"] is None:
        raise ValueError(
            f"{file}: input.max_cycle is null; task 'early' needs the last cycle looked at; export the bundle again"
        )
    given, first = manifest["output"], OUTPUTS[task]
    if given[: len(first)] != first or (task != "tracing" and len(given) > len(first)):
        raise ValueError(f"{file}: output is {given}; a bundle of task '{task}' gives {first}")
    _check_files(manifest, app.files[task, kind], file.parent)


def _check_keys(table: Mapping[str, Any], schema: _Schema, file: Path, prefix: str) -> None:
    for key, (fits, wanted) in schema.items():
        if key not in table:
            raise ValueError(
                f"{file}: key {prefix}{key} is missing; wanted {wanted}; export the bundle again"
            )
        if not fits(table[key]):
            raise ValueError(
                f"{file}: {prefix}{key} is {table[key]!r}; wanted {wanted}; export the bundle again"
            )


def _check_files(manifest: Mapping[str, Any], needed: Sequence[str], folder: Path) -> None:
    files = manifest["files"]
    absent = [name for name in needed if name not in files]
    if absent:
        raise ValueError(
            f"{folder}: input.kind '{manifest['input']['kind']}' needs {', '.join(absent)}, which the manifest "
            "does not list; export the bundle again"
        )
    for name, digest in files.items():
        path = folder / name
        if path.name != name:
            raise ValueError(
                f"{folder}: the manifest names the file {name!r}; wanted plain names inside the folder"
            )
        if not path.is_file():
            raise ValueError(
                f"{folder}: {name} is missing; copy the whole folder, or export the bundle again"
            )
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise ValueError(
                f"{path}: sha256 is {found[:12]}..., the manifest says {str(digest)[:12]}...; the file was changed "
                "after the export or is damaged: copy or export the bundle again"
            )

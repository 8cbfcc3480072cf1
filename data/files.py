"""Real data sets by name: where they come from, under which terms, and whether the files at hand are whole.

None of the files is shipped, and none has a public address: they are tidy conversions of sets whose terms often do
not allow handing them on. `get_set` therefore takes them from a folder or from a mirror of your own, and trusts
neither: every file must have its sha256.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import platformdirs

from .battery.schema import near
from .sets import SETS, DataFile, DataSet

ENVIRONMENT = "REMEM_DATA"
PathLike = str | Path
_CHUNK = 1 << 20


def data_root(root: PathLike | None = None) -> Path:
    """Where data lie: `root`, else the folder that REMEM_DATA names, else the user's cache folder."""
    chosen = root or os.environ.get(ENVIRONMENT)
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("remem") / "data"


def find(name: str, root: PathLike | None = None) -> Path | None:
    """Folder that holds the set `name`, or None.

    Looks in `root` where it is given, else in REMEM_DATA and then in the cache; in the set's own folder under each
    (`battery`), or in the folder itself. Sizes are compared, contents are not: see `check_set`.

    Raises:
        ValueError: no set has this name.
    """
    entry = _entry(name)
    roots = [data_root(root)] if root else [data_root(), platformdirs.user_cache_path("remem") / "data"]
    for place in roots:
        for folder in (place / entry.folder, place):
            needed = [file for file in entry.files if not file.optional]
            if all(_size(folder / file.name) == file.bytes for file in needed):
                return folder
    return None


def list_sets(root: PathLike | None = None) -> list[dict[str, str]]:
    """One row per set: name, title, megabytes, licence, upstream, cite, and the folder where it was found, or ''."""
    rows = []
    for name, entry in SETS.items():
        size = sum(file.bytes for file in entry.files) / 1e6
        rows.append(
            {
                "name": name,
                "title": entry.title,
                "megabytes": f"{size:.1f}",
                "licence": entry.licence,
                "upstream": entry.upstream,
                "cite": entry.cite,
                "found": str(find(name, root) or ""),
            }
        )
    return rows


def check_set(name: str, root: PathLike | None = None) -> list[dict[str, str]]:
    """One row per file of a set: file, state ("ok", "missing", "damaged"), path, and what to do where it is not ok.

    Every byte is read. An optional file that is missing has the state "absent", which is no fault.

    Raises:
        ValueError: no set has this name.
    """
    entry = _entry(name)
    folder = find(name, root) or data_root(root) / entry.folder
    rows = []
    for file in entry.files:
        path = folder / file.name
        state, remedy = "ok", ""
        if not path.exists():
            state = "absent" if file.optional else "missing"
            remedy = f"remem data get {name} --from FOLDER"
        elif (got := sha256(path)) != file.sha256:
            state = "damaged"
            remedy = f"sha256 is {got}, wanted {file.sha256}; remem data get {name} --from FOLDER"
        rows.append({"file": file.name, "state": state, "path": str(path), "remedy": remedy})
    return rows


def get_set(name: str, *, source: str | None = None, root: PathLike | None = None) -> list[dict[str, str]]:
    """Bring the files of a set under the data root, each complete and with its checksum or not at all.

    Files that are there and whole are kept, so an interrupted call is resumed by calling again; an interrupted
    download goes on where it stopped.

    Args:
        source: folder that holds the files (or holds them in `battery`), or the http(s) address of such a folder.
        root: where to put them; default as `data_root`.

    Returns:
        One row per file: file, action ("kept", "copied", "downloaded", "absent"), path.

    Raises:
        ValueError: no such set; no source and the set is not there (the message says where it comes from and under
            which terms); a file is missing in the source or has another checksum; the address cannot be reached.
    """
    entry = _entry(name)
    folder = find(name, root) or data_root(root) / entry.folder
    rows = []
    for file in entry.files:
        path = folder / file.name
        if path.exists() and sha256(path) == file.sha256:
            action = "kept"
        elif source is None:
            if file.optional:
                action = "absent"
            else:
                raise ValueError(_how_to_get(name, entry, data_root(root)))
        elif source.startswith(("http://", "https://")):
            _download(f"{source.rstrip('/')}/{file.name}", file, path)
            action = "downloaded"
        else:
            action = _copy(Path(source).expanduser(), entry, file, path)
        rows.append({"file": file.name, "action": action, "path": str(path)})
    return rows


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _entry(name: str) -> DataSet:
    if name not in SETS:
        raise ValueError(f"data set {near(name, SETS)}: no such set; there are {', '.join(SETS)}")
    return SETS[name]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _how_to_get(name: str, entry: DataSet, root: Path) -> str:
    files = ", ".join(file.name for file in entry.files)
    return (
        f"data set {name} is not under {root}, and its files have no public address to fetch them from. Upstream: "
        f"{entry.upstream}. Licence: {entry.licence}. Cite: {entry.cite}. Wanted: {files}; give a folder that has "
        f"them with --from FOLDER (or the http address of your own mirror), or point REMEM_DATA at it"
    )


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file beside `path` that takes its place when the block ends well, and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(name, 0o644)  # mkstemp makes files that only their owner reads
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _copy(source: Path, entry: DataSet, file: DataFile, path: Path) -> str:
    places = [source / file.name, source / entry.folder / file.name]
    origin = next((place for place in places if place.is_file()), None)
    if origin is None:
        if file.optional:
            return "absent"
        there = [p.name for p in source.iterdir()] if source.is_dir() else []
        raise ValueError(
            f"{source}: {near(file.name, there)} is neither there nor in {entry.folder}/; wanted it for this set; "
            "check the folder"
        )
    if (got := sha256(origin)) != file.sha256:
        raise ValueError(
            f"{origin}: sha256 is {got}; wanted {file.sha256}; the file is damaged or another version; "
            "nothing was copied"
        )
    with origin.open("rb") as reader, atomic(path) as writer:
        shutil.copyfileobj(reader, writer, _CHUNK)
    return "copied"


def _download(url: str, file: DataFile, path: Path) -> None:
    import pooch  # noqa: PLC0415  (it loads requests, which every start of the command line would pay for)
    import requests  # noqa: PLC0415

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        pooch.retrieve(
            url,
            known_hash=f"sha256:{file.sha256}",
            fname=path.name,
            path=path.parent,
            downloader=_Resuming(part),
        )
    except requests.RequestException as error:
        raise ValueError(
            f"{url}: cannot be fetched ({type(error).__name__}: {str(error)[:120]}); are you offline? What has come is "
            "kept and the next call goes on from there; or use --from FOLDER"
        ) from error
    except ValueError as error:  # pooch: another checksum
        part.unlink(missing_ok=True)
        raise ValueError(
            f"{url}: its sha256 is not {file.sha256}; the mirror holds another version; nothing was kept"
        ) from error
    part.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Resuming:
    """A pooch downloader that keeps what has come in `part` and asks the server for the rest."""

    part: Path

    def __call__(self, url: str, output_file: PathLike, _pooch: Any, check_only: bool = False) -> None:
        import requests  # noqa: PLC0415

        have = max(_size(self.part), 0)
        headers = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(url, headers=headers, stream=True, timeout=30) as reply:
            if reply.status_code == requests.codes.requested_range_not_satisfiable:
                reply.close()  # all of it has come already: the checksum will tell
            else:
                reply.raise_for_status()
                mode = "ab" if reply.status_code == requests.codes.partial_content else "wb"
                with self.part.open(mode) as file:
                    for chunk in reply.iter_content(_CHUNK):
                        file.write(chunk)
        shutil.copyfile(self.part, output_file)

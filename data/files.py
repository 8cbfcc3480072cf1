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

ENVIRONMENT = "REMEM_DATA"
PathLike = str | Path
_CHUNK = 1 << 20


@dataclass(frozen=True)
class DataFile:
    """One file of a set. optional: models can be trained without it."""

    name: str
    bytes: int
    sha256: str
    optional: bool = False


@dataclass(frozen=True)
class DataSet:
    """folder: where its files lie under the data root; upstream: where the set comes from; cite: whom to cite."""

    title: str
    folder: str
    files: tuple[DataFile, ...]
    licence: str
    upstream: str
    cite: str


SETS: dict[str, DataSet] = {
    "severson": DataSet(
        "Severson et al. 2019: 41 training and 43 primary test LFP cells, Q(V) of cycles 2 to 100, cycle life",
        "battery",
        (
            DataFile(
                "severson_qv_train.parquet",
                5718344,
                "11ddd50fa63e5478176674c1d605f273fbb49604801f05496116ecf35ef18591",
            ),
            DataFile(
                "severson_qv_test1.parquet",
                6028320,
                "ac6457bea822838c0c8c4432542bdcc5d8bf8712c4dda12a2e1cbed79f9ecb84",
                optional=True,
            ),
            DataFile(
                "severson_cells.csv",
                5728,
                "c383403fd764e6c75b1f10062ceac927e7f1aec4cf3c5a5fb37d64077e41f25c",
                optional=True,
            ),
        ),
        "MIT (stated by the re-analysis; that of the raw data was not seen at its source)",
        "https://github.com/petermattia/revisit-severson-et-al, folder data; its csv folders train, test1 and test2 "
        "are read as they are by every command that takes files",
        "K. A. Severson et al., Nature Energy 4, 383 (2019); P. M. Attia et al., J. Electrochem. Soc. (2021), "
        "doi 10.1149/1945-7111/ac2704",
    ),
    "hust": DataSet(
        "HUST: 57 LFP cells, 16 charge statistics and the capacity of every cycle to 80 %",
        "battery",
        (
            DataFile(
                "hust_percycle.parquet",
                4125853,
                "e7e32eff1e1d5bc50ea3f096482232840a9565e1363d8bab0198ca55280256e2",
            ),
        ),
        "none stated by the conversion; raw data: Mendeley Data nsc7hnsg4s (terms there not checked)",
        "https://github.com/wang-fujin/PINN4SOH, folder data",
        "G. Ma et al., Energy Environ. Sci. (2022), doi 10.1039/D2EE01676A; F. Wang et al., Nature Communications "
        "15, 4332 (2024)",
    ),
    "xjtu": DataSet(
        "XJTU: 42 NCM cells under six strategies, 16 charge statistics and the capacity of every cycle to 80 %",
        "battery",
        (
            DataFile(
                "xjtu_percycle.parquet",
                678840,
                "9264d08793003fdc20110828d010736d5bd9c7cc84001029031b19b5e4c42d34",
            ),
        ),
        "none stated by the conversion; raw data: Zenodo 10963339 (terms there not checked)",
        "https://github.com/wang-fujin/PINN4SOH, folder data",
        "F. Wang et al., Nature Communications 15, 4332 (2024)",
    ),
    "tongji": DataSet(
        "Tongji: 130 NCA, NCM and blend cells, 16 charge statistics and the capacity of every cycle",
        "battery",
        (
            DataFile(
                "tju_percycle.parquet",
                2370094,
                "1d8c91554ae9b2d0799eaae62acdfee9a307c0b93f0f2bf644195b0e63aecc9e",
            ),
        ),
        "none stated by the conversion; raw data: Zenodo 6405084 (terms there not checked)",
        "https://github.com/wang-fujin/PINN4SOH, folder data",
        "J. Zhu et al., Nature Communications 13, 2261 (2022); F. Wang et al., Nature Communications 15, 4332 (2024)",
    ),
    "nasa": DataSet(
        "NASA PCoE: capacities of 34 18650 cells, discharges of B0005, B0006, B0007 and B0018",
        "battery",
        (
            DataFile(
                "nasa_capacity.parquet",
                19756,
                "1787b336bd7c176c4dd5490feadf3e047c4ecb8a4e2579c293798f15b101dac3",
            ),
            DataFile(
                "nasa_discharge_curves.parquet",
                1706328,
                "b916e34b8ce4cc718e0d2dc996e9794b222e3652c6b2332d953631ae9d768dda",
                optional=True,
            ),
        ),
        "work of a US government agency; none stated by the csv conversion",
        "NASA Prognostics Center of Excellence Data Set Repository, data set 5 'Batteries'",
        "B. Saha, K. Goebel (2007), Battery Data Set, NASA Ames Research Center",
    ),
    "calce": DataSet(
        "CALCE CS2: four LCO cells run far past their end of life, every cycle and its curves",
        "battery",
        (
            DataFile(
                "calce_cs2_cycles.parquet",
                85931,
                "550176476e80e25acde717dd73e2fced2cf26b3b33749941c8910b1fddb9bfe3",
            ),
            DataFile(
                "calce_cs2_curves.parquet",
                3799478,
                "a6467a234ac328f8c638f388445235c3ae57257996a5b16b9f07b2d7b399afaa",
                optional=True,
            ),
        ),
        "'open access' by its makers, who ask to be cited",
        "CALCE Battery Research Group, University of Maryland, calce.umd.edu (battery data)",
        "W. He et al., J. Power Sources 196, 10314 (2011); Y. Xing et al., Microelectronics Reliability 53, 811 (2013)",
    ),
}


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
def _atomic(path: Path) -> Iterator[IO[bytes]]:
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
    with origin.open("rb") as reader, _atomic(path) as writer:
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

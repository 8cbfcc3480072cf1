"""The registry of real sets: found, checked and brought in whole or not at all."""

from __future__ import annotations

import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from remem.data import files
from remem.data.files import DataFile, DataSet, check_set, data_root, find, get_set, list_sets

CONTENT = {"a.parquet": os.urandom(3_000_000), "b.csv": b"optional"}


@pytest.fixture(autouse=True)
def _small_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One set of two small files, and no data of the machine the tests run on."""
    entries = tuple(
        DataFile(name, len(data), hashlib.sha256(data).hexdigest(), optional=name == "b.csv")
        for name, data in CONTENT.items()
    )
    small = DataSet(
        "A small set", "battery", entries, "MIT", "a repository of its makers", "A. Nobody (2020)"
    )
    monkeypatch.setattr(files, "SETS", {"small": small})
    monkeypatch.setattr(files.platformdirs, "user_cache_path", lambda _: tmp_path / "cache")
    monkeypatch.delenv("REMEM_DATA", raising=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "battery").mkdir(parents=True)
    for name, data in CONTENT.items():
        (folder / "battery" / name).write_bytes(data)
    return folder


@pytest.fixture
def mirror(source: Path) -> Iterator[tuple[str, list[str | None]]]:
    """A server of the source folder that honours Range, and the Range headers it has seen."""
    seen: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            seen.append(wanted)
            data = (source / "battery" / Path(self.path).name).read_bytes()
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            if start >= len(data):
                self.send_response(416)
                self.end_headers()
                return
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start:])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


def test_where_data_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert data_root() == tmp_path / "cache" / "data"
    monkeypatch.setenv("REMEM_DATA", str(tmp_path / "env"))
    assert data_root() == tmp_path / "env"
    assert data_root(tmp_path / "given") == tmp_path / "given"


def test_find_goes_root_then_environment_then_cache(
    source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert find("small") is None
    assert find("small", source) == source / "battery"
    assert find("small", source / "battery") == source / "battery"
    monkeypatch.setenv("REMEM_DATA", str(source))
    assert find("small") == source / "battery"
    assert find("small", tmp_path) is None  # a root that is given is the only one looked at
    monkeypatch.setenv("REMEM_DATA", str(tmp_path))
    get_set("small", source=str(source), root=tmp_path / "cache" / "data")
    assert find("small") == tmp_path / "cache" / "data" / "battery"


def test_a_cut_file_is_not_found(source: Path) -> None:
    path = source / "battery" / "a.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert find("small", source) is None


def test_list(source: Path) -> None:
    (row,) = list_sets(source)
    assert row["found"] == str(source / "battery")
    assert (row["name"], row["licence"], row["megabytes"]) == ("small", "MIT", "3.0")
    assert list_sets()[0]["found"] == ""


def test_check_reads_every_byte(source: Path) -> None:
    assert [row["state"] for row in check_set("small", source)] == ["ok", "ok"]
    path = source / "battery" / "a.parquet"
    data = bytearray(path.read_bytes())
    data[1234] ^= 1
    path.write_bytes(data)
    (source / "battery" / "b.csv").unlink()
    damaged, absent = check_set("small", source)
    assert damaged["state"] == "damaged"
    assert "remem data get small" in damaged["remedy"]
    assert absent["state"] == "absent"
    path.unlink()
    assert check_set("small", source)[0]["state"] == "missing"


def test_get_from_a_folder_then_keeps(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert [row["action"] for row in get_set("small", source=str(source), root=root)] == ["copied", "copied"]
    assert [row["state"] for row in check_set("small", root)] == ["ok", "ok"]
    assert [row["action"] for row in get_set("small", root=root)] == ["kept", "kept"]
    (root / "battery" / "a.parquet").write_bytes(b"half a file")
    again = get_set("small", source=str(source / "battery"), root=root)
    assert [row["action"] for row in again] == ["copied", "kept"]


def test_a_damaged_source_copies_nothing(source: Path, tmp_path: Path) -> None:
    (source / "battery" / "a.parquet").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"a\.parquet: sha256 is .* wanted .* nothing was copied"):
        get_set("small", source=str(source), root=tmp_path / "root")
    assert not list((tmp_path / "root").rglob("*.*"))


def test_a_failed_copy_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(files.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="no space"):
        get_set("small", source=str(source), root=tmp_path / "root")
    assert [p for p in (tmp_path / "root").rglob("*") if p.is_file()] == []


def test_without_a_source_the_way_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no public address.*Upstream: a repository.*MIT.*--from FOLDER"):
        get_set("small", root=tmp_path)
    with pytest.raises(ValueError, match=r"a\.parquet' is neither there nor in battery/"):
        get_set("small", source=str(tmp_path), root=tmp_path)
    with pytest.raises(ValueError, match=r"'smal' \(near: 'small'\)"):
        get_set("smal", root=tmp_path)


def test_get_from_a_mirror(mirror: tuple[str, list[str | None]], tmp_path: Path) -> None:
    address, seen = mirror
    rows = get_set("small", source=address, root=tmp_path / "root")
    assert [row["action"] for row in rows] == ["downloaded", "downloaded"]
    assert [row["state"] for row in check_set("small", tmp_path / "root")] == ["ok", "ok"]
    assert seen == [None, None]
    assert sorted(p.name for p in (tmp_path / "root" / "battery").iterdir()) == sorted(CONTENT)


@pytest.mark.parametrize("have", [1_000_000, 3_000_000])
def test_an_interrupted_download_goes_on(
    mirror: tuple[str, list[str | None]], tmp_path: Path, have: int
) -> None:
    address, seen = mirror
    part = tmp_path / "root" / "battery" / "a.parquet.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT["a.parquet"][:have])
    get_set("small", source=address, root=tmp_path / "root")
    assert seen[0] == f"bytes={have}-"
    assert check_set("small", tmp_path / "root")[0]["state"] == "ok"
    assert not part.exists()


def test_a_mirror_with_another_file_is_refused(
    mirror: tuple[str, list[str | None]], source: Path, tmp_path: Path
) -> None:
    (source / "battery" / "a.parquet").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"its sha256 is not .*; the mirror holds another version"):
        get_set("small", source=mirror[0], root=tmp_path / "root")
    assert [p for p in (tmp_path / "root").rglob("*") if p.is_file()] == []


def test_offline_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be fetched.*are you offline.*--from FOLDER"):
        get_set("small", source="http://127.0.0.1:9", root=tmp_path / "root")

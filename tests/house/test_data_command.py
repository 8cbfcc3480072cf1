"""`remem data`: rows on stdout, remedies on stderr, exit codes that a script can trust."""

import hashlib
import json

import pytest

from remem.apps.cli import main
from remem.data import files


@pytest.fixture
def one_set(monkeypatch, tmp_path):
    """The only set that there is, whole under tmp_path/source."""
    content = b"cell_id,cycle\n"
    entry = files.DataFile("cells.csv", len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(
        files, "SETS", {"tiny": files.DataSet("Tiny", "battery", (entry,), "none", "here", "nobody")}
    )
    monkeypatch.setenv("REMEM_DATA", str(tmp_path / "root"))
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "cells.csv").write_bytes(content)
    return tmp_path


def run(capsys, *argv):
    code = main(["data", *map(str, argv)])
    return code, *capsys.readouterr()


def test_get_then_check(one_set, capsys):
    code, out, _ = run(capsys, "get", "tiny", "--from", one_set / "source", "--json")
    assert (code, json.loads(out)[0]["action"]) == (0, "copied")
    code, out, _ = run(capsys, "get", "tiny", "--json")
    assert (code, json.loads(out)[0]["action"]) == (0, "kept")
    code, out, _ = run(capsys, "check")
    assert code == 0
    assert "cells.csv" in out


def test_damage_is_found_and_told(one_set, capsys):
    run(capsys, "get", "tiny", "--from", one_set / "source")
    (one_set / "root" / "battery" / "cells.csv").write_bytes(b"cell_id,cycle\r")
    code, out, err = run(capsys, "check", "tiny", "--json")
    assert code == 1
    assert json.loads(out)[0]["state"] == "damaged"
    assert "remem data get tiny" in err


def test_missing_without_a_source_says_where_it_comes_from(one_set, capsys):
    code, out, err = run(capsys, "get", "tiny")
    assert (code, out) == (1, "")
    assert "--from" in err


def test_nothing_to_check_is_a_failure(one_set, capsys):
    code, out, err = run(capsys, "check")
    assert (code, out) == (1, "")
    assert "remem data list" in err


def test_list_says_what_was_found(one_set, capsys):
    assert json.loads(run(capsys, "list", "--json")[1])[0]["found"] == ""
    run(capsys, "get", "tiny", "--from", one_set / "source")
    code, out, _ = run(capsys, "list")
    assert code == 0
    assert str(one_set / "root" / "battery") in out

"""The front of the command line: exit codes, near names, one-line errors."""

import json
import sys
from importlib.util import find_spec
from types import ModuleType

import pytest

from remem.apps import cli
from remem.apps.commands import bench


@pytest.fixture
def command(monkeypatch):
    """Registers a function as the command `probe`."""

    def register(function):
        monkeypatch.setitem(cli.COMMANDS, "probe", (".probe", "a probe"))
        monkeypatch.setattr(
            cli, "import_module", lambda name, package: type("M", (), {"main": staticmethod(function)})
        )

    return register


def test_help_names_every_command_on_stdout(capsys):
    assert cli.main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert all(f"\n  {name} " in out for name in cli.COMMANDS)
    assert err == ""


def test_no_command_is_wrong_usage_and_leaves_stdout_empty(capsys):
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: remem" in err


@pytest.mark.parametrize(
    ("typed", "meant"), [("predic", "predict"), ("steam", "stream"), ("eval", "evaluate")]
)
def test_unknown_command_names_the_near_one(typed, meant, capsys):
    assert cli.main([typed]) == 2
    assert meant in capsys.readouterr().err


def test_arguments_and_exit_code_pass_through(command):
    seen = []

    def main(argv):
        seen.append(list(argv))
        return 7

    command(main)
    assert cli.main(["probe", "a", "--b", "-h"]) == 7
    assert seen == [["a", "--b", "-h"]]


@pytest.mark.parametrize(
    "error", [ValueError("cells.csv: no rows; give some"), FileNotFoundError(2, "No such file", "x.csv")]
)
def test_failure_is_one_line_on_stderr(error, command, capsys, monkeypatch):
    monkeypatch.delenv("REMEM_DEBUG", raising=False)

    def main(argv):
        raise error

    command(main)
    assert cli.main(["probe"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"remem probe: {error}\n"


def test_debug_shows_the_traceback(command, monkeypatch):
    monkeypatch.setenv("REMEM_DEBUG", "1")

    def main(argv):
        raise ValueError("inner")

    command(main)
    with pytest.raises(ValueError, match="inner"):
        cli.main(["probe"])


def test_programming_errors_are_not_hidden(command, monkeypatch):
    monkeypatch.delenv("REMEM_DEBUG", raising=False)

    def main(argv):
        raise KeyError("bug")

    command(main)
    with pytest.raises(KeyError):
        cli.main(["probe"])


def test_interrupt_is_130(command, capsys):
    def main(argv):
        raise KeyboardInterrupt

    command(main)
    assert cli.main(["probe"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["predict", "evaluate", "stream", "export", "bench"])
def test_wrong_usage_is_2(name):
    with pytest.raises(SystemExit) as stop:
        cli.main([name])
    assert stop.value.code == 2


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_its_file(name):
    assert find_spec(cli.COMMANDS[name][0].partition(":")[0], "remem.apps") is not None


@pytest.fixture
def a_bench(monkeypatch):
    """The only benchmark there is: it tells what it was asked."""
    module = ModuleType("remem.apps.a_bench")
    row = {"model": "mean", "rmse": 321.5}
    module.rows = lambda *, seeds, root, quick: [row | {"seeds": seeds, "root": root, "quick": quick}]
    monkeypatch.setitem(sys.modules, "remem.apps.a_bench", module)
    monkeypatch.setattr(bench, "BENCHES", {"tiny": ("..a_bench", "rows", "a tiny table")})


def test_bench_prints_rows_for_machines_and_for_people(a_bench, capsys):
    assert cli.main(["bench", "tiny", "--json", "--quick", "--seeds", "2", "--data.root", "somewhere"]) == 0
    out, err = capsys.readouterr()
    wanted = {"model": "mean", "rmse": 321.5, "seeds": 2, "root": "somewhere", "quick": True}
    assert json.loads(out) == [wanted]
    assert "tiny" in err
    assert cli.main(["bench", "tiny"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["model", "rmse", "seeds", "root", "quick"]
    assert out[2].split() == ["mean", "322", "5", "False"]


@pytest.mark.parametrize("argv", [["huge"], ["tiny", "--seeds", "0"]])
def test_bench_refuses_what_it_does_not_know(argv, a_bench):
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", *argv])
    assert stop.value.code == 2

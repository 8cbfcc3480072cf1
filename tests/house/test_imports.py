"""What is loaded when: in fresh processes, since pytest itself has loaded half of it."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "lightning", "sklearn", "xgboost", "matplotlib")


def loaded_by(code: str, *watched: str) -> set[str]:
    """Which of the `watched` top-level modules a fresh Python has loaded after `code`."""
    script = f"import sys\n{code}\nprint('LOADED', *({set(watched)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("LOADED")[2].split())


@pytest.mark.parametrize("module", ["remem", "remem.serving", "remem.data.battery.readers", "remem.apps.cli"])
def test_import_loads_nothing_heavy(module):
    assert loaded_by(f"import {module}", *HEAVY) == set()


def test_lazy_names_are_listed_and_unknown_ones_refused():
    import remem

    assert "BatteryRULRegressor" in dir(remem)
    with pytest.raises(AttributeError, match="BatteryRULRegressor"):
        remem.NoSuchName  # noqa: B018


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["no-such-command"]])
def test_front_of_the_command_line_loads_nothing(argv):
    watched = (*HEAVY, "polars", "numpy", "onnxruntime", "rich")
    assert loaded_by(f"from remem.apps.cli import main\nmain({argv!r})", *watched) == set()


@pytest.mark.parametrize("command", ["predict", "evaluate", "stream", "data", "bench", "export"])
def test_help_of_commands_loads_no_training_stack(command):
    run = f"from remem.apps.cli import main\ntry:\n    main([{command!r}, '--help'])\nexcept SystemExit: pass"
    assert loaded_by(run, "torch", "lightning") == set()


def test_import_directions():
    gate = Path(sys.executable).with_name("lint-imports")
    if not gate.exists():
        pytest.skip("import-linter is not installed (extra: dev)")
    root = Path(__file__).parents[2]
    done = subprocess.run([str(gate), "--no-cache"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout

"""The commands in the docstring of examples/own_layer.py, as they stand there, on little data."""

from __future__ import annotations

import importlib.util
import json
import shlex
from pathlib import Path

import polars as pl
import pytest

from remem.apps import cli
from remem.apps.module import load_checkpoint
from remem.data.battery.simulate import simulate_curves
from remem.data.tracing.simulate import simulate_log

EXAMPLES = Path(__file__).parents[2] / "examples"
TITLES = {
    "battery": "LeakyMean",
    "tracing": "LeakyMean",
    "hull": "pointer network, SetAttention to LeakyMean",
}
SMALL = {
    "battery": (
        "--data.path=cells.parquet",
        "--data.max_cycle=40",
        "--model.calibration_folds=5",
        "--model.confidence=0.8",
        "--trainer.max_epochs=2",
        "--model.layer.init_args.span=30",
    ),
    "tracing": ("--data.path=log.csv", "--model.trees=false", "--model.d_model=8", "--trainer.max_epochs=1"),
    "hull": (
        "--data.instances=20",
        "--data.sizes=[5,7]",
        "--data.valid_sizes=[5]",
        "--data.valid_instances=4",
        "--data.steps=2",
        "--model.d_model=8",
        "--model.num_layers=1",
        "--trainer.max_epochs=1",
    ),
}


def commands() -> list[list[str]]:
    """The lines of the docstring that call remem, in words."""
    spec = importlib.util.spec_from_file_location("own_layer_for_its_text", EXAMPLES / "own_layer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lines = [line.strip() for line in (module.__doc__ or "").splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("remem ")]


COMMANDS = commands()


def test_the_example_trains_in_every_app() -> None:
    assert [command[0] for command in COMMANDS] == list(SMALL)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_a_layer_outside_the_package_is_fitted_exported_and_named(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.delenv("REMEM_DATA", raising=False)
    simulate_curves(16, seed=2, max_cycle=40).write_parquet("cells.parquet")
    log = simulate_log(30, 20, 4, seed=2, answers=(10, 20)).drop("p_true", "fold")
    log.with_columns(pl.col("concepts").list.join(";")).write_csv("log.csv")

    small = [*SMALL[command[0]], "--trainer.enable_progress_bar=false", "--out=run"]
    assert cli.main([*command, *small]) == 0
    title = TITLES[command[0]]
    assert title in capsys.readouterr().out
    assert title in {row["model"] for row in json.loads(Path("run/metrics.json").read_text())["rows"]}
    manifest = json.loads(Path("run/bundle/manifest.json").read_text())
    again = load_checkpoint("run/model.ckpt")
    spans = {layer.span for layer in again.modules() if type(layer).__name__ == "LeakyMean"}
    assert spans == {30.0 if command[0] == "battery" else 10.0}
    state = {tensor["name"].split(".")[-1] for tensor in manifest["state"]}
    assert command[0] == "hull" or {"m", "u", "w"} <= state

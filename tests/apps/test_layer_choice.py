"""Every layer of remem.core by class path and options in every app: parsed as on the command line, trained a step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from remem.apps.battery import cli as battery_cli
from remem.apps.battery.data import BatteryData
from remem.apps.geometry.cli import with_config as geometry_config
from remem.apps.geometry.data import GeometryData, labelled
from remem.apps.geometry.pointer_module import PointerModule
from remem.apps.module import TaskModule
from remem.apps.tracing.cli import with_config as tracing_config
from remem.apps.tracing.data import TracingData
from remem.apps.training import TrainingCLI, quiet
from remem.core.blocks import Block
from remem.data.battery.early_sequence import early_sequences
from remem.data.battery.online import label_rul, online_sequences
from remem.data.battery.simulate import simulate_curves, simulate_cycles
from remem.data.tracing.simulate import simulate_log
from remem.serving.geometry.hulls import HullPredictor
from remem.serving.geometry.plane import to_unit

Parse = Callable[..., Any]

SEQUENCE: dict[str, dict[str, object]] = {
    "CausalAttention": {"num_heads": 2, "window": 8},
    "LSTM": {},
    "LSTMAttention": {"num_heads": 2},
    "Aaren": {"num_heads": 2, "decay": True},
    "LinearAttention": {"num_heads": 2, "num_features": 4},
    "Based": {"num_heads": 2, "window": 4},
    "LandmarkAttention": {"block_size": 4, "budget": 3, "top_k": 1},
    "RoutingAttention": {"num_clusters": 3, "budget": 5, "assign": "threshold"},
    "MemoryAsContext": {"segment": 4, "rule": "delta"},
    "MemoryAsGate": {"window": 4, "net": "mlp"},
    "MemoryAsLayer": {"window": 4, "num_persistent": 2},
} | {
    f"Memory {rule}": {"rule": rule, "num_heads": 2}
    for rule in ("delta", "gated_delta", "titans", "yaad", "moneta", "memora")
}
SETS: dict[str, dict[str, object]] = {
    "SetAttention": {"num_heads": 2},
    "RoutingSetAttention": {"num_clusters": 2},
}


def parser(
    data: type, complete: Callable[[list[str]], list[str]], words: list[str], patch: pytest.MonkeyPatch
) -> Parse:
    """What makes the module of a command line, without the rest of the command."""
    quiet()
    patch.setattr(TrainingCLI, "_run_subcommand", lambda *_: None)
    made = TrainingCLI(
        TaskModule,
        data,
        args=complete(["fit", *words]),
        subclass_mode_model=True,
        save_config_callback=None,
        seed_everything_default=0,
    )

    def parse(*more: str) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = made.parser.parse_args(complete(["fit", *words, *more]))
            return made.parser.instantiate_classes(config).fit.model

    return parse


@pytest.fixture(scope="module")
def patch() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def early(patch: pytest.MonkeyPatch) -> Parse:
    words = ["--model.layer=remem.core.Aaren", "--model.d_model=8", "--data.max_cycle=20"]
    return parser(BatteryData, battery_cli.with_config, words, patch)


@pytest.fixture(scope="module")
def online(patch: pytest.MonkeyPatch) -> Parse:
    words = ["--data.task=online", "--model.num_layers=1", "--model.d_model=8"]
    return parser(BatteryData, battery_cli.with_config, words, patch)


@pytest.fixture(scope="module")
def tracing(patch: pytest.MonkeyPatch) -> Parse:
    return parser(TracingData, tracing_config, ["--model.d_model=8"], patch)


@pytest.fixture(scope="module")
def hull(patch: pytest.MonkeyPatch) -> Parse:
    def complete(words: list[str]) -> list[str]:
        return geometry_config("hull", words)

    pointers = f"--model={PointerModule.__module__}.PointerModule"
    small = ["--model.task=hull", "--model.d_model=8", "--model.num_layers=1"]
    return parser(GeometryData, complete, [pointers, *small], patch)


@pytest.fixture(scope="module")
def early_cells() -> Any:
    return early_sequences(simulate_curves(6, seed=5, max_cycle=20), max_cycle=20)


@pytest.fixture(scope="module")
def online_cells() -> Any:
    return online_sequences(
        label_rul(simulate_cycles(3, seed=5, life=(60, 90)), nominal_capacity_ah=1.1).frame
    )


@pytest.fixture(scope="module")
def log() -> Any:
    return simulate_log(12, 10, 3, seed=3, answers=(5, 12)).drop("p_true")


@pytest.fixture(scope="module")
def points() -> dict[str, torch.Tensor]:
    random = np.random.default_rng(0)
    pool = labelled("hull", [random.random((7, 2)) for _ in range(4)])
    return {"x": torch.from_numpy(pool.x), "label": torch.from_numpy(pool.label)}


def kind(name: str) -> str:
    return name.split(maxsplit=1)[0]


def spelled(key: str, name: str, options: dict[str, object]) -> list[str]:
    path = f"--model.{key}=remem.core.{kind(name)}"
    return [path, *(f"--model.{key}.init_args.{option}={value}" for option, value in options.items())]


def check_chosen(layer: Any, name: str, options: dict[str, object]) -> None:
    """Of the class, and with the options that it keeps under their name."""
    assert type(layer).__name__ == kind(name)
    kept = {option: getattr(layer, option) for option in options if hasattr(layer, option)}
    kept = {option: value for option, value in kept.items() if not isinstance(value, nn.Module | None)}
    assert kept == {option: options[option] for option in kept}


def trained_a_step(module: Any, layer: nn.Module, batch: Any) -> None:
    """Gradients reach the layer, and the loss stays a number."""
    module.train()
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1e-3)
    loss = module.loss(batch)
    loss.backward()
    gradients = [p.grad for p in layer.parameters()]
    assert any(g is not None for g in gradients)
    assert all(torch.isfinite(g).all() for g in gradients if g is not None)
    optimizer.step()
    assert torch.isfinite(module.loss(batch))


@pytest.mark.parametrize("name", SEQUENCE)
def test_battery(name: str, early: Parse, online: Parse, early_cells: Any, online_cells: Any) -> None:
    for parse, cells in ((early, early_cells), (online, online_cells)):
        module = parse(*spelled("layer", name, SEQUENCE[name]))
        layer = module.model.blocks[0].layer
        check_chosen(layer, name, SEQUENCE[name])
        assert kind(name) in module.title
        sequences = cells if parse is early else module.encode(cells)
        module.prepare(sequences)
        trained_a_step(module, layer, next(iter(module.loader(sequences, seed=0))))


@pytest.mark.parametrize("name", SEQUENCE)
def test_tracing(name: str, tracing: Parse, log: Any) -> None:
    module = tracing(*spelled("layer", name, SEQUENCE[name]))
    featured = module.prepare(log, seed=0)
    assert kind(name) in module.title
    (layer,) = [block.layer for block in module.network.modules() if isinstance(block, Block)]
    check_chosen(layer, name, SEQUENCE[name])
    trained_a_step(module, layer, featured.batch(featured.pieces(8)))


@pytest.mark.parametrize("name", [*SEQUENCE, *SETS])
def test_encoders_of_points(name: str, hull: Parse, points: dict[str, torch.Tensor]) -> None:
    options = (SEQUENCE | SETS)[name]
    module = hull(*spelled("encoder", name, options))
    layer = module.network.encoder[0].layer
    check_chosen(layer, name, options)
    assert module.title == f"pointer network, {kind(name)} to LSTM"
    trained_a_step(module, layer, points)
    assert (module.eval()(points["x"]) < 7).all()


@pytest.mark.parametrize("name", SEQUENCE)
def test_decoders(name: str, hull: Parse, points: dict[str, torch.Tensor]) -> None:
    module = hull(*spelled("decoder", name, SEQUENCE[name]))
    assert module.title == f"pointer network, SetAttention to {kind(name)}"
    trained_a_step(module, module.network.decoder.layer, points)


@pytest.mark.parametrize("name", ["MemoryAsGate", "RoutingSetAttention"])
def test_encoders_leave_in_the_graph_of_the_answer(name: str, hull: Parse, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = hull(*spelled("encoder", name, (SEQUENCE | SETS)[name])).eval()
    module.write_bundle(tmp_path / "bundle")
    predictor = HullPredictor(tmp_path / "bundle", device="cpu", threads=1)
    random = np.random.default_rng(0)
    xy = to_unit(random.random((30, 2)))
    (one,) = predictor.answer([xy])
    answer = module(torch.from_numpy(xy[None].astype(np.float32)))[0]
    assert one.proposed.tolist() == answer[answer >= 0].tolist()


@pytest.mark.parametrize(
    "words",
    [
        ["--model.layer=remem.core.Memory", "--model.layer.init_args.rule=titans"],
        ["--model.layer=remem.core.Memory", "--model.layer.rule=titans"],
        ["--model.layer=remem.core.Memory", "--model.layer.init_args={rule: titans}"],
        ["--model.layer={class_path: remem.core.Memory, init_args: {rule: titans}}"],
    ],
)
def test_options_may_be_spelled_in_four_ways(words: list[str], early: Parse) -> None:
    assert early(*words).model.blocks[0].layer.rule == "titans"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--model.layer=remem.core.Memory", "--model.layer.init_args.rule=titan"],
            "'gated_delta', 'titans'",
        ),
        (
            ["--model.layer=remem.core.Memory", "--model.layer.init_args.ruel=titans"],
            "'ruel' is not accepted",
        ),
        (["--model.layer=remem.core.Memori"], "no attribute 'Memori'"),
    ],
)
def test_what_is_misspelled_is_told(
    words: list[str], told: str, early: Parse, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        early(*words)
    assert told in capsys.readouterr().err

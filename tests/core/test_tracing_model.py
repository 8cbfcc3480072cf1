"""Memory, network, trees and calibration as one layer: torch, its steps and both graphs give one probability."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import xgboost as xgb
from torch import Tensor

from remem.core import Aaren
from remem.core.calibration import Platt
from remem.core.export import export_step, export_window, write_manifest
from remem.core.layers.concept_memory import ConceptMemory
from remem.core.recall import Recurrent
from remem.core.state import flatten, nbytes
from remem.core.tracing import TracingModel, TracingNetwork
from remem.core.trees import TreeEnsemble

QUESTIONS, CONCEPTS, SLOTS = 400, 110, 3


def rows(batch: int, time: int, seed: int) -> Tensor:
    """Answers of students who differ, to questions that differ; a few ids and times are unknown."""
    random = np.random.default_rng(seed)
    x = np.zeros((batch, time, 3 + SLOTS), np.float32)
    question = random.integers(0, QUESTIONS + 2, (batch, time))
    ease = np.random.default_rng(0).normal(size=QUESTIONS + 2)[question]
    x[..., 0] = question
    x[..., 1] = random.random((batch, time)) < 1 / (1 + np.exp(-ease - random.normal(size=(batch, 1))))
    x[..., 2] = random.integers(0, 90, (batch, time)).cumsum(1)
    x[..., 3] = 1 + question % CONCEPTS
    x[..., 4] = np.where(question % 3 == 0, 1 + question % 7, 0)
    x[..., 1:3][random.random((batch, time, 2)) < 0.05] = np.nan
    return torch.from_numpy(x)


@functools.cache
def model() -> TracingModel:
    """The whole stack; its network has random weights, its trees and its calibration are fitted."""
    torch.manual_seed(0)
    memory, train = ConceptMemory(QUESTIONS, CONCEPTS, slots=SLOTS), rows(40, 100, 1)
    question_QS, concept_C4 = torch.rand(QUESTIONS + 1, 18), torch.rand(CONCEPTS + 1, 4)
    question_QS[:, 1] = torch.arange(QUESTIONS + 1) % 4
    question_QS[::4, 2:] = question_QS[0, 2:]
    pair_CC, run_CU = torch.rand(CONCEPTS + 1, CONCEPTS + 1), torch.rand(CONCEPTS + 1, 31)
    memory.set_tables(question_QS, concept_C4, pair_CC, run_CU)
    z_BTZ, _ = memory(train)
    answered_BT = torch.isfinite(train[..., 1])
    network = TracingNetwork(memory, recall=Recurrent(Aaren, 32), d_model=32)
    network.fit_preprocess(z_BTZ, answered_BT)
    for parameter in (*network.head[-1].parameters(), *network.skip.parameters()):
        torch.nn.init.normal_(parameter, std=0.1)  # zero before training: nothing could be told apart
    z_NZ, y_N = z_BTZ[answered_BT], train[..., 1][answered_BT]
    booster = xgb.train(
        {"objective": "binary:logistic", "max_depth": 5, "nthread": 1},
        xgb.DMatrix(z_NZ.numpy(), y_N.numpy()),
        40,
    )
    whole = TracingModel(memory, {"network": network, "trees": TreeEnsemble.from_xgboost(booster)}).eval()
    with torch.no_grad():
        logit_BTM, _ = whole.logits(train)
    whole.calibration.fit(logit_BTM[answered_BT], y_N)
    return whole


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracing")
    export_window(model(), folder / "window.onnx", example=rows(4, 60, 2))
    export_step(model(), folder / "step.onnx", example=rows(4, 60, 2))
    return folder


def session(file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def folded(x_BTF: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    state = model().init_state(len(x_BTF)) if state is None else state
    outputs = []
    for x_BF in x_BTF.unbind(1):
        y_BO, state = model().step(x_BF, state)
        outputs.append(y_BO)
    return torch.stack(outputs, 1), state


@torch.no_grad()
def test_ten_thousand_answers_in_all_four_ways(bundle: Path) -> None:
    x_BTF = rows(1, 10_000, 3)
    whole_BTO, state = model()(x_BTF)
    assert whole_BTO.std() > 0.05
    (window_BTO, *after) = session(bundle / "window.onnx").run(
        None, {"x": x_BTF.numpy(), "mask": np.ones((1, 10_000), bool)}
    )
    np.testing.assert_allclose(window_BTO, whole_BTO, rtol=0, atol=1e-5)
    step, names = session(bundle / "step.onnx"), [f"state.{name}" for name in flatten(state)]
    fed = dict(zip(names, [t.numpy() for t in flatten(model().init_state(1)).values()], strict=True))
    steps = []
    for x_BF in x_BTF.numpy().swapaxes(0, 1):
        y_BO, *tensors = step.run(None, {"x": x_BF} | fed)
        fed = dict(zip(names, tensors, strict=True))
        steps.append(y_BO)
    np.testing.assert_allclose(np.stack(steps, 1), whole_BTO, rtol=0, atol=1e-5)
    folded_BTO, _ = folded(x_BTF[:, :1500])
    np.testing.assert_allclose(folded_BTO, whole_BTO[:, :1500], rtol=0, atol=1e-5)
    for name, tensor, array in zip(names, flatten(state).values(), after, strict=True):
        np.testing.assert_allclose(array, tensor, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(fed[name], tensor, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_no_output_moves_with_answers_from_its_own_on() -> None:
    x_BTF = rows(3, 60, 4)
    whole_BTO, _ = model()(x_BTF)
    for t in (0, 1, 17, 59):
        changed_BTF = x_BTF.clone()
        changed_BTF[:, t:, 1] = 1 - changed_BTF[:, t:, 1].nan_to_num(1.0)
        changed_BTO, _ = model()(changed_BTF)
        assert changed_BTO[:, : t + 1].equal(whole_BTO[:, : t + 1])
        assert t == 59 or not changed_BTO[:, t + 1].equal(whole_BTO[:, t + 1])


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_nothing(side: str) -> None:
    x_BTF = rows(2, 40, 5)
    alone_BTO, alone = model()(x_BTF)
    parts = [rows(2, 9, 6), x_BTF] if side == "left" else [x_BTF, rows(2, 9, 6)]
    real = [torch.full((2, part.shape[1]), part is x_BTF) for part in parts]
    y_BTO, state = model()(torch.cat(parts, 1), mask_BT=torch.cat(real, 1))
    torch.testing.assert_close(
        y_BTO[:, 9:] if side == "left" else y_BTO[:, :40], alone_BTO, rtol=0, atol=1e-5
    )
    for tensor, other in zip(flatten(state).values(), flatten(alone).values(), strict=True):
        torch.testing.assert_close(tensor, other, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_question_that_is_asked_gets_its_probability_and_leaves_no_trace() -> None:
    x_BTF = rows(4, 30, 7)
    x_BTF[:, :, 1] = x_BTF[:, :, 1].nan_to_num(1.0)
    asked_BTF = x_BTF.clone()
    asked_BTF[:, 20, 1] = torch.nan
    whole_BTO, _ = model()(x_BTF)
    asked_BTO, asked = model()(asked_BTF)
    torch.testing.assert_close(asked_BTO[:, :21], whole_BTO[:, :21], rtol=0, atol=1e-6)
    left_BTF = torch.cat([x_BTF[:, :20], x_BTF[:, 21:]], 1)
    _, without = model()(left_BTF)
    for tensor, other in zip(flatten(asked).values(), flatten(without).values(), strict=True):
        torch.testing.assert_close(tensor, other, rtol=1e-5, atol=1e-5)


def test_the_state_of_a_student_is_small(bundle: Path) -> None:
    assert nbytes(model().init_state(1)) <= 8000
    assert write_manifest(bundle, {})["state_bytes"] == nbytes(model().init_state(1))


def test_every_weight_of_the_network_learns() -> None:
    network, x_BTF = model().members["network"], rows(8, 50, 8)
    z_BTZ, _ = model().memory(x_BTF)
    logit_BT, _ = network(z_BTZ, x_BTF)
    answered_BT = torch.isfinite(x_BTF[..., 1])
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        logit_BT[answered_BT], x_BTF[..., 1][answered_BT]
    )
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters)
    still = [name for name, gradient in zip(names, gradients, strict=True) if not gradient.abs().max() > 0]
    assert still == []
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_a_question_without_training_answers_is_any_other_of_its_concept() -> None:
    network, memory = model().members["network"], model().memory
    x_BTF = rows(1, 1, 9)
    x_BTF[..., 0] = float(torch.nonzero(memory.question_QS[:, 1] == 0)[1])
    unknown_BTF = x_BTF.clone()
    unknown_BTF[..., 0] = QUESTIONS + 7
    assert model()(x_BTF)[0].equal(model()(unknown_BTF)[0])
    assert not network.question.weight.eq(0).all()


def test_members_and_calibration_must_fit() -> None:
    memory = ConceptMemory(3, 2)
    with pytest.raises(ValueError, match="trees takes 4 features, the memory gives"):
        TracingModel(memory, {"trees": TreeEnsemble(4)})
    with pytest.raises(ValueError, match="the calibration is of 2 members"):
        TracingModel(memory, {"trees": TreeEnsemble(memory.out_features)}, calibration=Platt(2))
    alone = TracingModel(memory, {"trees": TreeEnsemble(memory.out_features)})
    assert alone.out_names == ("p_correct",)
    assert alone(torch.zeros(2, 3, 4))[0].shape == (2, 3, 1)
    assert model().out_names == ("p_correct", "p_network", "p_trees")


def test_platt_stacks_and_calibrates() -> None:
    random = torch.Generator().manual_seed(0)
    a_N, b_N = torch.randn(2, 40_000, generator=random)
    y_N = (torch.rand(40_000, generator=random) < (1.5 * a_N + 0.5 * b_N - 0.3).sigmoid()).float()
    logit_NM = torch.stack([3 * a_N + 1, b_N], -1)
    platt = Platt(2).fit(logit_NM, y_N)
    torch.testing.assert_close(platt.weight_OM[0], torch.tensor([0.5, 0.5]), rtol=0, atol=0.03)
    torch.testing.assert_close(platt.bias_O[0], torch.tensor(-0.8), rtol=0, atol=0.05)
    p_NO = platt(logit_NM)
    assert p_NO.shape == (40_000, 3)
    for o, members in enumerate([[0, 1], [0], [1]]):  # what makes it the most likely one
        error_N = p_NO[:, o] - y_N
        assert abs(error_N.mean()) < 1e-4
        assert (error_N[:, None] * logit_NM[:, members]).mean(0).abs().max() < 1e-4
    assert torch.equal(Platt(1)(a_N[:, None])[:, 0], a_N.sigmoid())


def test_platt_bears_members_that_are_the_same_or_never_wrong() -> None:
    z_N = torch.tensor([-2.0, -1.0, 1.0, 2.0]).repeat(50)
    twins = Platt(2).fit(torch.stack([z_N, z_N], -1), (z_N + torch.randn(200) > 0).float())
    assert twins.weight_OM[0, 0] == pytest.approx(float(twins.weight_OM[0, 1]), rel=1e-3)
    sure = Platt(1).fit(z_N[:, None], (z_N > 0).float())
    assert torch.isfinite(sure.weight_OM).all()
    assert sure(torch.tensor([[1.0]])) > 0.99


@pytest.mark.parametrize(
    ("logits", "y", "message"),
    [
        (torch.zeros(3, 2), torch.tensor([0.0, 1, 1]), "wanted .N, 1."),
        (torch.zeros(3, 1), torch.ones(3), "outcomes of 0 and of 1"),
        (torch.full((2, 1), torch.nan), torch.tensor([0.0, 1]), "finite logits"),
    ],
)
def test_platt_refuses_what_it_cannot_fit(logits: Tensor, y: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Platt(1).fit(logits, y)
    with pytest.raises(ValueError, match="num_members is 0"):
        Platt(0)

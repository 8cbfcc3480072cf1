"""Running features against sums written out in float64, and the laws of a layer."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from remem.core.export import export_step, export_window
from remem.core.layers.running import RunningFeatures
from remem.core.model import SequenceModel
from remem.core.preprocess import Standardize
from remem.core.state import flatten, nbytes

NAMES = ("cycle", "capacity_ah", "v_mean")
TAUS = (1.0, 10.0, 100.0, -20.0)
SLOPES = ((1.0, 10.0), (10.0, 100.0), (1.0, -20.0))
LEVEL = 0.88


def layer() -> RunningFeatures:
    return RunningFeatures(
        NAMES, position="cycle", time_constants=TAUS, slopes=SLOPES, levels={"capacity_ah": [LEVEL]}
    )


def cells(batch: int, time: int, *, gap: int = 6, seed: int = 0) -> Tensor:
    """Fading cells at irregular cycles, one value in ten of v_mean missing."""
    random = torch.Generator().manual_seed(seed)
    cycle_BT = torch.randint(1, gap + 1, (batch, time), generator=random).cumsum(1).float()
    noise_BT2 = torch.randn(batch, time, 2, generator=random)
    capacity_BT = 1.1 - 1e-4 * cycle_BT + 1e-3 * noise_BT2[..., 0]
    v_BT = 3.4 + 0.01 * noise_BT2[..., 1]
    v_BT[torch.rand(batch, time, generator=random) < 0.1] = torch.nan
    return torch.stack([cycle_BT, capacity_BT, v_BT], -1)


def oracle(x_TF: np.ndarray) -> dict[str, np.ndarray]:
    """Every output by its definition, one explicit sum per row."""
    x_TF = x_TF.astype(np.float64)
    rows, out = len(x_TF), {}
    cycle = x_TF[:, 0]
    mean: dict[tuple[float, int], np.ndarray] = {}
    at: dict[tuple[float, int], np.ndarray] = {}
    for tau in TAUS:
        rate = float(np.float32(1 / tau))
        for c in (1, 2):
            mean[tau, c], at[tau, c] = np.full(rows, np.nan), np.full(rows, np.nan)
            for t in range(rows):
                seen = np.isfinite(x_TF[: t + 1, c])
                score = cycle[: t + 1] * rate
                weight = np.exp(score - score.max()) * seen
                if weight.sum() > 0:
                    mean[tau, c][t] = weight[seen] @ x_TF[: t + 1, c][seen] / weight.sum()
                    at[tau, c][t] = weight @ cycle[: t + 1] / weight.sum()
            out[f"{NAMES[c]}.mean{tau:g}"] = mean[tau, c]
    for a, b in SLOPES:
        for c in (1, 2):
            apart = at[a, c] - at[b, c]
            known = apart > 0.25
            slope = np.full(rows, np.nan)
            slope[known] = (mean[a, c] - mean[b, c])[known] / apart[known]
            out[f"{NAMES[c]}.slope{a:g}_{b:g}"] = slope
    for a, b in SLOPES:
        slope = out[f"capacity_ah.slope{a:g}_{b:g}"]
        above = np.maximum(mean[a, 1] - LEVEL, 1e-3)
        left = np.log(np.clip(above / np.maximum(-slope, 1e-8), 1.0, 1e5))
        out[f"capacity_ah.left{a:g}_{b:g}.{LEVEL}"] = left
    out[f"capacity_ah.above.{LEVEL}"] = np.log(np.maximum(mean[TAUS[0], 1] - LEVEL, 1e-3))
    out["cycle.log"] = np.log1p(cycle)
    return out


def close(got: Tensor, wanted: Tensor, tolerance: float = 1e-6) -> None:
    assert got.shape == wanted.shape
    assert torch.equal(got.isnan(), wanted.isnan())
    error = (got.double() - wanted.double()).abs() / wanted.double().abs().clamp(min=1.0)
    assert error.nan_to_num().max() <= tolerance


def fold(module: nn.Module, x_BTF: Tensor, mask_BT: Tensor | None = None) -> tuple[Tensor, object]:
    state, outputs = module.init_state(len(x_BTF)), []
    for t in range(x_BTF.shape[1]):
        y_BO, state = module.step(x_BTF[:, t], state, mask_B=None if mask_BT is None else mask_BT[:, t])
        outputs.append(y_BO)
    return torch.stack(outputs, 1), state


def test_every_output_is_its_definition_at_irregular_cycles_with_holes() -> None:
    x_BTF = cells(2, 150)
    x_BTF[1, :5, 2] = torch.nan  # unseen at first
    y_BTO, _ = layer()(x_BTF)
    for b in range(2):
        wanted = oracle(x_BTF[b].numpy())
        assert layer().out_names == tuple(wanted)
        close(y_BTO[b], torch.from_numpy(np.stack([*wanted.values()], -1)))


@pytest.mark.parametrize("gap", [1, 30])
def test_slope_and_crossing_of_a_straight_line_are_exact(gap: int) -> None:
    cycle = torch.arange(1, 400, gap).float()
    fade, start = 5e-4, 1.1
    x_BTF = torch.stack([cycle, start - fade * cycle, torch.zeros_like(cycle)], -1)[None]
    y_TO = layer()(x_BTF)[0][0]
    column = dict(zip(layer().out_names, y_TO.unbind(-1), strict=True))
    for a, b in SLOPES:
        later = slice(6, None)
        close(column[f"capacity_ah.slope{a:g}_{b:g}"][later] * 1e4, torch.full_like(cycle, -5.0)[later], 1e-3)
    left = column[f"capacity_ah.left1_-20.{LEVEL}"].exp()
    end = (start - LEVEL) / fade
    # the line is carried on from the average, which lags by at most its time constant
    assert ((left - (end - cycle)).abs() <= 1.0)[6:].all()


def test_a_long_pause_forgets_what_was_before() -> None:
    cycle = torch.tensor([1.0, 2.0, 3.0, 2000.0])
    x_BTF = torch.stack([cycle, torch.tensor([5.0, 5.0, 5.0, 1.0]), torch.zeros(4)], -1)[None]
    column = dict(zip(layer().out_names, layer()(x_BTF)[0][0, -1].tolist(), strict=True))
    assert column["capacity_ah.mean100"] == pytest.approx(1.0)
    assert column["capacity_ah.mean-20"] == pytest.approx(5.0)


def test_steps_splits_and_window_agree_over_two_thousand_cycles() -> None:
    features, x_BTF = layer(), cells(3, 2000)
    whole_BTO, after = features(x_BTF)
    folded_BTO, folded = fold(features, x_BTF)
    close(folded_BTO, whole_BTO)
    for cuts in ((0, 1, 2, 1999, 2000), (0, 0, 700, 701, 2000, 2000)):
        state, pieces = None, []
        for start, end in pairwise(cuts):
            piece, state = features(x_BTF[:, start:end], state)
            pieces.append(piece)
        close(torch.cat(pieces, 1), whole_BTO)
        for name, tensor in flatten(state).items():
            close(tensor, flatten(after)[name], 1e-9)
    for name, tensor in flatten(folded).items():
        close(tensor, flatten(after)[name], 1e-9)


def test_rows_that_are_masked_do_not_exist() -> None:
    x_BTF = cells(1, 60)
    mask_BT = torch.rand(1, 60, generator=torch.Generator().manual_seed(1)) < 0.6
    dirty_BTF = x_BTF.masked_fill(~mask_BT[..., None], torch.nan)
    alone_BTO, after = layer()(x_BTF[:, mask_BT[0]])
    for run in (lambda x, m: layer()(x, mask_BT=m), lambda x, m: fold(layer(), x, m)):
        y_BTO, state = run(dirty_BTF, mask_BT)
        close(y_BTO[:, mask_BT[0]], alone_BTO)
        for name, tensor in flatten(state).items():
            close(tensor, flatten(after)[name], 1e-9)


def test_the_future_is_unseen() -> None:
    x_BTF = cells(2, 80)
    changed_BTF = x_BTF.clone()
    changed_BTF[:, 50:, 1:] += 1.0
    y_BTO, _ = layer()(x_BTF)
    changed_BTO, _ = layer()(changed_BTF)
    close(changed_BTO[:, :50], y_BTO[:, :50], 0.0)
    assert not torch.equal(changed_BTO[:, 50:].nan_to_num(), y_BTO[:, 50:].nan_to_num())


def test_the_state_does_not_grow_and_stays_wide() -> None:
    features = layer()
    x_BTF, state = cells(1, 10_000, gap=1), features.init_state(1)
    _, at_10 = features(x_BTF[:, :10])
    _, at_10_000 = features(x_BTF)
    assert nbytes(at_10) == nbytes(at_10_000) == nbytes(state) == len(TAUS) * (2 + 3 * 2) * 8
    assert {tensor.dtype for tensor in flatten(at_10_000).values()} == {torch.float64}


def test_graphs_agree_with_the_model_over_two_thousand_cycles() -> None:
    """Window and step graph, relative to the remaining life in cycles that the model answers with."""
    torch.manual_seed(0)
    features, x_BTF = layer(), cells(1, 2000, gap=1)
    names = features.out_names
    model = SequenceModel(
        len(NAMES), 1, d_model=16, num_layers=0, features=features, preprocess=Standardize(names)
    )
    model.fit_preprocess(x_BTF)
    model.calibration = Exponential()
    model.eval()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1

    def session(graph: bytes) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    with torch.no_grad():
        wanted_T = model(x_BTF)[0][0, :, 0]
        torch_T = fold(model, x_BTF)[0][0, :, 0]
    example_BTF = cells(3, 60)
    mask_BT = np.ones((1, 2000), bool)
    window = session(export_window(model, example=example_BTF))
    window_T = window.run(["y"], {"x": x_BTF.numpy(), "mask": mask_BT})[0][0, :, 0]
    step = session(export_step(model, example=example_BTF))
    state = {f"state.{name}": t.numpy() for name, t in flatten(model.init_state(1)).items()}
    step_T = []
    for t in range(2000):
        y_BO, *after = step.run(None, {"x": x_BTF[:, t].numpy()} | state)
        state = dict(zip(state, after, strict=True))
        step_T.append(y_BO[0, 0])
    for got_T in (torch_T, torch.from_numpy(window_T), torch.tensor(np.array(step_T))):
        assert ((got_T - wanted_T).abs() / wanted_T).max() <= 1e-5


class Exponential(nn.Module):
    """Log remaining life to cycles."""

    def forward(self, z_1: Tensor) -> Tensor:
        return (z_1 + 6.0).exp()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"position": "time"}, r"columns \['time'\] are unknown"),
        ({"levels": {"soh": [0.8]}}, r"columns \['soh'\] are unknown"),
        ({"levels": {"cycle": [0.8]}}, "position 'cycle' has no level"),
        ({"time_constants": (1.0, 0.0)}, "other than 0"),
        ({"slopes": ((1.0, 7.0),)}, "slopes between two of them"),
        ({"names": ("cycle", "q", "q")}, "comes twice"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], message: str) -> None:
    right = {"names": NAMES, "position": "cycle", "time_constants": (1.0, 10.0)}
    arguments = right | wrong
    names = arguments.pop("names")
    with pytest.raises(ValueError, match=message):
        RunningFeatures(names, **arguments)

"""The laws every sequence layer obeys, and a checker to run them on your own: `check_layer(MyLayer)`.

The laws are what lets one set of weights be trained on whole sequences and served one observation at a time. Each is
run on cases drawn by hypothesis: batch, length, masks and places to split.

Needs hypothesis. Shape legend: B batch, T time, D width of the layer's input.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnxruntime
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from .export import export_step, export_window
from .state import SequenceLayer, State, detach, flatten, nbytes, select, unflatten, where

TOLERANCE = 1e-5
"""Largest difference between two float32 ways to one number, relative to max(1, |value|)."""


class LawBroken(AssertionError):
    """A layer breaks a law; the message names the law and the case."""


@dataclass(frozen=True)
class Case:
    """Inputs x_BTD, real steps mask_BT, and where to split: 0 <= cuts <= T, ascending, repeats allowed."""

    x_BTD: Tensor
    mask_BT: Tensor
    cuts: tuple[int, ...]

    def __repr__(self) -> str:
        batch, time, _ = self.x_BTD.shape
        return f"batch {batch}, time {time}, cuts {self.cuts}, mask {self.mask_BT.int().tolist()}"


def check_layer(
    factory: Callable[[int], SequenceLayer],
    *,
    width: int = 8,
    max_time: int = 21,
    examples: int = 8,
    export: bool = True,
    seed: int = 0,
) -> dict[str, int]:
    """Run every law on a layer made by `factory(width)`.

    Args:
        factory: the layer class, or a function from the width of the input to a layer.
        width: D of the inputs.
        max_time: longest sequence drawn.
        examples: cases drawn per law.
        export: also make, check and chain the ONNX graphs (some seconds).
        seed: of the layer's weights.

    Returns:
        How many cases each law was run on, by name.

    Raises:
        LawBroken: at the first law that does not hold, after hypothesis has shrunk the case.
        ExportError: where a graph cannot be made or does not agree.
    """
    torch.manual_seed(seed)
    layer: Any = factory(width)
    layer.eval()
    checks = {law.__name__[1:]: _run(law, layer, width, max_time, examples) for law in _LAWS}
    return checks | (_check_graphs(layer, width) if export else {})


@st.composite
def cases(draw: st.DrawFn, width: int, max_time: int) -> Case:
    """Random inputs with no, left, right or scattered padding; rows without a real step and T = 0 included."""
    batch, time = draw(st.integers(1, 4)), draw(st.integers(0, max_time))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    x_BTD = torch.randn(batch, time, width, generator=random)
    padding = draw(st.sampled_from(["none", "left", "right", "scattered"]))
    number_T = torch.arange(time)
    length_B1 = torch.randint(0, time + 1, (batch, 1), generator=random)
    mask_BT = {
        "none": torch.ones(batch, time, dtype=torch.bool),
        "left": number_T >= length_B1,
        "right": number_T < length_B1,
        "scattered": torch.rand(batch, time, generator=random) < 0.6,
    }[padding]
    cuts = tuple(sorted(draw(st.lists(st.integers(0, time), max_size=3))))
    return Case(x_BTD, mask_BT, cuts)


def _run(law: Callable[[Any, Case], None], layer: Any, width: int, max_time: int, n: int) -> int:
    ran = 0

    @settings(
        max_examples=n,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(width, max_time))
    def holds(case: Case) -> None:
        nonlocal ran
        ran += 1
        law(layer, case)

    for case in _edges(width):
        ran += 1
        law(layer, case)
    holds()
    return ran


def _edges(width: int) -> list[Case]:
    """What chance may leave out: no step at all, one step alone, a whole sequence of padding beside a real one."""
    x_BTD = torch.linspace(-1, 1, 12 * width).view(2, 6, width)
    mask_BT = torch.tensor([[False] * 6, [True] * 6])
    return [
        Case(x_BTD[:1, :0], mask_BT[:1, :0], (0, 0)),
        Case(x_BTD[:1, :1], mask_BT[1:, :1], (0, 1)),
        Case(x_BTD, mask_BT, (0, 1, 1, 6)),
    ]


def _step_is_forward(layer: Any, case: Case) -> None:
    y_BTD, state = layer.forward(case.x_BTD, mask_BT=case.mask_BT)
    folded_BTD, folded = _fold(layer, case)
    _close("step is forward", case, folded_BTD[case.mask_BT], y_BTD[case.mask_BT])
    _close_states("step is forward", case, folded, state)


def _split_is_whole(layer: Any, case: Case) -> None:
    y_BTD, whole = layer.forward(case.x_BTD, mask_BT=case.mask_BT)
    state, pieces = layer.init_state(len(case.x_BTD)), []
    for start, end in zip((0, *case.cuts), (*case.cuts, case.x_BTD.shape[1]), strict=True):
        piece, state = layer.forward(case.x_BTD[:, start:end], state, mask_BT=case.mask_BT[:, start:end])
        pieces.append(piece)
    _close("split is whole", case, torch.cat(pieces, 1)[case.mask_BT], y_BTD[case.mask_BT])
    _close_states("split is whole", case, state, whole)


def _masked_is_absent(layer: Any, case: Case) -> None:
    y_BTD, state = layer.forward(case.x_BTD, mask_BT=case.mask_BT)
    for row, (x_TD, mask_T) in enumerate(zip(case.x_BTD, case.mask_BT, strict=True)):
        alone, after = layer.forward(x_TD[mask_T][None])
        _close("masked is absent", case, y_BTD[row][mask_T], alone[0])
        _close_states("masked is absent", case, select(state, torch.tensor([row])), after)


def _masked_keeps_state(layer: Any, case: Case) -> None:
    """Bit for bit, from any state, in both modes."""
    _, state = layer.forward(case.x_BTD)
    nothing_BT = torch.zeros_like(case.mask_BT)
    _, after = layer.forward(case.x_BTD + 1, state, mask_BT=nothing_BT)
    _close_states("masked keeps state (forward)", case, after, state, 0.0)
    x_BD = torch.ones_like(case.x_BTD[:, :1].sum(1))
    _, after = layer.step(x_BD, state, mask_B=torch.zeros(len(x_BD), dtype=torch.bool))
    _close_states("masked keeps state (step)", case, after, state, 0.0)


def _unmasked_is_all_true(layer: Any, case: Case) -> None:
    y_BTD, state = layer.forward(case.x_BTD)
    masked_BTD, after = layer.forward(case.x_BTD, mask_BT=torch.ones_like(case.mask_BT))
    _close("unmasked is all true", case, masked_BTD, y_BTD)
    _close_states("unmasked is all true", case, after, state)


def _rows_are_independent(layer: Any, case: Case) -> None:
    y_BTD, state = layer.forward(case.x_BTD, mask_BT=case.mask_BT)
    other_BTD = case.x_BTD.clone()
    other_BTD[0] += 1
    changed_BTD, changed = layer.forward(other_BTD, mask_BT=case.mask_BT)
    rest = torch.arange(1, len(other_BTD))
    _close("rows are independent", case, changed_BTD[1:], y_BTD[1:], 0.0)
    _close_states("rows are independent", case, select(changed, rest), select(state, rest), 0.0)
    order = torch.arange(len(other_BTD)).flip(0)
    turned_BTD, turned = layer.forward(case.x_BTD[order], mask_BT=case.mask_BT[order])
    real_BT = case.mask_BT[order]
    _close("rows are independent (order)", case, turned_BTD[real_BT], y_BTD[order][real_BT])
    _close_states("rows are independent (order)", case, turned, select(state, order))


def _future_is_unseen(layer: Any, case: Case) -> None:
    """Outputs before a cut neither move with inputs behind it, nor have a gradient with respect to them."""
    cut = case.cuts[0] if case.cuts else case.x_BTD.shape[1] // 2
    y_BTD, _ = layer.forward(case.x_BTD, mask_BT=case.mask_BT)
    x_BTD = case.x_BTD.clone()
    x_BTD[:, cut:] += 10
    x_BTD.requires_grad_()
    changed_BTD, _ = layer.forward(x_BTD, mask_BT=case.mask_BT)
    seen_BT = case.mask_BT[:, :cut]
    _close("future is unseen", case, changed_BTD[:, :cut][seen_BT], y_BTD[:, :cut][seen_BT], 0.0)
    if seen_BT.any():
        (gradient,) = torch.autograd.grad(changed_BTD[:, :cut][seen_BT].square().sum(), x_BTD)
        _close(
            "future is unseen (gradient)", case, gradient[:, cut:], torch.zeros_like(gradient[:, cut:]), 0.0
        )


def _gradients_agree(layer: Any, case: Case) -> None:
    """Those of forward and of the fold of step, in float64: inputs, parameters, and through a carried state."""
    layer = copy.deepcopy(layer).double()
    random = torch.Generator().manual_seed(1)
    weight_BTO, gradients = None, []
    for run in (layer.forward, lambda x, state, mask_BT: _fold(layer, Case(x, mask_BT, ()), state)):
        x_BTD = case.x_BTD.double().requires_grad_()
        # the state handed over in the middle carries gradients too
        half = x_BTD.shape[1] // 2
        state = layer.init_state(len(x_BTD), dtype=torch.float64)
        first, state = run(x_BTD[:, :half], state, mask_BT=case.mask_BT[:, :half])
        second, _ = run(x_BTD[:, half:], state, mask_BT=case.mask_BT[:, half:])
        y_BTO = torch.cat([first, second], 1) * case.mask_BT[..., None]
        if weight_BTO is None:
            weight_BTO = torch.randn(y_BTO.shape, generator=random, dtype=torch.float64)
        wanted = [x_BTD, *(p for p in layer.parameters() if p.requires_grad)]
        found = torch.autograd.grad((y_BTO * weight_BTO).sum(), wanted, allow_unused=True)
        gradients.append(
            [torch.zeros_like(p) if g is None else g for g, p in zip(found, wanted, strict=True)]
        )
    for parallel, folded in zip(*gradients, strict=True):
        _close("gradients agree", case, parallel, folded, 1e-9)


def _extremes_are_finite(layer: Any, case: Case) -> None:
    """Outputs, state and gradients, at inputs of size 0 and 300 with parameters four times as large."""
    layer = copy.deepcopy(layer)
    for parameter in layer.parameters():
        parameter.data *= 4
    for scale in (0.0, 300.0):
        x_BTD = (case.x_BTD * scale).requires_grad_()
        y_BTD, state = layer.forward(x_BTD, mask_BT=case.mask_BT)
        y_BTD[case.mask_BT].sum().backward()
        numbers = [y_BTD, *flatten(state).values()]
        numbers += [p.grad for p in (x_BTD, *layer.parameters()) if p.grad is not None]
        if not all(torch.isfinite(number).all() for number in numbers):
            raise LawBroken(f"extremes are finite: NaN or infinity at input scale {scale:.0f}; {case}")


def _state_is_constant(layer: Any, case: Case) -> None:
    """Names, shapes, types and bytes are those of init_state, whatever was seen; axis 0 is the batch."""
    state = layer.init_state(len(case.x_BTD))
    declared = {name: (tuple(t.shape), t.dtype) for name, t in flatten(state).items()}
    if any(shape[:1] != (len(case.x_BTD),) for shape, _ in declared.values()):
        raise LawBroken(
            f"state is constant: axis 0 of every tensor must be the batch; got {declared}; {case}"
        )
    for after in (layer.forward(case.x_BTD)[1], _fold(layer, case)[1]):
        found = {name: (tuple(t.shape), t.dtype) for name, t in flatten(after).items()}
        if found != declared or nbytes(after) != nbytes(state):
            raise LawBroken(f"state is constant: declared {declared}, found {found}; {case}")


def _state_is_wide(layer: Any, case: Case) -> None:
    """States are float32 or wider under autocast and in bfloat16 layers, and float64 in float64 ones."""
    narrow, wide = copy.deepcopy(layer).bfloat16(), copy.deepcopy(layer).double()
    with torch.autocast("cpu", torch.bfloat16):
        _, auto = layer.forward(case.x_BTD, mask_BT=case.mask_BT)
        _, auto_step = _fold(layer, case)
    found = {
        "autocast": (auto, 4),
        "autocast, step": (auto_step, 4),
        "bfloat16": (narrow.forward(case.x_BTD.bfloat16(), mask_BT=case.mask_BT)[1], 4),
        "float64": (wide.forward(case.x_BTD.double(), mask_BT=case.mask_BT)[1], 8),
    }
    for where_, (state, width) in found.items():
        numbers = {name: tensor for name, tensor in flatten(state).items() if tensor.is_floating_point()}
        wrong = {name: tensor.dtype for name, tensor in numbers.items() if tensor.element_size() < width}
        if wrong:
            raise LawBroken(f"state is wide ({where_}): wanted {width} bytes a number, got {wrong}; {case}")


def _nothing_is_hidden(layer: Any, case: Case) -> None:
    """Same numbers without gradients, in inference mode, from a copy and from saved weights; inputs untouched."""
    x_BTD = case.x_BTD.clone()
    _, state = layer.forward(x_BTD, mask_BT=case.mask_BT)
    kept = {name: tensor.clone() for name, tensor in flatten(state).items()}
    y_BTD, after = layer.forward(x_BTD, state, mask_BT=case.mask_BT)
    _close("nothing is hidden (input changed in place)", case, x_BTD, case.x_BTD, 0.0)
    _close_states("nothing is hidden (state changed in place)", case, state, unflatten(state, kept), 0.0)
    saved = io.BytesIO()
    torch.save(layer.state_dict(), saved)
    saved.seek(0)
    reloaded = copy.deepcopy(layer)
    for parameter in reloaded.parameters():
        parameter.data.zero_()
    reloaded.load_state_dict(torch.load(saved, weights_only=True))
    for other in (layer, copy.deepcopy(layer), reloaded):
        again_BTD, again = other.forward(x_BTD, state, mask_BT=case.mask_BT)
        _close("nothing is hidden", case, again_BTD[case.mask_BT], y_BTD[case.mask_BT], 0.0)
        _close_states("nothing is hidden", case, again, after, 0.0)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            again_BTD, again = layer.forward(x_BTD, state, mask_BT=case.mask_BT)
        _close(f"nothing is hidden ({mode.__name__})", case, again_BTD[case.mask_BT], y_BTD[case.mask_BT])
        _close_states(f"nothing is hidden ({mode.__name__})", case, again, after)


def _state_is_a_tree(layer: Any, case: Case) -> None:
    """flatten, unflatten, detach and where see every tensor of the state and rebuild its structure."""
    _, state = layer.forward(case.x_BTD)
    fresh = layer.init_state(len(case.x_BTD))
    for rebuilt in (
        unflatten(fresh, flatten(state)),
        detach(state),
        where(case.mask_BT.any(1) | True, state, fresh),
    ):
        if type(rebuilt) is not type(state):
            raise LawBroken(
                f"state is a tree: {type(state).__name__} became {type(rebuilt).__name__}; {case}"
            )
        _close_states("state is a tree", case, rebuilt, state, 0.0)


def _check_graphs(layer: Any, width: int) -> dict[str, int]:
    """Export both graphs (which compares them with the layer), then chain them and look for the future."""
    x_BTD = torch.randn(3, 40, width, generator=torch.Generator().manual_seed(2))
    window = _Session(export_window(layer, example=x_BTD))
    step = _Session(export_step(layer, example=x_BTD))
    with torch.no_grad():
        y_BTO, _ = layer.forward(x_BTD)
    mask_BT = torch.ones(x_BTD.shape[:2], dtype=torch.bool)

    whole_BTO, *_ = window(x=x_BTD, mask=mask_BT)
    changed_BTD = torch.cat([x_BTD[:, :25], x_BTD[:, 25:] + 10], 1)
    changed_BTO, *_ = window(x=changed_BTD, mask=mask_BT)
    _close("window graph does not see the future", None, changed_BTO[:, :25], whole_BTO[:, :25], 0.0)

    _, *state = window(x=x_BTD[:, :17], mask=mask_BT[:, :17])
    names = [f"state.{name}" for name in flatten(layer.init_state(1))]
    for t in range(17, 40):
        y_BO, *state = step(x=x_BTD[:, t], **dict(zip(names, state, strict=True)))
        _close("step graph goes on where the window graph ended", None, y_BO, y_BTO[:, t])
    return dict.fromkeys(
        ["window_graph_agrees", "step_graph_agrees", "window_graph_unseen_future", "graphs_hand_over"], 1
    )


class _Session:
    """A graph as a function of tensors by input name."""

    def __init__(self, graph: bytes) -> None:
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def __call__(self, **inputs: Tensor) -> list[Tensor]:
        found = self.session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        return [torch.from_numpy(array) for array in found]


def _fold(layer: Any, case: Case, state: State = None) -> tuple[Tensor, State]:
    """forward by steps."""
    state = layer.init_state(len(case.x_BTD), dtype=case.x_BTD.dtype) if state is None else state
    outputs = []
    for x_BD, mask_B in zip(case.x_BTD.unbind(1), case.mask_BT.unbind(1), strict=True):
        y_BO, state = layer.step(x_BD, state, mask_B=mask_B)
        outputs.append(y_BO)
    return torch.stack(outputs, 1) if outputs else layer.forward(case.x_BTD, state)[0], state


def _close(law: str, case: Case | None, got: Tensor, wanted: Tensor, tolerance: float = TOLERANCE) -> None:
    if got.shape != wanted.shape:
        raise LawBroken(f"{law}: shape {tuple(got.shape)}, wanted {tuple(wanted.shape)}; {case}")
    got, wanted = got.detach().double(), wanted.detach().double()
    error = ((got - wanted).abs() / wanted.abs().clamp(min=1.0)).max().item() if got.numel() else 0.0
    if not error <= tolerance:
        raise LawBroken(f"{law}: differs by {error:.1e}, allowed {tolerance:.0e}; {case}")


def _close_states(law: str, case: Case, got: State, wanted: State, tolerance: float = TOLERANCE) -> None:
    tensors, others = flatten(got), flatten(wanted)
    if list(tensors) != list(others):
        raise LawBroken(f"{law}: state {list(tensors)}, wanted {list(others)}; {case}")
    for name, tensor in tensors.items():
        _close(f"{law}, state {name}", case, tensor, others[name], tolerance)


_LAWS: tuple[Callable[[Any, Case], None], ...] = (
    _step_is_forward,
    _split_is_whole,
    _masked_is_absent,
    _masked_keeps_state,
    _unmasked_is_all_true,
    _rows_are_independent,
    _future_is_unseen,
    _gradients_agree,
    _extremes_are_finite,
    _state_is_constant,
    _state_is_wide,
    _nothing_is_hidden,
    _state_is_a_tree,
)

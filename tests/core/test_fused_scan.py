"""The scan in machine code against a float64 definition and the loop in torch; the switch that chooses it."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator

import onnx
import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from remem.core import Aaren
from remem.core.export import export_window
from remem.core.ops import SoftmaxState, _backend, empty_state, softmax_scan, softmax_step

LAYOUTS = ("time first", "heads first")


def inputs(
    batch: int,
    time: int,
    *,
    scale: float = 1.0,
    layout: str = "time first",
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """s, v, decay, mask with masked rows, m, u, w of a state in the middle of something."""
    random = torch.Generator().manual_seed(batch + time)

    def heads(x_BTH_: Tensor) -> Tensor:
        x_BHT_ = x_BTH_.transpose(1, 2)
        return x_BHT_ if layout == "time first" else x_BHT_.contiguous()

    mask = torch.rand(batch, time, generator=random) < 0.8
    mask[0] = False
    return {
        "s": heads(scale * torch.randn(batch, time, 3, generator=random)).to(dtype),
        "v": heads(torch.randn(batch, time, 3, 5, generator=random)).to(dtype),
        "decay": heads(torch.rand(batch, time, 3, generator=random)).to(dtype),
        "mask": mask,
        "m": torch.randn(batch, 3, generator=random).to(dtype),
        "u": torch.rand(batch, 3, generator=random).to(dtype) + 1,
        "w": torch.randn(batch, 3, 5, generator=random).to(dtype),
    }


def run(form: str, x: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """o, and the state in units that do not depend on the form."""
    state = SoftmaxState(x["m"], x["u"], x["w"]) if "m" in x else None
    o, after = softmax_scan(x["s"], x["v"], state, decay_BHT=x.get("decay"), mask_BT=x.get("mask"), form=form)
    unit = torch.exp(after.m - after.m.detach().double().amax()).to(o.dtype)
    return o, after.u * unit, after.w * unit[..., None]


def gradients(form: str, x: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a random combination of all outputs, by name of the input."""
    leaves = {name: t.detach().requires_grad_(t.is_floating_point()) for name, t in x.items()}
    random = torch.Generator().manual_seed(5)
    loss = sum((torch.randn(y.shape, generator=random).to(y.dtype) * y).sum() for y in run(form, leaves))
    wanted = {name: t for name, t in leaves.items() if t.requires_grad}
    found = torch.autograd.grad(loss, list(wanted.values()), materialize_grads=True)  # T may be 0
    assert [g.shape for g in found] == [t.shape for t in wanted.values()]
    return dict(zip(wanted, found, strict=True))


def widened(x: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.double() if t.is_floating_point() else t for name, t in x.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize("order", ["random", "ascending", "descending"])
def test_values_and_gradients_at_any_score_scale(layout: str, scale: float, order: str) -> None:
    x = inputs(2, 513, scale=scale, layout=layout)
    x = {"s": x["s"], "v": x["v"]}
    if order != "random":
        x["s"] = x["s"].sort(-1, descending=order == "descending").values
    score = x["s"].double()[..., None, :].expand(-1, -1, 513, -1)
    seen = torch.ones(513, 513, dtype=torch.bool).tril()
    o, *state = run("fused", x)
    assert (o - score.masked_fill(~seen, -torch.inf).softmax(-1) @ x["v"].double()).abs().max() <= 1e-6
    assert all(torch.isfinite(part).all() for part in state)
    exact = gradients("naive", widened(x))
    for name, found in gradients("fused", x).items():
        assert (found - exact[name]).abs().max() <= 1e-5, name


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("without", [(), ("mask",), ("decay",), ("m", "u", "w"), ("mask", "decay")])
@pytest.mark.parametrize("time", [0, 1, 40])
def test_as_the_loop_in_every_combination(layout: str, without: tuple[str, ...], time: int) -> None:
    x = {name: t for name, t in inputs(3, time, scale=5.0, layout=layout).items() if name not in without}
    for got, wanted in zip(run("fused", x), run("naive", widened(x)), strict=True):
        torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-6)
    if not time and "m" not in x:
        return  # nothing that a gradient could reach
    exact = gradients("naive", widened(x))
    for name, got in gradients("fused", x).items():
        torch.testing.assert_close(got.double(), exact[name], rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_first_and_second_order_in_float64(layout: str) -> None:
    x = inputs(2, 5, layout=layout, dtype=torch.float64)
    numbers = {name: t.requires_grad_() for name, t in x.items() if t.is_floating_point()}

    def outputs(*values: Tensor) -> tuple[Tensor, ...]:
        o, state = softmax_scan(
            values[0],
            values[1],
            SoftmaxState(*values[3:]),
            decay_BHT=values[2],
            mask_BT=x["mask"],
            form="fused",
        )
        # whatever units the state is in, what follows from it has exact gradients
        return o, softmax_step(0 * values[0][..., -1] + 0.3, values[1][..., 0, :], state)[0]

    assert torch.autograd.gradcheck(outputs, tuple(numbers.values()))
    assert torch.autograd.gradgradcheck(outputs, tuple(numbers.values()), fast_mode=True)


def test_second_order_where_one_input_depends_on_another() -> None:
    def twice(form: str) -> Tensor:
        x = torch.linspace(-1, 1, 24, dtype=torch.float64).view(1, 2, 12).requires_grad_()
        o, _ = softmax_scan(x, torch.stack([x.sin(), x**2], -1), form=form)
        (first,) = torch.autograd.grad(o.square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    torch.testing.assert_close(twice("fused"), twice("naive"))


def test_what_masked_steps_hold_is_never_looked_at() -> None:
    x = inputs(3, 30)
    clean = run("fused", x), gradients("fused", x)
    hidden = ~x["mask"][:, None, :]
    dirty = x | {
        "s": x["s"].masked_fill(hidden, torch.nan),
        "v": x["v"].masked_fill(hidden[..., None], torch.nan),
        "decay": x["decay"].masked_fill(hidden, torch.nan),
    }
    for got, wanted in zip(run("fused", dirty), clean[0], strict=True):
        assert torch.equal(got, wanted)
    for name, got in gradients("fused", dirty).items():
        assert torch.equal(got, clean[1][name]), name
    assert (clean[1]["v"][~x["mask"][:, None].expand(-1, 3, -1)] == 0).all()


@pytest.mark.parametrize("cut", [0, 1, 17, 64])
def test_pieces_with_the_state_handed_over(cut: int) -> None:
    x = inputs(2, 64, scale=10.0)
    del x["m"], x["u"], x["w"]
    s, v, decay, mask = (t.requires_grad_() if t.is_floating_point() else t for t in x.values())
    whole, end = softmax_scan(s, v, decay_BHT=decay, mask_BT=mask, form="fused")
    first, state = softmax_scan(
        s[..., :cut], v[..., :cut, :], decay_BHT=decay[..., :cut], mask_BT=mask[:, :cut], form="fused"
    )
    rest, after = softmax_scan(
        s[..., cut:], v[..., cut:, :], state, decay_BHT=decay[..., cut:], mask_BT=mask[:, cut:], form="fused"
    )
    pieces = torch.cat([first, rest], 2)
    torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(after.w, end.w, rtol=2e-5, atol=1e-6)
    for got, wanted in zip(
        torch.autograd.grad(pieces.square().sum(), [s, v, decay]),
        torch.autograd.grad(whole.square().sum(), [s, v, decay]),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_long_constant_decay_does_not_drift() -> None:
    """Equal scores and one decay: the same rounding 100,000 times over."""
    s, v = (
        torch.zeros(1, 1, 100_000),
        torch.randn(1, 1, 100_000, 1, generator=torch.Generator().manual_seed(0)),
    )
    x = {"s": s, "v": v, "decay": torch.full((1, 1, 1), 1e-3)}
    assert (run("fused", x)[0] - run("parallel", widened(x))[0]).abs().max() <= 1e-6
    exact = gradients("parallel", widened(x))
    for name, got in gradients("fused", x).items():
        assert (got - exact[name]).abs().max() <= 1e-5 * max(1.0, float(exact[name].abs().max())), name


def test_types_and_layouts_are_kept() -> None:
    x = inputs(2, 50)
    exact, _ = softmax_scan(x["s"], x["v"], form="fused")
    assert exact.transpose(1, 2).is_contiguous()  # as v: a layer's output needs no copy
    with torch.autocast("cpu", torch.bfloat16):
        o, state = softmax_scan(x["s"], x["v"], form="fused")
    assert torch.equal(o, exact)
    narrow = x["v"].bfloat16().requires_grad_()
    o, state = softmax_scan(x["s"].bfloat16(), narrow, form="fused")
    o.sum().backward()
    assert (o.dtype, narrow.grad.dtype) == (torch.bfloat16, torch.bfloat16)
    assert {part.dtype for part in state} == {torch.float32}
    o, state = softmax_scan(x["s"].double(), x["v"].double(), form="fused")
    assert {part.dtype for part in (o, *state)} == {torch.float64}


def ran(form_inputs: dict[str, Tensor] | None = None, **arguments: object) -> bool:
    """Whether "auto" comes out as the fused form: its result has that gradient."""
    x = form_inputs or inputs(1, 4)
    o, _ = softmax_scan(x["s"].requires_grad_(), x["v"], **arguments)  # type: ignore[arg-type]
    return type(o.grad_fn).__name__ == "_ScanBackward"


def test_auto_is_fused_where_nothing_is_lost() -> None:
    assert ran()
    wide = empty_state(1, 3, 5, dtype=torch.float64)
    assert not ran(state=wide)  # the result is float64, as always
    for backend, fused in (("scan", False), ("naive", False), ("fused", True), ("auto", True)):
        with _backend.use_backend(backend):
            assert ran() == fused
    assert ran()


@pytest.fixture
def no_numba(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which the loops cannot be loaded."""
    monkeypatch.setitem(sys.modules, "remem.core.ops.fused_loops", None)
    _backend._missing.cache_clear()
    yield
    _backend._missing.cache_clear()


@pytest.mark.usefixtures("no_numba")
def test_without_numba_auto_falls_back_and_fused_says_why() -> None:
    assert not ran()
    with pytest.raises(ValueError, match=r"'fused'.*numba.*install it"):
        ran(form="fused")
    with _backend.use_backend("fused"), pytest.raises(ValueError, match=r"'fused'.*numba"):
        ran()


def test_fused_on_another_device_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"wanted tensors on the CPU, got meta"):
        softmax_scan(
            torch.zeros(1, 1, 2, device="meta"), torch.zeros(1, 1, 2, 1, device="meta"), form="fused"
        )


def test_unknown_backend_names_the_near_one() -> None:
    with pytest.raises(ValueError, match=r"'fussed' is unknown.*did you mean 'fused'"):
        _backend.use_backend("fussed").__enter__()


def test_the_environment_chooses_for_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMEM_BACKEND", "scam")
    monkeypatch.setattr(_backend, "_asked", _backend.asked_by_environment())
    with pytest.raises(ValueError, match=r"REMEM_BACKEND: 'scam' is unknown.*'scan'"):
        ran()


def test_import_of_core_does_not_load_numba() -> None:
    script = "import sys, remem.core; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def layer_and_inputs() -> tuple[Aaren, Tensor]:
    torch.manual_seed(0)
    return Aaren(8, num_heads=2, decay=True), torch.randn(3, 37, 8)


def test_export_holds_plain_operators_whatever_the_backend() -> None:
    layer, x_BTD = layer_and_inputs()
    with _backend.use_backend("fused"):
        graph = onnx.load_from_string(export_window(layer, example=x_BTD))
    assert {node.domain for node in graph.graph.node} == {""}
    assert len(graph.functions) == 0


def test_compiled_layer_holds_the_operation() -> None:
    layer, x_BTD = layer_and_inputs()
    parts = [x_BTD.requires_grad_(), *layer.parameters()]
    whole = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        y_BTD, _ = whole(x_BTD)
        found = torch.autograd.grad(y_BTD.square().sum(), parts)
    names = {event.key for event in seen.key_averages()}
    assert {"remem::softmax_scan", "remem::softmax_scan_backward"} <= names
    eager_BTD, _ = layer(x_BTD)
    torch.testing.assert_close(y_BTD, eager_BTD)
    for got, wanted in zip(found, torch.autograd.grad(eager_BTD.square().sum(), parts), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(whole(x_BTD)[0], eager_BTD)


def test_the_operation_is_as_torch_wants_them() -> None:
    x = inputs(2, 6)
    given = [x[name].detach().requires_grad_() for name in ("s", "v", "m", "u", "w", "decay")]
    for by_time in (True, False):
        torch.library.opcheck(torch.ops.remem.softmax_scan.default, (*given, x["mask"], by_time, True))


def test_transforms_of_torch_func_see_plain_torch() -> None:
    layer, x_BTD = layer_and_inputs()
    layer.requires_grad_(False)
    y_BTD, _ = layer(x_BTD)
    each = torch.func.vmap(lambda x_TD: layer(x_TD[None])[0][0])(x_BTD)
    torch.testing.assert_close(each, y_BTD)
    value, slope = torch.func.jvp(lambda x: layer(x)[0], (x_BTD,), (x_BTD,))
    torch.testing.assert_close(value, y_BTD)
    step = 1e-3
    torch.testing.assert_close(
        slope,
        (layer(x_BTD * (1 + step))[0] - layer(x_BTD * (1 - step))[0]) / (2 * step),
        rtol=1e-2,
        atol=1e-3,
    )


def test_copies_and_modes_without_gradients() -> None:
    layer, x_BTD = layer_and_inputs()
    y_BTD, state = layer(x_BTD)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            again_BTD, again = copy.deepcopy(layer)(x_BTD)
            assert torch.equal(again_BTD, y_BTD)
            assert all(torch.equal(a, b) for a, b in zip(again, state, strict=True))
    with torch.no_grad():
        assert not softmax_scan(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2, 1))[0].requires_grad


def test_empty_batches_and_states_alone() -> None:
    o, state = softmax_scan(torch.zeros(0, 2, 7), torch.zeros(0, 2, 7, 3), form="fused")
    assert (o.shape, state.w.shape) == ((0, 2, 7, 3), (0, 2, 3))
    v = torch.randn(1, 1, 9, 2).requires_grad_()
    _, state = softmax_scan(torch.zeros(1, 1, 9), v, form="fused")
    (state.w.sum() + state.u.sum()).backward()  # o is not used
    assert torch.equal(v.grad, torch.ones_like(v))

"""The Triton kernels against the loops in torch: on a GPU where there is one, else in triton's interpreter on the CPU.

tests/conftest.py turns the interpreter on. It takes a millisecond a number, so shapes are tiny, and constants that
cut the work are made smaller for some tests, so that several pieces meet.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from remem.core import Aaren, LandmarkAttention
from remem.core.ops import SoftmaxState, _backend, empty_state, softmax_scan
from remem.core.ops.delta_rule import delta_rule
from remem.core.ops.grouped_softmax import grouped_softmax, grouped_softmax_naive
from remem.core.ops.titans import MomentumState, titans

pytest.importorskip("triton", reason="triton is not installed (extra: kernels)")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
on_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
pytestmark = pytest.mark.skipif(
    DEVICE == "cpu" and not _backend.interpreted(), reason="needs a CUDA device, or TRITON_INTERPRET=1"
)


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Memory that torch gives out is full of NaN: what a kernel does not write is seen."""
    if DEVICE == "cpu":
        torch.utils.deterministic.fill_uninitialized_memory = True
        torch.use_deterministic_algorithms(True)
        yield
        torch.use_deterministic_algorithms(False)
    else:
        yield


def scan_inputs(
    batch: int, time: int, *, width: int = 3, scale: float = 5.0, layout: str = "time first"
) -> dict[str, Tensor]:
    """s, v, decay, mask with one masked row, m, u, w of a state in the middle of something."""
    random = torch.Generator().manual_seed(batch + time)

    def heads(x_BTH_: Tensor) -> Tensor:
        x_BHT_ = x_BTH_.to(DEVICE).transpose(1, 2)
        return x_BHT_ if layout == "time first" else x_BHT_.contiguous()

    mask = torch.rand(batch, time, generator=random) < 0.7
    mask[0] = False
    x = {
        "s": heads(scale * torch.randn(batch, time, 2, generator=random)),
        "v": heads(torch.randn(batch, time, 2, width, generator=random)),
        "decay": heads(torch.rand(batch, time, 2, generator=random)),
        "mask": mask,
        "m": torch.randn(batch, 2, generator=random),
        "u": torch.rand(batch, 2, generator=random) + 1,
        "w": torch.randn(batch, 2, width, generator=random),
    }
    return {name: t.to(DEVICE) for name, t in x.items()}


def scan(form: str, x: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """o, and the state in units that do not depend on the form."""
    state = SoftmaxState(x["m"], x["u"], x["w"]) if "m" in x else None
    o, after = softmax_scan(x["s"], x["v"], state, decay_BHT=x.get("decay"), mask_BT=x.get("mask"), form=form)
    unit = torch.exp(after.m - after.m.detach().double().amax()).to(after.u.dtype)
    return o, after.u * unit, after.w * unit[..., None]


def gradients(form: str, x: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a random combination of all outputs, by name of the input."""
    leaves = {name: t.detach().requires_grad_(t.is_floating_point()) for name, t in x.items()}
    random = torch.Generator().manual_seed(5)
    outputs = scan(form, leaves)
    loss = sum((torch.randn(y.shape, generator=random).to(y) * y).sum() for y in outputs)
    wanted = {name: t for name, t in leaves.items() if t.requires_grad}
    found = torch.autograd.grad(loss, list(wanted.values()), materialize_grads=True)  # T may be 0
    return dict(zip(wanted, found, strict=True))


def widened(x: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.double() if t.is_floating_point() else t for name, t in x.items()}


def compare(x: dict[str, Tensor], *, gradient: float = 1e-5) -> None:
    """Values and gradients in float32 beside the loop in float64."""
    for got, wanted in zip(scan("triton", x), scan("naive", widened(x)), strict=True):
        torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-6)
    if not x["s"].numel() and "m" not in x:
        return  # nothing that a gradient could reach
    exact = gradients("naive", widened(x))
    for name, got in gradients("triton", x).items():
        torch.testing.assert_close(got.double(), exact[name], rtol=1e-5, atol=gradient, msg=name)


@pytest.mark.parametrize("time", [0, 1, 13])
@pytest.mark.parametrize("without", [(), ("mask", "decay"), ("m", "u", "w")])
def test_scan_as_the_loop(time: int, without: tuple[str, ...]) -> None:
    x = scan_inputs(2, time, layout="heads first" if without else "time first")
    compare({name: t for name, t in x.items() if name not in without})


@pytest.mark.parametrize("order", ["random", "ascending"])
def test_scan_at_scores_of_size_300(order: str) -> None:
    x = scan_inputs(1, 37, scale=300.0)
    x = {"s": x["s"].sort(-1).values if order == "ascending" else x["s"], "v": x["v"]}
    compare(x)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks of scores, parts of time and blocks of the width, as for long sequences."""
    from remem.core.kernels import softmax_scan_triton as programs

    monkeypatch.setattr(programs, "CHUNK", 8)
    monkeypatch.setattr(programs, "walk", lambda *_: programs.Walk(tile=4, block=2, part=8))


@pytest.mark.usefixtures("small_pieces")
def test_scan_in_chunks_parts_and_blocks() -> None:
    compare(scan_inputs(2, 27, width=5))


@pytest.mark.usefixtures("small_pieces")
def test_scan_in_pieces_with_the_state_handed_over() -> None:
    x = scan_inputs(2, 11)
    s, v, decay, mask = x["s"], x["v"], x["decay"], x["mask"]
    whole, end = softmax_scan(s, v, decay_BHT=decay, mask_BT=mask, form="triton")
    state, pieces = None, []
    for a, b in ((0, 1), (1, 1), (1, 7), (7, 11)):
        o, state = softmax_scan(
            s[..., a:b],
            v[..., a:b, :],
            state,
            decay_BHT=decay[..., a:b],
            mask_BT=mask[:, a:b],
            form="triton",
        )
        pieces.append(o)
    torch.testing.assert_close(torch.cat(pieces, 2), whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(state.w, end.w, rtol=2e-5, atol=1e-6)


def test_scan_never_looks_at_masked_steps() -> None:
    x = scan_inputs(2, 9)
    clean = scan("triton", x), gradients("triton", x)
    hidden = ~x["mask"][:, None, :]
    dirty = x | {
        "s": x["s"].masked_fill(hidden, torch.nan),
        "v": x["v"].masked_fill(hidden[..., None], torch.nan),
        "decay": x["decay"].masked_fill(hidden, torch.nan),
    }
    for got, wanted in zip(scan("triton", dirty), clean[0], strict=True):
        assert torch.equal(got, wanted)
    for name, got in gradients("triton", dirty).items():
        assert torch.equal(got, clean[1][name]), name


def test_scan_keeps_types_and_layouts() -> None:
    x = scan_inputs(1, 9)
    exact, _ = softmax_scan(x["s"], x["v"], form="triton")
    assert exact.transpose(1, 2).is_contiguous()  # as v: a layer's output needs no copy
    narrow = x["v"].bfloat16().requires_grad_()
    o, state = softmax_scan(x["s"].bfloat16(), narrow, form="triton")
    o.sum().backward()
    assert (o.dtype, narrow.grad.dtype) == (torch.bfloat16, torch.bfloat16)
    assert {part.dtype for part in state} == {torch.float32}
    wanted, after = softmax_scan(x["s"].bfloat16(), narrow.detach(), form="naive")
    torch.testing.assert_close(o, wanted, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(state.w, after.w, rtol=1e-5, atol=1e-5)  # sums are not narrow
    thirds = torch.stack([x["v"]] * 3, 2)[:, :, 1]  # values among queries and keys: any strides
    assert torch.equal(softmax_scan(x["s"], thirds, form="triton")[0], exact)
    wide, _ = softmax_scan(x["s"].double(), x["v"].double(), form="triton")
    exact, _ = softmax_scan(x["s"].double(), x["v"].double(), form="naive")
    torch.testing.assert_close(wide, exact, rtol=1e-13, atol=1e-13)


def test_scan_has_second_derivatives() -> None:
    def twice(form: str) -> Tensor:
        x = torch.linspace(-1, 1, 10, dtype=torch.float64, device=DEVICE).view(1, 2, 5).requires_grad_()
        o, _ = softmax_scan(x, torch.stack([x.sin(), x**2], -1), form=form)
        (first,) = torch.autograd.grad(o.square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    torch.testing.assert_close(twice("triton"), twice("naive"))


def test_compiled_layer_holds_the_operation() -> None:
    torch.manual_seed(0)
    layer, x_BTD = Aaren(4, num_heads=1, decay=True).to(DEVICE), torch.randn(2, 6, 4, device=DEVICE)
    parts = [x_BTD.requires_grad_(), *layer.parameters()]
    with _backend.use_backend("triton"):
        whole = torch.compile(layer, fullgraph=True, backend="aot_eager")
        y_BTD, _ = whole(x_BTD)
        found = torch.autograd.grad(y_BTD.square().sum(), parts)
    eager_BTD, _ = layer(x_BTD)
    torch.testing.assert_close(y_BTD, eager_BTD)
    for got, wanted in zip(found, torch.autograd.grad(eager_BTD.square().sum(), parts), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def chunk_inputs(time: int, *, keys: int = 5, values: int = 3) -> tuple[list[Tensor], Tensor]:
    """q, k, v, write, log_keep, log_momentum, w, s, and a mask."""
    random = torch.Generator().manual_seed(time)
    shapes = [(time, keys), (time, keys), (time, values), (time,), (time,), (time,)]
    x = [torch.randn(2, 2, *shape, generator=random) for shape in [*shapes, (keys, values), (keys, values)]]
    x[1] = torch.nn.functional.normalize(x[1], dim=-1)
    x[3:6] = [x[3].sigmoid(), *(-part.exp() for part in x[4:6])]
    mask = torch.rand(2, time, generator=random) < 0.7
    return [part.to(DEVICE) for part in x], mask.to(DEVICE)


def chunk_outputs(rule: str, form: str, x: list[Tensor], mask_BT: Tensor) -> list[Tensor]:
    q, k, v, write, log_keep, log_momentum, w, s = x
    with _backend.use_backend("triton" if form == "chunk" else "auto"):
        options = {"mask_BT": mask_BT, "chunk_size": 4, "form": form}
        if rule == "titans":
            y, after = titans(q, k, v, write, log_keep, log_momentum, MomentumState(w, s), **options)
            return [y, *after]
        log_keep = log_keep if rule == "gated_delta" else None
        return [*delta_rule(q, k, v, write, w, log_keep_BHT=log_keep, **options)]


@pytest.mark.parametrize("rule", ["delta", "gated_delta", "titans"])
@pytest.mark.parametrize("time", [0, 1, 11])
def test_memories_in_chunks_as_the_loop_to_second_order(rule: str, time: int) -> None:
    x, mask = chunk_inputs(time)
    found = []
    for form, dtype in (("chunk", torch.float32), ("naive", torch.float64)):
        leaves = [part.to(dtype).requires_grad_() for part in x]
        outputs = chunk_outputs(rule, form, leaves, mask)
        random = torch.Generator().manual_seed(1)
        loss = sum((torch.randn(y.shape, generator=random).to(y) * y).sum() for y in outputs)
        options = {"allow_unused": True, "materialize_grads": True}
        first = torch.autograd.grad(loss, leaves, create_graph=True, **options)
        rough = sum(part.square().sum() for part in first)
        second = torch.autograd.grad(rough, leaves, **options) if rough.requires_grad else ()
        found.append([*outputs, *first, *second])
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-5)


def test_memories_with_a_type_that_has_no_kernel() -> None:
    x, mask = chunk_inputs(3)
    with pytest.raises(ValueError, match=r"'triton'.*float32, got torch.float64"):
        chunk_outputs("delta", "chunk", [part.double() for part in x], mask)


def test_compiled_memory_holds_the_operation() -> None:
    x, mask = chunk_inputs(6)
    with _backend.use_backend("triton"):
        whole = torch.compile(delta_rule, fullgraph=True, backend="aot_eager")
        y, w = whole(*x[:4], x[6], mask_BT=mask)
        y_eager, w_eager = delta_rule(*x[:4], x[6], mask_BT=mask)
    torch.testing.assert_close(y, y_eager)
    torch.testing.assert_close(w, w_eager)


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_grouped_softmax_as_its_definition(scale: float) -> None:
    random = torch.Generator().manual_seed(0)
    score = scale * torch.randn(2, 2, 3, 5, 3, generator=random)
    landmark = scale * torch.randn(2, 2, 3, 5, generator=random)
    own = torch.zeros(2, 1, 3, 5, 3, dtype=torch.bool)
    own[..., 3, :2] = True
    past = torch.rand(2, 1, 3, 5, generator=random) < 0.6
    past[..., 3], past[0, 0, 0], own[0, 0, 0] = False, False, False  # and a query that sees nothing
    score, landmark, own, past = (x.to(DEVICE) for x in (score, landmark, own, past))
    exact = [score.double().requires_grad_(), landmark.double().requires_grad_()]
    wanted = torch.stack(
        [
            grouped_softmax_naive(exact[0][b, h, t], exact[1][b, h, t], own[b, 0, t], past[b, 0, t])
            for b in range(2)
            for h in range(2)
            for t in range(3)
        ]
    ).view_as(score)
    longer = torch.nn.functional.pad(score, (0, 1))  # scores lie beside those of the landmarks
    inputs = [longer.requires_grad_(), landmark.requires_grad_()]
    with _backend.use_backend("triton"):
        got = grouped_softmax(inputs[0][..., :-1], inputs[1], own, past)
        one = grouped_softmax(inputs[0][:, :, 0, :, :-1], inputs[1][:, :, 0], own[:, :, 0], past[:, :, 0])
        none = grouped_softmax(score[:, :, :0], landmark[:, :, :0], own[:, :, :0], past[:, :, :0])
    assert none.shape == (2, 2, 0, 5, 3)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-6)
    assert torch.equal(one, got[:, :, 0])
    to = torch.randn(wanted.shape, generator=random, dtype=torch.float64).to(DEVICE)
    found = torch.autograd.grad(got, inputs, to.float(), create_graph=True)
    known = torch.autograd.grad(wanted, exact, to, create_graph=True)
    again = torch.autograd.grad(got, inputs, to.float(), retain_graph=True)
    rights = torch.nn.functional.pad(known[0], (0, 1)), known[1]
    for first, kernel, right in zip(found, again, rights, strict=True):
        torch.testing.assert_close(kernel.double(), right, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(first.double(), right, rtol=1e-5, atol=1e-6)
    second = torch.autograd.grad(found[1].square().sum(), inputs[1])[0]
    right = torch.autograd.grad(known[1].square().sum(), exact[1])[0]
    torch.testing.assert_close(second.double(), right, rtol=1e-4, atol=1e-5)


def test_landmark_attention_compiles_around_its_kernel() -> None:
    torch.manual_seed(0)
    layer, x_BTD = LandmarkAttention(4, num_heads=1, block_size=2, budget=2), torch.randn(1, 5, 4)
    layer, x_BTD = layer.to(DEVICE), x_BTD.to(DEVICE)
    with _backend.use_backend("scan"):
        wanted_BTD, _ = layer(x_BTD)
    with _backend.use_backend("triton"):
        whole = torch.compile(layer, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(whole(x_BTD)[0], wanted_BTD)


COMPILE = """
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

class NoDriver:
    get_current_device = get_current_stream = lambda self, *_: 0
    get_current_target = lambda self: GPUTarget("cuda", 90, 32)

driver.set_active(NoDriver())
run = JITFunction.run
names = set()

def compile_only(self, *args, grid, warmup, **options):
    done = run(self, *args, grid=grid, warmup=True, **options)
    names.add(self.__name__ if done.asm["cubin"] else "no code")

JITFunction.run = compile_only

from remem.core.kernels import chunk_walk, grouped_softmax, softmax_scan, softmax_scan_triton
softmax_scan_triton.CHUNK = 32
softmax_scan_triton.walk = lambda *_: softmax_scan_triton.Walk(16, 16, 32)
s, v, mask = torch.empty(2, 3, 50), torch.empty(2, 50, 3, 64), torch.empty(2, 50, dtype=torch.bool)
m, w = torch.empty(2, 3), torch.empty(2, 3, 64)
for dtype, decay, real in ((torch.float32, s, mask), (torch.bfloat16, None, None)):
    values = v.to(dtype).transpose(1, 2)
    o, *state, kept = softmax_scan._run_scan(s, values, m, m, w, decay, real, True, True)
    softmax_scan._run_backward(values, o, kept, real, *state[1:], o, *state[1:], True, decay is not None)
for scales, rows in ((1, 20), (4, 40)):
    matrices = [torch.empty(2, 3, 4, *size) for size in ((scales,), (rows, 16), (16, rows), (rows, 20))]
    for back in (True, False):
        chunk_walk._run(*matrices, torch.empty(2, 3, rows, 20), back)
score, see = torch.empty(2, 3, 5, 6, 7), torch.empty(2, 3, 5, 6, 7, dtype=torch.bool)
inputs = score, score[..., 0], see, see[..., 0]
grouped_softmax._run(*inputs)
grouped_softmax._run_backward(*inputs, score)
print(*sorted(names))
"""


def test_programs_compile_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    """What the interpreter lets pass and the compiler does not: types that change in a branch, shapes, and the like."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "_backs",
        "_gradients",
        "_means",
        "_shares",
        "_totals",
        "_walk",
        "_weights",
    ]


def test_triton_asked_for_runs_or_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    x = scan_inputs(1, 3)
    with _backend.use_backend("triton"):
        o, _ = softmax_scan(x["s"].requires_grad_(), x["v"])
    assert "kernels" in type(o.grad_fn).__module__ or type(o.grad_fn).__name__ == "_ScanBackward"
    with pytest.raises(ValueError, match=r"'triton'.*CUDA device, got meta"):
        softmax_scan(x["s"].to("meta"), x["v"].to("meta"), form="triton")
    monkeypatch.setattr(_backend, "missing_triton", lambda: "no module named triton")
    with pytest.raises(ValueError, match=r"'triton'.*no module named triton.*install remem\[kernels\]"):
        softmax_scan(x["s"], x["v"], form="triton")


def test_auto_takes_kernels_on_a_gpu_where_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    v = torch.empty(1, 2, 3, 4, device="meta")
    assert _backend.softmax_form(v, fits=True) == "parallel"
    monkeypatch.setattr(_backend, "_on_gpu", lambda _: True)
    assert _backend.softmax_form(v, fits=True) == "triton"
    assert _backend.softmax_form(v, fits=False) == "parallel"


def test_import_of_core_does_not_load_triton() -> None:
    # torch itself loads it with its compiler, so all that counts is our own part
    script = (
        "import sys, remem.core; sys.exit(any('_triton' in m for m in sys.modules if m.startswith('remem')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@on_gpu
def test_scan_of_a_long_sequence_on_the_device() -> None:
    """Everything is cut into pieces here: chunks, tiles, blocks, and parts in the row of batch 1."""
    for batch in (1, 40):
        x = scan_inputs(batch, 5000, width=80)
        for got, wanted in zip(scan("triton", x), scan("parallel", widened(x)), strict=True):
            torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-6)
        exact = gradients("parallel", widened(x))
        for name, got in gradients("triton", x).items():
            torch.testing.assert_close(got.double(), exact[name], rtol=1e-4, atol=1e-4, msg=name)
    assert empty_state(1, 2, 3, device=torch.device(DEVICE)).w.device.type == "cuda"

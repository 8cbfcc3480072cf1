"""The clip gather against a loop, and the laws, of CAKT's memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from remem.core.layers.same_concept import ClipBlock, SameConcept, last_same
from remem.core.recall_laws import check_recall
from remem.core.state import nbytes


def answers(batch: int, time: int, concepts: int, *, seed: int = 0) -> Tensor:
    """x_BTF with nothing but the concept, 0..concepts - 1."""
    random = torch.Generator().manual_seed(seed)
    x_BTF = torch.zeros(batch, time, 5)
    x_BTF[..., 3] = torch.randint(0, concepts, (batch, time), generator=random)
    return x_BTF


def looped_clips(layer: SameConcept, written_BTD: Tensor, x_BTF: Tensor, mask_BT: Tensor) -> Tensor:
    """One interaction after the other, as the paper tells it."""
    batch, time, width = written_BTD.shape
    clip_BTKD = torch.zeros(batch, time, layer.last, width)
    decay = F.softplus(layer.raw_decay)
    for b in range(batch):
        past: list[tuple[int, Tensor]] = []
        for t in range(time):
            concept = int(x_BTF[b, t, 3])
            found = [
                written * torch.exp(-decay * age)
                for age, (its, written) in enumerate(reversed(past), 1)
                if its == concept != 0 and age <= layer.window
            ][: layer.last]
            for place, frame in enumerate(found):
                clip_BTKD[b, t, layer.last - 1 - place] = frame
            if mask_BT[b, t]:
                past.append((concept, written_BTD[b, t]))
    return clip_BTKD


@pytest.mark.parametrize(("last", "window"), [(1, 1), (3, 8), (8, 200)])
@pytest.mark.parametrize("share", [1.0, 0.6, 0.0])
def test_the_gather_equals_a_loop_exactly(last: int, window: int, share: float) -> None:
    torch.manual_seed(0)
    layer = SameConcept(9, last=last, window=window, decay=0.1)
    written_BTD, x_BTF = torch.randn(3, 60, 9), answers(3, 60, 5)
    mask_BT = torch.rand(3, 60) < share
    found: list[Tensor] = []
    layer._convolved = lambda clip: found.append(clip) or clip.sum(2)  # type: ignore[method-assign, func-returns-value]
    layer(torch.randn(3, 60, 9), written_BTD, x_BTF=x_BTF, mask_BT=mask_BT)
    assert found[0].equal(looped_clips(layer, written_BTD, x_BTF, mask_BT))


def test_the_gather_goes_on_from_a_state() -> None:
    torch.manual_seed(0)
    layer = SameConcept(9, last=3, window=8)
    written_BTD, x_BTF, mask_BT = torch.randn(2, 50, 9), answers(2, 50, 4), torch.rand(2, 50) < 0.7
    found: list[Tensor] = []
    layer._convolved = lambda clip: found.append(clip) or clip.sum(2)  # type: ignore[method-assign, func-returns-value]
    state = layer.init_state(2)
    for part in (slice(0, 1), slice(1, 4), slice(4, 33), slice(33, 50)):
        _, state = layer(
            written_BTD[:, part],
            written_BTD[:, part],
            state,
            x_BTF=x_BTF[:, part],
            mask_BT=mask_BT[:, part],
        )
    assert torch.cat(found, 1).equal(looped_clips(layer, written_BTD, x_BTF, mask_BT))


def test_index_table_by_hand() -> None:
    """Seen: concepts 2 3 2 0 2 of ages 5 4 3 2 1, behind one that is out of sight."""
    concept_BS = torch.tensor([[2, 2, 3, 2, 0, 2]])
    for concept, places, ages in (
        (2, [3, 5], [3, 1]),
        (3, [None, 2], [0, 4]),
        (4, [None, None], [0, 0]),
        (0, [None, None], [0, 0]),
    ):
        place_BTK, age_BTK = last_same(
            concept_BS, torch.tensor([[concept]]), torch.tensor([[1]]), last=2, window=5
        )
        assert age_BTK.tolist() == [[ages]]
        assert [
            p if a else None for p, a in zip(place_BTK[0, 0].tolist(), age_BTK[0, 0].tolist(), strict=True)
        ] == places


def test_laws(record_property) -> None:
    checks = check_recall(lambda d: SameConcept(d, last=3, window=6), d_model=4)
    record_property("told", f"SameConcept: {len(checks)} laws held on {sum(checks.values())} cases")


def test_long_histories_forget_what_left_the_window() -> None:
    """Interactions are found in the window only; the two LSTMs remember more."""
    torch.manual_seed(0)
    layer = SameConcept(9, last=4, window=10)
    written_BTD = torch.randn(1, 40, 9, requires_grad=True)
    x_BTF = torch.zeros(1, 40, 4)
    x_BTF[..., 3] = 1
    layer.overall.requires_grad_(False)
    layer._convolved = lambda clip: clip.sum(2)  # type: ignore[method-assign]
    found: list[Tensor] = []
    layer.gates.register_forward_hook(lambda _m, args, _y: found.append(args[0]))
    layer(torch.zeros(1, 40, 9), written_BTD, x_BTF=x_BTF)
    (gradient,) = torch.autograd.grad(found[0][0, 30, :9].sum(), written_BTD)
    assert (gradient[0].abs().sum(-1) > 0).tolist() == [26 <= t < 30 for t in range(40)]


def test_an_unknown_concept_finds_nothing_and_reads_are_finite() -> None:
    torch.manual_seed(0)
    layer = SameConcept(9)
    query_BTD, written_BTD = torch.randn(1, 12, 9), torch.randn(1, 12, 9)
    x_BTF = torch.zeros(1, 12, 4)
    read_BTD, _ = layer(query_BTD, written_BTD, x_BTF=x_BTF)
    x_BTF[..., 3] = torch.arange(1, 13)
    assert read_BTD.isfinite().all()
    assert layer(query_BTD, written_BTD, x_BTF=x_BTF)[0].equal(read_BTD)
    x_BTF[..., 3] = torch.nan
    assert layer(query_BTD, written_BTD, x_BTF=x_BTF)[0].equal(read_BTD)
    x_BTF[..., 3] = 1
    assert not layer(query_BTD, written_BTD, x_BTF=x_BTF)[0].equal(read_BTD)


def test_state_starts_at_zero_and_has_the_bytes_it_tells() -> None:
    layer = SameConcept(64)
    assert nbytes(layer.init_state(1)) == 128 * (4 * 64 + 8) + 16 * 64 == 34_816
    assert all(not t.any() for t in (layer.init_state(2).written, *layer.init_state(2).overall))


def test_decay_cannot_grow() -> None:
    layer = SameConcept(9, decay=0.02)
    assert F.softplus(layer.raw_decay).item() == pytest.approx(0.02)
    layer.raw_decay.data.fill_(-100.0)
    assert F.softplus(layer.raw_decay) >= 0


def test_frames_are_weighed_and_channels_mapped() -> None:
    torch.manual_seed(0)
    block = ClipBlock(4, 8, 5)
    clip = torch.randn(2, 4, 5, 3, 3)
    body = block.body(clip)
    gate = block.excitation(body.mean((1, 3, 4)))
    assert gate.shape == (2, 5)
    wanted = torch.stack([body[:, :, k] * gate[:, k, None, None, None] for k in range(5)], 2)
    torch.testing.assert_close(block(clip), F.relu(block.shortcut(clip) + wanted))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_model": 60}, "use 64"),
        ({"d_model": 64, "last": 9, "window": 8}, r"from 1 to window \(8\)"),
        ({"d_model": 64, "last": 0}, "from 1"),
        ({"d_model": 64, "decay": 0.0}, "decay is 0"),
    ],
)
def test_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SameConcept(**options)

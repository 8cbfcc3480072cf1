"""The stack: order of its parts, running features, widths, calibration."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from remem.core import Aaren, ConformalInterval, SequenceModel, Standardize
from remem.core.state import flatten
from remem.core.testing import check_layer


class Seen(NamedTuple):
    total: Tensor
    number: Tensor


class RunningMean(nn.Module):
    """The raw columns and the mean of their values so far that were not missing."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features, self.out_features = num_features, 2 * num_features

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> Seen:
        dtype = torch.float64 if dtype == torch.float64 else torch.float32
        zeros = torch.zeros(batch_size, self.num_features, device=device, dtype=dtype)
        return Seen(zeros, zeros.clone())

    def forward(
        self, x_BTF: Tensor, state: Seen | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, Seen]:
        state = self.init_state(len(x_BTF), dtype=x_BTF.dtype) if state is None else state
        there_BTF = torch.isfinite(x_BTF)
        if mask_BT is not None:
            there_BTF = there_BTF & mask_BT[..., None]
        total = state.total[:, None] + x_BTF.float().masked_fill(~there_BTF, 0.0).to(state.total).cumsum(1)
        count = state.number[:, None] + there_BTF.to(state.number).cumsum(1)
        y_BTF = torch.cat([x_BTF, (total / count.clamp(min=1)).to(x_BTF.dtype)], -1)
        after = Seen(
            torch.cat([state.total[:, None], total], 1)[:, -1],
            torch.cat([state.number[:, None], count], 1)[:, -1],
        )
        return y_BTF, after

    def step(self, x_BF: Tensor, state: Seen, *, mask_B: Tensor | None = None) -> tuple[Tensor, Seen]:
        y_B1F, state = self.forward(x_BF[:, None], state, mask_BT=None if mask_B is None else mask_B[:, None])
        return y_B1F[:, 0], state


def raw(batch: int = 4, time: int = 30) -> Tensor:
    random = torch.Generator().manual_seed(0)
    x_BTF = 1000 + 50 * torch.randn(batch, time, 3, generator=random)
    return x_BTF.where(torch.rand(batch, time, 3, generator=random) > 0.2, torch.nan)


def model(**options: object) -> SequenceModel:
    torch.manual_seed(0)
    preprocess = Standardize([f"{kind}_{i}" for kind in ("raw", "mean") for i in range(3)])
    return SequenceModel(3, 1, d_model=8, features=RunningMean(3), preprocess=preprocess, **options).eval()


def test_running_features_see_raw_values_and_are_standardised() -> None:
    x_BTF = raw()
    mask_BT = torch.arange(30) < torch.tensor([[30], [20], [10], [30]])
    net = model().fit_preprocess(x_BTF, mask_BT)
    features, _ = net.features(x_BTF, mask_BT=mask_BT)
    rows = features[mask_BT][:, 3:]
    torch.testing.assert_close(net.preprocess.mean_F[3:], rows.mean(0))
    y_BTO, state = net(x_BTF, mask_BT=mask_BT)
    assert torch.isfinite(y_BTO).all()
    assert list(flatten(state))[:3] == ["features.total", "features.number", "blocks.0.m"]


def test_the_laws_hold_with_running_features() -> None:
    def factory(width: int) -> SequenceModel:
        return model().fit_preprocess(raw())

    checks = check_layer(factory, width=3, examples=4, export=False)
    assert len(checks) == 13


def test_no_blocks_is_a_network_on_the_running_features() -> None:
    net = model(num_layers=0)
    y_BTO, state = net(raw())
    assert state.blocks == ()
    assert y_BTO.shape == (4, 30, 1)
    assert y_BTO.std() > 0


def test_calibration_gives_point_lo_hi() -> None:
    net = SequenceModel(3, 1, d_model=8)
    x_BTF = torch.randn(2, 5, 3)
    z_BT1, _ = net(x_BTF)
    net.calibration = ConformalInterval().fit(torch.zeros(99), torch.linspace(-0.5, 0.5, 99).exp())
    y_BT3, _ = net(x_BTF)
    torch.testing.assert_close(y_BT3[..., :1], z_BT1.exp())
    assert (y_BT3[..., 1] < y_BT3[..., 0]).all()
    assert (y_BT3[..., 0] < y_BT3[..., 2]).all()


def test_dropout_only_in_training() -> None:
    net = SequenceModel(3, 1, d_model=16, dropout=0.5)
    x_BTF = torch.randn(2, 5, 3)
    assert not torch.equal(net(x_BTF)[0], net(x_BTF)[0])
    net.eval()
    assert torch.equal(net(x_BTF)[0], net(x_BTF)[0])


def test_widths_must_meet() -> None:
    with pytest.raises(ValueError, match="takes 2 columns, but gets 6 from the running features"):
        SequenceModel(3, 1, features=RunningMean(3), preprocess=Standardize(["a", "b"]))
    with pytest.raises(ValueError, match="takes 2 columns, but gets 3 from the input"):
        SequenceModel(3, 1, preprocess=Standardize(["a", "b"]))


def test_learns_a_running_maximum_position() -> None:
    """The stack trains: report the value that came with the largest key so far."""
    torch.manual_seed(0)
    net = SequenceModel(2, 1, layer=lambda d: Aaren(d, num_heads=2), d_model=16, num_layers=1)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(150):
        x_BTF = torch.rand(32, 20, 2)
        best_BT = x_BTF[..., 0].cummax(1).indices
        wanted_BT = x_BTF[..., 1].gather(1, best_BT)
        loss = (net(x_BTF)[0][..., 0] - wanted_BT).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.25 / 12  # a quarter of the variance of a uniform number

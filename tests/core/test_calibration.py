"""Conformal intervals: order statistics, coverage on fresh rows, bins, refusals."""

from __future__ import annotations

import pytest
import torch

from remem.core import ConformalInterval


def test_offsets_are_the_right_order_statistics() -> None:
    error_N = torch.arange(-9.0, 10.0)  # 19 rows at 90 %: the extremes are needed
    layer = ConformalInterval(confidence=0.9).fit(torch.zeros(19), error_N.exp())
    torch.testing.assert_close(layer(torch.zeros(2, 1)).log(), torch.tensor([[0.0, -9.0, 9.0]] * 2))
    layer = ConformalInterval(confidence=0.8).fit(torch.zeros(19), error_N.exp())
    torch.testing.assert_close(layer(torch.zeros(1, 1)).log(), torch.tensor([[0.0, -8.0, 8.0]]))


def test_too_few_rows_are_refused_with_the_number_wanted() -> None:
    with pytest.raises(ValueError, match=r"18 rows in a bin, but confidence 0\.9 wants at least 19"):
        ConformalInterval(confidence=0.9).fit(torch.zeros(18), torch.ones(18))


def test_coverage_on_fresh_rows() -> None:
    random = torch.Generator().manual_seed(0)
    covered = []
    for _ in range(400):
        z = torch.randn(60, generator=random)
        y = (z[:59] + 0.3 * torch.randn(59, generator=random)).exp()
        layer = ConformalInterval(confidence=0.9).fit(z[:59], y)
        new = float((z[59:] + 0.3 * torch.randn(1, generator=random)).exp())
        _, lo, hi = layer(z[59:, None])[0].tolist()
        covered.append(lo <= new <= hi)
    assert 0.86 <= sum(covered) / 400 <= 0.95  # 0.9 guaranteed; 60 ranks and two tails of 3 give exactly 0.9


def test_point_stays_inside() -> None:
    layer = ConformalInterval(confidence=0.8).fit(torch.zeros(50), torch.linspace(2.0, 3.0, 50))
    point, lo, hi = layer(torch.zeros(1, 1))[0].tolist()
    assert lo == point == 1.0
    assert hi > 2.8


def test_bins_follow_the_spread() -> None:
    random = torch.Generator().manual_seed(0)
    z = torch.linspace(0, 1, 400)
    y = (z + torch.where(z < 0.5, 0.01, 1.0) * torch.randn(400, generator=random)).exp()
    layer = ConformalInterval(num_bins=2).fit(z, y)
    _, lo, hi = layer(torch.tensor([[-5.0], [0.2], [0.8], [5.0]])).log().unbind(-1)
    width = hi - lo
    assert (width[:2] < 0.1).all()
    assert (width[2:] > 2).all()
    other = ConformalInterval(num_bins=2)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(z[:, None]), layer(z[:, None]))


@pytest.mark.parametrize("y", [[1.0, -1.0], [1.0, float("nan")]])
def test_bad_targets(y: list[float]) -> None:
    with pytest.raises(ValueError, match="positive, finite y"):
        ConformalInterval().fit(torch.zeros(2), torch.tensor(y))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="confidence is 90"):
        ConformalInterval(confidence=90)
    with pytest.raises(ValueError, match=r"z is \(3,\), y \(4,\)"):
        ConformalInterval().fit(torch.zeros(3), torch.ones(4))

"""Standardize: statistics of training rows only, missing values, logs, constants."""

from __future__ import annotations

import math

import pytest
import torch

from remem.core import Standardize

NAN = float("nan")


def test_statistics_skip_masked_and_missing_values() -> None:
    x_NTF = torch.tensor([[[1.0, 10.0], [3.0, NAN], [99.0, 99.0]], [[5.0, 30.0], [7.0, 20.0], [NAN, NAN]]])
    mask_NT = torch.tensor([[True, True, False], [True, True, False]])
    layer = Standardize(["a", "b"]).fit(x_NTF, mask_NT)
    torch.testing.assert_close(layer.mean_F, torch.tensor([4.0, 20.0]))
    torch.testing.assert_close(layer.std_F, torch.tensor([math.sqrt(5), math.sqrt(200 / 3)]))
    z = layer(torch.tensor([[4.0, NAN], [4.0 + math.sqrt(5), 20.0]]))
    torch.testing.assert_close(z, torch.tensor([[0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]]))


def test_large_values_keep_their_digits() -> None:
    x_NF = 1e6 + torch.tensor([[0.0], [1.0], [2.0]])
    layer = Standardize(["cycle"], flags=False).fit(x_NF)
    torch.testing.assert_close(layer(x_NF)[:, 0], torch.tensor([-1.5, 0.0, 1.5]) * math.sqrt(2 / 3))


def test_log_columns_stop_at_the_smallest_value_seen() -> None:
    x_NF = torch.tensor([[1e-4, -1.0], [1e-2, 1.0], [0.0, 0.0]])
    layer = Standardize(["variance", "other"], log=["variance"], flags=False).fit(x_NF[:2])
    torch.testing.assert_close(layer(x_NF)[:, 0], torch.tensor([-1.0, 1.0, -1.0]))
    torch.testing.assert_close(layer(x_NF)[:, 1], torch.tensor([-1.0, 1.0, 0.0]))


def test_infinities_are_missing_and_outliers_are_clipped() -> None:
    layer = Standardize(["a"], clip=5.0).fit(torch.tensor([[-1.0], [1.0], [NAN]]))
    z = layer(torch.tensor([[math.inf], [1e30], [-1e30], [NAN]]))
    assert z.tolist() == [[0.0, 1.0], [5.0, 0.0], [-5.0, 0.0], [0.0, 1.0]]


def test_flags_never_seen_stay_silent() -> None:
    layer = Standardize(["never", "sometimes"]).fit(torch.tensor([[1.0, NAN], [2.0, 3.0]]))
    assert layer(torch.full((1, 2), NAN)).tolist() == [[0.0, 0.0, 0.0, 1.0]]


def test_constant_columns_pass_at_zero() -> None:
    layer = Standardize(["a"], flags=False).fit(torch.full((9, 1), 1.1))
    torch.testing.assert_close(
        layer(torch.tensor([[1.1], [2.1]])), torch.tensor([[0.0], [1.0]]), atol=1e-6, rtol=0
    )


def test_gradients_survive_missing_values() -> None:
    layer = Standardize(["a", "b"], log=["b"])
    x_BF = torch.tensor([[NAN, NAN], [1.0, 2.0]], requires_grad=True)
    layer(x_BF).sum().backward()
    assert x_BF.grad is not None
    assert torch.isfinite(x_BF.grad).all()


def test_everything_fitted_is_in_the_state_dict() -> None:
    fitted = Standardize(["a", "b"], log=["b"]).fit(torch.rand(20, 2) + 1)
    other = Standardize(["a", "b"])
    other.load_state_dict(fitted.state_dict())
    x_BF = torch.tensor([[0.5, -3.0], [NAN, 1.2]])
    assert torch.equal(fitted(x_BF), other(x_BF))


def test_errors_name_the_column() -> None:
    with pytest.raises(ValueError, match=r"log columns \['c'\]"):
        Standardize(["a", "b"], log=["c"])
    with pytest.raises(ValueError, match="twice"):
        Standardize(["a", "a"])
    with pytest.raises(ValueError, match=r"columns \['b'\] hold no"):
        Standardize(["a", "b"]).fit(torch.tensor([[1.0, NAN]]))
    with pytest.raises(ValueError, match=r"columns \['a'\] hold no"):
        Standardize(["a"], log=["a"]).fit(torch.tensor([[-1.0]]))
    with pytest.raises(ValueError, match="x has 3 columns, wanted 1"):
        Standardize(["a"]).fit(torch.zeros(4, 3))

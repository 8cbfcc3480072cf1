"""The practice experiment runs, and its networks forecast before they see the answer."""

from __future__ import annotations

import pytest
import torch

from remem.apps.tracing.bench_practice import RECALLS, PracticeNetwork, tracing_practice


def test_quick_rows() -> None:
    rows = tracing_practice(seeds=3, quick=True)
    assert [row["model"] for row in rows] == ["oracle", *RECALLS]
    found = {row["model"]: row for row in rows}
    assert found["oracle"]["below_oracle"] == 0 == found["lstm, same size"]["over_lstm"]
    assert found["oracle"]["auc"] > 0.7
    assert all(0.4 < row["auc"] < 1 and row["nll"] < 1 for row in rows)


@pytest.mark.parametrize("name", RECALLS)
def test_networks_do_not_see_the_answer_they_forecast(name: str) -> None:
    torch.manual_seed(0)
    network = PracticeNetwork(6, RECALLS[name][0](12)).eval()
    x_BTF = torch.zeros(2, 12, 4)
    x_BTF[..., 1] = torch.randint(0, 2, (2, 12))
    x_BTF[..., 3] = torch.randint(1, 6, (2, 12))
    changed_BTF = x_BTF.clone()
    changed_BTF[:, 5:, 1] = 1 - x_BTF[:, 5:, 1]
    before, after = network(x_BTF), network(changed_BTF)
    assert after[:, :6].equal(before[:, :6])
    assert not after[:, 6:].equal(before[:, 6:])


def test_the_lstm_is_as_large_as_cakt() -> None:
    size = {
        name: sum(p.numel() for p in recall(100).parameters())  # type: ignore[attr-defined]
        for name, (recall, _) in RECALLS.items()
    }
    assert size["cakt"] <= size["lstm, same size"] < 1.1 * size["cakt"]

"""Histories cut into pieces: every answer once, in its order, beside its own features."""

import numpy as np
import pytest

from remem.apps.tracing.pieces import Featured, training_loader, whole_batches

LENGTHS = (5, 0, 1, 12, 7, 3)


@pytest.fixture
def rows():
    n = sum(LENGTHS)
    x = np.stack([np.arange(1, n + 1), np.ones(n), np.full(n, 9.0), np.ones(n)], axis=1).astype(np.float32)
    z = np.arange(1, n + 1, dtype=np.float32)[:, None] * 10
    return Featured(x, z, np.concatenate([[0], np.cumsum(LENGTHS)]), np.arange(n))


def test_pieces_cover_every_history_in_order(rows):
    bounds = rows.pieces(5)
    assert bounds.tolist() == [[0, 5], [5, 6], [6, 11], [11, 16], [16, 18], [18, 23], [23, 25], [25, 28]]
    assert rows.pieces(None).tolist() == [[0, 5], [5, 6], [6, 18], [18, 25], [25, 28]]


def test_an_epoch_holds_every_answer_once_with_its_features(rows):
    loader = training_loader(rows, cells=12, length=5, seed=1)
    batches = list(loader)
    assert len(batches) == len(loader) > 1
    seen = np.concatenate([b["x"][b["mask"]][:, 0].numpy() for b in batches])
    assert sorted(seen) == list(range(1, sum(LENGTHS) + 1))
    for b in batches:
        assert (b["z"][b["mask"]][:, 0] == 10 * b["x"][b["mask"]][:, 0]).all()
        assert b["x"][~b["mask"]][:, 1].isnan().all(), "padding is no answer"
        assert (b["x"][..., 0].diff(dim=1)[b["mask"][:, 1:]] == 1).all()


def test_the_order_changes_with_the_epoch_and_follows_from_the_seed(rows):
    def order(loader):
        return [b["x"][:, 0, 0].tolist() for b in loader]

    one, other = (training_loader(rows, cells=6, length=3, seed=4) for _ in range(2))
    first = order(one)
    assert first == order(other)
    assert first != order(one)


def test_whole_histories_know_their_rows(rows):
    found = np.zeros(sum(LENGTHS))
    for place, batch in whole_batches(rows, cells=12):
        assert batch["mask"].numel() <= 12
        found[place] = batch["x"][batch["mask"]][:, 0].numpy()
    assert found.tolist() == list(range(1, sum(LENGTHS) + 1))

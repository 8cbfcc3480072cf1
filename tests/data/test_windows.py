"""Long tables as padded batches: what is where, what is missing, and what is refused."""

import numpy as np
import polars as pl
import pytest

from remem.data.windows import Sequences, pad_sequences

FRAME = pl.DataFrame(
    {
        "cell": ["b", "b", "b", "a", "c", "c"],
        "cycle": [2, 3, 7, 1, 5, 6],
        "u": [1.0, None, 3.0, 4.0, 5.0, 6.0],
        "v": [10, 20, 30, 40, 50, 60],
        "rul": [5.0, 4.0, None, 9.0, 1.0, 0.0],
    }
)


def padded(frame=FRAME, **changed):
    wanted = {"by": "cell", "position": "cycle", "features": ["v", "u"], "target": "rul"} | changed
    return pad_sequences(frame, **wanted)


def test_steps_stand_at_their_place():
    out = padded()
    assert out.ids == ("b", "a", "c")  # order of first appearance
    assert out.names == ("v", "u")
    assert out.x.shape == (3, 3, 2)
    assert out.x.dtype == np.float32
    assert out.lengths.tolist() == [3, 1, 2]
    assert out.mask.tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    assert out.position.tolist() == [[2, 3, 7], [1, 0, 0], [5, 6, 0]]
    nan = np.nan
    np.testing.assert_array_equal(out.x[0], [[10, 1], [20, nan], [30, 3]])
    np.testing.assert_array_equal(out.x[1], [[40, 4], [0, 0], [0, 0]])  # padding is 0, never missing
    np.testing.assert_array_equal(out.y, [[5, 4, nan], [9, 0, 0], [1, 0, 0]])


def test_rows_of_one_sequence_need_not_stand_together():
    mixed = FRAME[[0, 3, 4, 1, 5, 2]]
    out = padded(mixed)
    np.testing.assert_array_equal(out.x, padded().x)
    assert out.ids == padded().ids


def test_without_a_target_there_are_no_labels():
    assert padded(target=None).y is None


def test_take_picks_trims_and_repeats():
    whole = padded()
    some = whole.take([2, 1, 2])
    assert some.ids == ("c", "a", "c")
    assert some.x.shape == (3, 2, 2)
    assert some.lengths.tolist() == [2, 1, 2]
    np.testing.assert_array_equal(some.x[0], whole.x[2, :2])
    np.testing.assert_array_equal(some.y[1], whole.y[1, :2])
    assert some.position[2].tolist() == [5, 6]
    none = whole.take([])
    assert len(none) == 0
    assert none.x.shape == (0, 0, 2)


def test_take_carries_one_label_a_sequence_and_groups():
    whole = padded(target=None)
    named = Sequences(
        whole.ids, whole.x, whole.mask, whole.position, whole.names, np.arange(3.0), ("g", "h", "g")
    )
    some = named.take(np.array([2, 0]))
    assert some.y.tolist() == [2, 0]
    assert some.groups == ("g", "g")
    assert len(some) == 2


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: padded(features=["v", "w"]), r"lacks columns \['w'\]"),
        (lambda: padded(target="life"), r"lacks columns \['life'\]"),
        (lambda: padded(FRAME.clear()), "no rows"),
        (lambda: padded(FRAME[[1, 0, 2]]), "cell b: cycle goes from 3 to 2; sort the table"),
        (lambda: padded(FRAME[[3, 0, 0]]), "cell b: cycle goes from 2 to 2"),
    ],
)
def test_tables_that_make_no_sequences_are_refused(action, words):
    with pytest.raises(ValueError, match=words):
        action()


def test_parts_that_do_not_fit_are_refused():
    x, mask, position = np.zeros((2, 3, 1), np.float32), np.ones((2, 3), bool), np.zeros((2, 3), np.int64)
    with pytest.raises(ValueError, match=r"mask and position must be \(2, 3\); got \(2, 2\)"):
        Sequences(("a", "b"), x, mask[:, :2], position, ("u",))
    with pytest.raises(ValueError, match="got 1 ids and 1 feature names"):
        Sequences(("a",), x, mask, position, ("u",))
    with pytest.raises(ValueError, match="got 2 ids and 2 feature names"):
        Sequences(("a", "b"), x, mask, position, ("u", "v"))
    with pytest.raises(ValueError, match=r"y must be \(2,\) or \(2, 3\); got \(3,\)"):
        Sequences(("a", "b"), x, mask, position, ("u",), np.zeros(3))
    with pytest.raises(ValueError, match="2 sequences want as many groups; got 1"):
        Sequences(("a", "b"), x, mask, position, ("u",), None, ("a",))

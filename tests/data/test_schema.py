"""What no table may hold, and what is brought into one form."""

import numpy as np
import polars as pl
import pytest

from remem.data.battery.schema import conform


def cycles(cell_id, cycle):
    return pl.DataFrame({"cell_id": cell_id, "cycle": cycle, "capacity_ah": [1.0] * len(cycle)})


def test_whole_numbers_name_the_same_cell_in_any_type():
    for ids in (pl.Series([7, 7]), pl.Series([7.0, 7.0]), pl.Series(["7", "7"])):
        frame, _ = conform(cycles(ids, [1, 2]), "cycles", source="t")
        assert frame["cell_id"].to_list() == ["7", "7"]
    frame, _ = conform(cycles(pl.Series([0.5, 1.0]), [1, 1]), "cycles", source="t")
    assert frame["cell_id"].to_list() == ["0.5", "1.0"]


def test_a_number_that_is_none_is_no_cell():
    with pytest.raises(ValueError, match="column cell_id has 1 nulls"):
        conform(cycles(pl.Series([1.0, np.nan]), [1, 2]), "cycles", source="t")


def test_cycles_below_zero_are_refused():
    with pytest.raises(ValueError, match="1 numbers below 0, first -3 in row 1"):
        conform(cycles(["a", "a"], [1, -3]), "cycles", source="t")
    conform(cycles(["a", "a"], [0, 1]), "cycles", source="t")


def test_text_that_is_no_curve_is_refused():
    frame = pl.DataFrame({"cell_id": ["a"], "cycle": [1], "q_ah": ["nonsense"]})
    with pytest.raises(ValueError, match="text that is no list of numbers, such as 'nonsense'"):
        conform(frame, "curves", source="t")


def test_labels_must_be_numbers_and_may_be_absent():
    known, report = conform(
        cycles(["a", "a"], [1, 2]).with_columns(rul=pl.Series([5, None])), "cycles", source="t"
    )
    assert known["rul"].to_list() == [5.0, None]
    assert len(report) == 0
    with pytest.raises(ValueError, match="column rul must be numbers; got String, first bad value 'x'"):
        conform(cycles(["a"], [1]).with_columns(rul=pl.lit("x")), "cycles", source="t")

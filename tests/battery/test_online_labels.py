"""Labels on planted fade curves, raw sequences, and the floors."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from remem.data.battery.online import NOMINAL_CAPACITY_AH, floors, label_rul, online_sequences
from remem.data.battery.schema import CHARGE_FEATURES


def cell(capacity: np.ndarray, *, name: str = "a", first: int = 1, group: str = "1") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "cell_id": name,
            "cycle": np.arange(first, first + len(capacity), dtype=np.int32),
            "capacity_ah": capacity.astype(np.float32),
            "group": group,
        }
    )


def straight(life: int, rows: int) -> np.ndarray:
    """1.0 Ah in cycle 0, 0.8 Ah (and not a hair above) in cycle `life`."""
    return 1.0 - 0.2 * np.arange(1, rows + 1) / life - 1e-6


def test_straight_fade_ends_where_it_was_planted() -> None:
    labels = label_rul(cell(straight(200, 260)), nominal_capacity_ah=1.0)
    assert labels.frame["rul"].to_list() == [200.0 - cycle for cycle in range(1, 261)]
    assert labels.cells.row(0) == ("a", 260, 200.0, "reached")


def test_end_of_life_follows_the_fraction_and_the_nominal_capacity() -> None:
    frame = cell(straight(200, 260))
    for fraction, nominal, life in ((0.9, 1.0, 100), (0.8, 1.1, 120)):
        labels = label_rul(frame, nominal_capacity_ah=nominal, eol_fraction=fraction)
        assert labels.cells["eol_cycle"][0] == life


@pytest.mark.parametrize("dips", [[50], [50, 51]])
def test_a_short_dip_is_not_the_end(dips: list[int]) -> None:
    capacity = straight(200, 260)
    capacity[dips] = 0.5
    assert label_rul(cell(capacity), nominal_capacity_ah=1.0).cells["eol_cycle"][0] == 200


def test_a_cell_that_recovers_has_not_ended() -> None:
    capacity = straight(200, 260)
    capacity[50:80] = 0.7
    assert label_rul(cell(capacity), nominal_capacity_ah=1.0).cells["eol_cycle"][0] == 200


def test_lives_are_counted_in_cycles_not_rows() -> None:
    sparse = cell(straight(200, 260)).filter(pl.col("cycle") % 3 != 0)
    labels = label_rul(sparse, nominal_capacity_ah=1.0)
    assert labels.cells["eol_cycle"][0] in (200, 202)  # the median may wait for one more row
    rul, cycle = labels.frame["rul"].to_numpy(), sparse["cycle"].to_numpy()
    assert (rul + cycle == labels.cells["eol_cycle"][0]).all()


def test_cells_that_stop_early_are_continued_or_left_out_and_counted() -> None:
    frame = pl.concat(
        [
            cell(straight(200, 260), name="whole"),
            cell(straight(200, 197), name="just short"),  # 3 cycles above the line
            cell(straight(200, 150), name="far"),
            cell(np.full(100, 0.801), name="resting"),  # near the line, but does not fall
        ]
    )
    labels = label_rul(frame, nominal_capacity_ah=1.0, tolerance=0.005)
    assert labels.cells["end"].to_list() == ["reached", "extrapolated", "not_reached", "not_reached"]
    assert labels.counts == {"reached": 1, "extrapolated": 1, "not_reached": 2, "begins_below": 0}
    assert abs(labels.cells["eol_cycle"][1] - 200) <= 2
    assert labels.frame.filter(pl.col("cell_id") == "far")["rul"].null_count() == 150
    assert label_rul(frame, nominal_capacity_ah=1.0, tolerance=0.0).counts["extrapolated"] == 0


def test_rows_of_several_cells_keep_their_order() -> None:
    frame = pl.concat([cell(straight(200, 260), name="b"), cell(straight(100, 130), name="a")])
    mixed = frame.sort("cycle", "cell_id")
    rul = label_rul(mixed, nominal_capacity_ah=1.0).frame
    wanted = label_rul(frame, nominal_capacity_ah=1.0).frame.sort("cycle", "cell_id")
    assert rul.equals(wanted)


def test_missing_capacities_do_not_move_the_end() -> None:
    frame = cell(straight(200, 260)).with_columns(
        pl.when(pl.col("cycle").is_in([10, 150, 240]))
        .then(None)
        .otherwise("capacity_ah")
        .alias("capacity_ah")
    )
    labels = label_rul(frame, nominal_capacity_ah=1.0)
    assert labels.cells["eol_cycle"][0] == 200
    assert labels.frame["rul"].null_count() == 0


def test_nominal_capacity_by_group() -> None:
    frame = pl.concat(
        [
            cell(straight(200, 260), name="small", group="s"),
            cell(2 * straight(200, 260), name="large", group="l"),
        ]
    )
    labels = label_rul(frame, nominal_capacity_ah={"s": 1.0, "l": 2.0})
    assert labels.cells["eol_cycle"].to_list() == [200, 200]
    with pytest.raises(ValueError, match=r"cell large.*group is 'l'.*\['s'\]"):
        label_rul(frame, nominal_capacity_ah={"s": 1.0})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"eol_fraction": 80.0}, "eol_fraction is 80"),
        ({"tolerance": -0.1}, "tolerance -0.1"),
        ({"nominal_capacity_ah": 0.0}, "nominal_capacity_ah is 0"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_rul(cell(straight(200, 260)), **({"nominal_capacity_ah": 1.0} | wrong))


def test_sequences_hold_raw_values_of_their_own_row_only() -> None:
    frame = cell(straight(200, 40), first=7).with_columns(
        pl.Series("v_mean", [np.inf, None, *range(38)], dtype=pl.Float32, strict=False)
    )
    steps = online_sequences(frame)
    assert steps.names == ("cycle", "capacity_ah", "v_mean")
    assert steps.y is None
    assert np.isnan(steps.x[0, :2, 2]).all()
    assert steps.x[0, 2:, 2].tolist() == list(range(38))
    assert steps.x[0, :, 0].tolist() == list(range(7, 47))
    np.testing.assert_array_equal(steps.x[0, :, 1], frame["capacity_ah"].to_numpy())
    # the future of a row changes nothing at it
    cut = online_sequences(frame.head(20))
    np.testing.assert_array_equal(cut.x, steps.x[:, :20])


def test_sequences_carry_labels_where_there_are_some() -> None:
    frame = pl.concat([cell(straight(50, 60)), cell(straight(500, 60), name="far")])
    steps = online_sequences(label_rul(frame, nominal_capacity_ah=1.0).frame)
    assert steps.y is not None
    assert steps.y[0].tolist() == [50.0 - cycle for cycle in range(1, 61)]
    assert np.isnan(steps.y[1]).all()


def test_charge_statistics_come_in_the_order_of_the_schema() -> None:
    frame = cell(straight(200, 5)).with_columns(pl.lit(0.0).alias(name) for name in reversed(CHARGE_FEATURES))
    assert online_sequences(frame).names == ("cycle", "capacity_ah", *CHARGE_FEATURES)


def test_cycles_that_go_back_are_refused() -> None:
    with pytest.raises(ValueError, match="cycle goes from"):
        online_sequences(cell(straight(200, 9)).reverse())


def test_floors_are_plain_numbers_of_the_labelled_cells() -> None:
    frame = pl.concat([cell(straight(life, life + 20), name=str(life)) for life in (100, 200)])
    frame = pl.concat([frame, cell(straight(5000, 60), name="far")])
    labels = label_rul(frame, nominal_capacity_ah=1.0)
    assert floors(labels, window=30) == {
        "mean life": {"kind": "linear", "features": ["cycle"], "weights": [-1.0], "intercept": 150.0},
        "fade line": {"kind": "fade_line", "window": 30, "otherwise": 150.0},
    }
    with pytest.raises(ValueError, match="no cell reaches its end of life"):
        floors(label_rul(cell(straight(5000, 60)), nominal_capacity_ah=1.0))


def test_every_set_has_its_capacity() -> None:
    assert set(NOMINAL_CAPACITY_AH) == {"hust", "xjtu", "tongji"}

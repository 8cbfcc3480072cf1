"""The report page and its tables."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from remem.apps.battery.plots import (
    alpha_lambda_plot,
    coverage_plot,
    delta_q_plot,
    fade_fan_plot,
    parity_plot,
)
from remem.apps.report import Report, format_cell, text_table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (math.nan, ""),
        (0.06512, "0.065"),
        (12.345, "12.3"),
        (1234.5, "1234"),
        (True, "True"),
        (43, "43"),
    ],
)
def test_cells_read_like_numbers(value, text):
    assert format_cell(value) == text


def test_table_aligns_rows_that_lack_columns():
    lines = text_table([{"split": "a", "rmse": 1.0}, {"split": "bcd", "width": 2.0}]).splitlines()
    assert lines[0].split() == ["split", "rmse", "width"]
    assert len({len(line) for line in lines}) == 1
    assert text_table([]) == ""


def test_page_stands_alone_and_escapes(tmp_path):
    figure = Figure()
    figure.subplots().plot([1, 2])
    page = Report("Lives").add("A <b>", "x & y", rows=[{"cell": "<c>", "rmse": 3.0}], figure=figure)
    path = Report("All").extend(page).write(tmp_path / "deep" / "report.html")
    text = path.read_text()
    assert "A &lt;b&gt;" in text
    assert "&lt;c&gt;" in text
    assert "x &amp; y" in text
    assert "data:image/png;base64," in text
    assert "<b>" not in text
    assert [p.name for p in path.parent.iterdir()] == ["report.html"], "no partial file stays behind"


def test_pictures_show_what_they_are_given():
    rng = np.random.default_rng(0)
    truth = np.array([200.0, 500.0, 900.0])
    group = {"truth": truth, "point": truth * 1.1, "lo": truth * 0.9, "hi": truth * 1.05}
    parity = parity_plot({"test": group}, confidence=0.9)
    (label,) = [text.get_text() for text in parity.axes[0].get_legend().get_texts()]
    assert label == "test: 100% of 3 inside"
    delta = delta_q_plot(rng.normal(size=(4, 1000)), np.array([100.0, 300.0, np.nan, 2000.0]))
    assert len(delta.axes[0].lines) == 4
    bars = coverage_plot({"a": 0.8, "b": 1.0}, {"a": 10, "b": 40}, confidence=0.9)
    widths = [patch.get_width() for patch in bars.axes[0].patches]
    assert widths[0] == pytest.approx(2 * widths[1])  # four times the cells: half the spread
    cycle = np.arange(1.0, 101.0)
    fan = fade_fan_plot(
        cycle,
        1.1 - 0.002 * cycle,
        [{"cycle": 50, "rul": 60, "rul_lo": 40, "rul_hi": 90}],
        eol_ah=0.88,
        title="c",
    )
    corners = fan.axes[0].patches[0].get_xy()
    assert corners[0] == pytest.approx([50, 1.0])
    assert {corners[1][0], corners[2][0]} == {90.0, 140.0}
    cone = alpha_lambda_plot(cycle, 100 - cycle, 90 - cycle, 80 - cycle, 99 - cycle, title="c")
    assert len(cone.axes[0].lines) == 4

"""Every picture is drawn, and shows what it was given."""

import numpy as np
import pytest

from remem.apps.geometry.plots import (
    MOST_SHOWN,
    plot_gaps,
    plot_hull,
    plot_pareto,
    plot_tour,
    plot_tours,
    plot_triangulation,
)
from remem.data.geometry.delaunay import delaunay_triangles
from remem.data.geometry.hull import convex_hull
from remem.data.geometry.instances import generate

XY = generate("uniform", 20, 0)


def edges(figure, panel=0):
    """Numbers of edges by the order in which they were drawn."""
    return [
        len(lines.get_segments())
        for lines in figure.axes[panel].collections
        if hasattr(lines, "get_segments")
    ]


def drawn(figure):
    figure.canvas.draw()
    return figure


def test_a_tour_has_an_edge_for_every_step():
    tour = np.arange(20)
    assert edges(drawn(plot_tour(XY, tour, title="twenty"))) == [20]
    assert edges(plot_tour(XY, tour, closed=False)) == [19]
    assert plot_tour(XY, tour, title="twenty").axes[0].get_title() == "twenty"
    assert edges(plot_tour(XY, tour, other=tour[::-1])) == [0, 20, 0]
    other = tour.copy()
    other[[3, 4]] = other[[4, 3]]
    assert edges(plot_tour(XY, tour, other=other)) == [2, 18, 2]


def test_a_tour_on_the_globe_has_east_to_the_right():
    cities = np.array([[52.5, 13.4], [48.1, 11.6], [53.6, 10.0]])
    figure = drawn(plot_tour(cities, [0, 1, 2], globe=True))
    (segment, *_) = figure.axes[0].collections[0].get_segments()
    assert segment.tolist() == [[13.4, 52.5], [11.6, 48.1]]
    assert figure.axes[0].get_aspect() == pytest.approx(1 / np.cos(np.radians(cities[:, 0].mean())))


def test_panels_are_limited_and_none_is_an_error():
    figure = drawn(plot_tours([(str(i), XY, np.arange(20)) for i in range(MOST_SHOWN + 3)]))
    assert sum(bool(axes.get_title()) for axes in figure.axes) == MOST_SHOWN
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_tours([])


def test_hulls_and_triangulations_show_what_is_wrong_and_missing():
    hull = convex_hull(XY)
    assert edges(drawn(plot_hull(XY, hull)))[0] == len(hull)
    assert edges(plot_hull(XY, hull, truth=hull))[-3:] == [0, len(hull), 0]
    lost = np.delete(hull, 1)
    assert edges(plot_hull(XY, lost, truth=hull))[-3:] == [2, len(hull) - 2, 1]
    triangles = delaunay_triangles(XY)
    number = len(triangles) + 20 - 1  # Euler
    assert edges(drawn(plot_triangulation(XY, triangles))) == [number, 0]
    pale, right, wrong = edges(plot_triangulation(XY, triangles[1:], truth=triangles))
    assert (right + pale, wrong) == (number, 0)


def test_gaps_by_method():
    figure = drawn(plot_gaps({"greedy": [0.02, 0.04], "search": [0.0, 0.0]}, title="two"))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["greedy", "search"]
    assert [text.get_text() for text in axes.texts] == ["3.00%", "0.00%"]
    with pytest.raises(ValueError, match="wanted some gaps of each method"):
        plot_gaps({"greedy": []})
    with pytest.raises(ValueError, match="plot_gaps"):
        plot_gaps({})


def test_pareto_joins_what_nothing_beats():
    rows = [
        {"solver": "slow", "gap_pct": 0.0, "cpu_ms": 100},
        {"solver": "beaten", "gap_pct": 5.0, "cpu_ms": 50},
        {"solver": "fast", "gap_pct": 20.0, "cpu_ms": 0.1},
        {"solver": "middle", "gap_pct": 1.0, "cpu_ms": 5},
    ]
    axes = drawn(plot_pareto(rows)).axes[0]
    assert axes.lines[0].get_xdata().tolist() == [0.1, 5, 100]
    assert [text.get_text() for text in axes.texts] == ["slow (0 %)", "beaten", "fast", "middle"]
    with pytest.raises(ValueError, match="no rows"):
        plot_pareto([])

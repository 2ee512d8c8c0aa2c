"""Lines as SVG: where points lie, and that names are no markup."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.publish.plots import HEIGHT, LEFT, TOP, WIDTH, Axis, Point, chart, colour, legend, ticks

X, Y = Axis("flips"), Axis("")


def points(svg: str) -> list[tuple[float, float]]:
    (found,) = re.findall(r'points="([^"]+)"', svg)
    return [tuple(map(float, pair.split(","))) for pair in found.split()]  # type: ignore[misc]


def test_points_lie_between_the_ticks_that_hold_them() -> None:
    svg = chart("a", {"one": [Point(0.0, 0.5), Point(0.4, 1.0)]}, X, Y)
    assert points(svg) == [(LEFT, TOP + HEIGHT), (LEFT + WIDTH, TOP)]
    assert ">50 %<" in svg and ">100 %<" in svg and ">40 %<" in svg


def test_an_interval_is_drawn_about_its_point_and_stays_within_the_plot() -> None:
    lines = {"one": [Point(0.0, 0.5, 0.1), Point(1.0, 0.9, 5.0)]}
    ends = re.findall(r'stroke-opacity="0.5" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', chart("a", lines, X, Y))
    (first, last), ((_, middle), _) = ends, points(chart("a", lines, X, Y))
    assert float(first[1]) - middle == pytest.approx(middle - float(first[3]), abs=0.2) and float(first[1]) > middle
    assert (float(last[1]), float(last[3])) == (TOP + HEIGHT, TOP)


def test_names_and_titles_are_no_markup() -> None:
    evil = '"><script>alert(1)</script>'
    for text in (chart(evil, {evil: [Point(0, 0), Point(1, 1)]}, Axis(evil), Y), legend([evil])):
        assert "<script" not in text and "&lt;script&gt;" in text


def test_without_a_point_there_is_no_figure_and_one_point_is_enough() -> None:
    assert chart("a", {"one": []}, X, Y) == ""
    assert "nan" not in chart("a", {"one": [Point(0.2, 0.7)]}, X, Y)


def test_a_line_has_the_same_colour_in_every_plot_and_what_it_is_held_against_is_grey() -> None:
    names = ["untreated", "a", "b", "oracle"]
    assert colour("untreated", names) == colour("oracle", names) != colour("a", names) != colour("b", names)
    assert f'stroke="{colour("b", names)}"' in legend(names)
    assert f'stroke="{colour("b", names)}"' in chart("t", {name: [Point(0, 1)] for name in names}, X, Y)


def test_the_strong_line_is_thick_and_on_top() -> None:
    svg = chart("t", {"a": [Point(0, 1), Point(1, 2)], "b": [Point(0, 2), Point(1, 1)]}, X, Y, strong="a")
    assert svg.count('class="strong"') == 1 and svg.rindex("<title>a</title>") > svg.rindex("<title>b</title>")


@given(st.floats(-1e4, 1e4), st.floats(0, 1e4))
def test_ticks_hold_the_range_and_are_few(low: float, size: float) -> None:
    found = ticks(low, low + size)
    assert found[0] <= low + 1e-6 and found[-1] >= low + size - 1e-6 and 2 <= len(found) <= 9
    assert found == sorted(set(found))

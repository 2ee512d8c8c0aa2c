"""Lines over a common axis as SVG: for pages that load nothing. Texts are escaped; the same numbers give the same bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from curate.publish.wording import escape, number

WIDTH, HEIGHT = 320, 190
"""Of a plot's area, in its own units."""
LEFT, TOP, BOTTOM, RIGHT = 46, 8, 40, 24
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#e08214", "#17a0a8", "#8c564b", "#c51b8a", "#5d6d1e", "#3b4cc0")
QUIET = {"untreated": "6 4", "oracle": "2 3"}
"""Names drawn in grey, dashed so: what a line is to be held against."""
STYLE = """
.chart text { fill: var(--soft); font-size: 11px; }
.chart polyline { fill: none; stroke-width: 1.6; } .chart .strong { stroke-width: 3.4; }
.chart .grid { stroke: var(--line); } .chart .ideal { stroke: var(--soft); stroke-dasharray: 1 3; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 14px; padding: 0; font-size: 0.88rem; list-style: none; }
.legend svg { display: inline-block; width: 26px; height: 10px; margin-right: 6px; vertical-align: 1px; }
.legend b { font-weight: 650; }
"""


@dataclass(frozen=True)
class Point:
    """A place on a line. half: half of its interval, None where it has none."""

    x: float
    y: float
    half: float | None = None


@dataclass(frozen=True)
class Axis:
    """What an axis shows, and how its numbers are written."""

    title: str
    percent: bool = True


def chart(title: str, lines: Mapping[str, Sequence[Point]], x: Axis, y: Axis, strong: str = "", ideal: bool = False) -> str:
    """A figure of lines by name. strong: the one drawn thick. ideal: also a dotted line where y equals x.

    Intervals are drawn as far as the lines themselves reach, and a half of that beyond.
    """
    drawn = {name: points for name, points in lines.items() if points}
    if not drawn:
        return ""
    every = [point for points in drawn.values() for point in points]
    xs = [point.x for point in every]
    low, high = min(point.y for point in every), max([point.y for point in every] + ([max(xs)] if ideal else []))
    reach = (high - low) / 2
    ends = [end for point in every for end in (point.y - min(point.half or 0, reach), point.y + min(point.half or 0, reach))]
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(min([low, *ends]), max([high, *ends]))
    place = _Place(x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1])
    body = "".join(_y_tick(tick, place, y) for tick in y_ticks) + "".join(_x_tick(tick, place, x) for tick in x_ticks)
    if ideal:
        first, last = max(place.left, place.bottom), min(place.right, place.top)
        body += f'<line class="ideal" {_ends(place, Point(first, first), Point(last, last))}/>'
    order = sorted(drawn, key=lambda name: (name == strong, name not in QUIET))  # the strong one lies on top
    body += "".join(_line(drawn[name], colour(name, list(lines)), QUIET.get(name), name == strong, name, place) for name in order)
    box = f"0 0 {LEFT + WIDTH + RIGHT} {TOP + HEIGHT + BOTTOM}"
    label = f'<text x="{LEFT + WIDTH / 2:.0f}" y="{TOP + HEIGHT + 34}" text-anchor="middle">{escape(x.title)}</text>'
    svg = f'<svg class="chart" viewBox="{box}" role="img" aria-label="{escape(title)}">{body}{label}</svg>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>"


def legend(names: Sequence[str], strong: str = "") -> str:
    """The lines' names beside a piece of each."""
    entries = []
    for name in names:
        dash = f' stroke-dasharray="{QUIET[name]}"' if name in QUIET else ""
        width = 3.4 if name == strong else 1.6
        line = f'<line x1="0" x2="26" y1="5" y2="5" stroke="{colour(name, names)}" stroke-width="{width}"{dash}/>'
        told = f"<b>{escape(name)}</b>" if name == strong else escape(name)
        entries.append(f'<li><svg viewBox="0 0 26 10" aria-hidden="true">{line}</svg>{told}</li>')
    return f'<ul class="legend">{"".join(entries)}</ul>'


def colour(name: str, names: Sequence[str]) -> str:
    """The colour of a line among those of a page; the same in each of its plots."""
    if name in QUIET:
        return "#8a8f98"
    return COLOURS[[other for other in names if other not in QUIET].index(name) % len(COLOURS)]


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers that hold a range, at most so many steps apart."""
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    rough = (high - low) / most
    unit = 10.0 ** np.floor(np.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough - 1e-12)
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return [float(round(k * step, 10)) for k in range(int(first), int(last) + 1)]


@dataclass(frozen=True)
class _Place:
    left: float
    right: float
    bottom: float
    top: float

    def x(self, value: float) -> float:
        return LEFT + WIDTH * (value - self.left) / (self.right - self.left)

    def y(self, value: float) -> float:
        return TOP + HEIGHT * (1 - (value - self.bottom) / (self.top - self.bottom))


def _told(value: float, axis: Axis) -> str:
    return f"{number(100 * value)} %" if axis.percent else number(value)


def _y_tick(value: float, place: _Place, axis: Axis) -> str:
    y = place.y(value)
    line = f'<line class="grid" x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(_told(value, axis))}</text>'


def _x_tick(value: float, place: _Place, axis: Axis) -> str:
    told = escape(_told(value, axis))
    return f'<text x="{place.x(value):.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{told}</text>'


def _ends(place: _Place, first: Point, second: Point) -> str:
    ends = (place.x(first.x), place.y(first.y), place.x(second.x), place.y(second.y))
    return 'x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"'.format(*ends)


def _interval(point: Point, place: _Place) -> tuple[Point, Point]:
    half = point.half or 0.0
    return Point(point.x, max(point.y - half, place.bottom)), Point(point.x, min(point.y + half, place.top))


def _line(points: Sequence[Point], ink: str, dash: str | None, strong: bool, name: str, place: _Place) -> str:
    """A line with its points' intervals, and its name to whoever points at it."""
    path = " ".join(f"{place.x(point.x):.1f},{place.y(point.y):.1f}" for point in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    bars = "".join(f'<line stroke="{ink}" stroke-opacity="0.5" {_ends(place, *_interval(p, place))}/>' for p in points if p.half)
    thick = ' class="strong"' if strong else ""
    dots = "".join(f'<circle cx="{place.x(p.x):.1f}" cy="{place.y(p.y):.1f}" r="2" fill="{ink}"/>' for p in points)
    return f'<g><title>{escape(name)}</title>{bars}<polyline{thick} points="{path}" stroke="{ink}"{dashed}/>{dots}</g>'

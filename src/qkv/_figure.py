"""Figures as SVG that read on light and on dark paper, without any plotting library.

Colour carries meaning, as everywhere in qkv: query, key and value have one each, what is ours is the ink of the
weights, and all else is grey, told apart by its dashes. A line is named where it ends, so there is no legend to read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

Point = tuple[float, float]
Colour = Literal["ink", "grey", "query", "key", "value"]

_LIGHT = {"ink": "#4B2E83", "grey": "#6B675F", "query": "#0072B2", "key": "#D55E00", "value": "#009E73"}
_DARK = {"ink": "#B79BFF", "grey": "#A19C92", "query": "#56B4E9", "key": "#F0894A", "value": "#3FC79A"}
_TOP, _BOTTOM = 58, 52
_GAP = 18.0
"""Between the names of two lines."""


def _colours(colours: dict[str, str]) -> str:
    return " ".join(
        f".{name}-line {{ stroke: {colour} }} .{name}-dot, .{name}-text {{ fill: {colour} }}"
        for name, colour in colours.items()
    )


_STYLE = f"""<style>
text {{ font: 13px system-ui, sans-serif; fill: #1D1C1A; font-variant-numeric: tabular-nums }}
.title {{ font-size: 16px; font-weight: 600 }} .quiet {{ fill: #6B675F }} .paper {{ fill: #FBFAF6 }}
.rule {{ stroke: #E4E0D6 }} .lead {{ stroke: #B8B3A7 }} .line {{ fill: none; stroke-linejoin: round }}
.ink-text {{ font-weight: 600 }} {_colours(_LIGHT)}
@media (prefers-color-scheme: dark) {{
text {{ fill: #ECEAE4 }} .quiet {{ fill: #A19C92 }} .paper {{ fill: #141414 }} .rule {{ stroke: #33312D }}
.lead {{ stroke: #5A564E }} {_colours(_DARK)} }}
</style>"""


@dataclass(frozen=True)
class Axis:
    """An axis from ``low`` to ``high``, with its ticks and, where ``base`` is above 0, logarithmic in it."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    base: float = 0.0

    def share(self, value: float) -> float:
        """How far along the axis a value stands, in [0, 1]; what is beyond an end stands at it."""
        if self.base:
            low, value, high = (math.log(max(x, 1e-300), self.base) for x in (self.low, value, self.high))
        else:
            low, high = self.low, self.high
        return min(max((value - low) / (high - low), 0.0), 1.0)


def linear(values: Iterable[float]) -> Axis:
    """An axis of five or so round numbers around all values.

    >>> [name for _, name in linear([0.3, 9.2]).ticks]
    ['0', '2', '4', '6', '8', '10']
    """
    found = list(values) or [0.0, 1.0]
    low, high = min(found), max(found)
    if not high - low > 1e-12 * max(abs(low), abs(high)):
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    raw = high / 5 - low / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [number * step for number in range(first, last + 1)]
    largest, digits = max(map(abs, ticks)), max(0, -math.floor(math.log10(step) + 1e-9))
    if step > 1e-4 and largest < 1e6:
        names = [f"{tick:,.{digits}f}" for tick in ticks]
    else:  # as many digits as tell one tick from the next
        names = [f"{tick:.{2 + math.floor(math.log10(largest / step))}g}" for tick in ticks]
    return Axis(ticks[0], ticks[-1], tuple(zip(ticks, names, strict=True)))


def powers(values: Iterable[float]) -> Axis:
    """A logarithmic axis from power of ten to power of ten.

    >>> [name for _, name in powers([0.3, 20.0]).ticks]
    ['0.1', '1', '10', '100']
    """
    found = list(values)
    low, high = math.floor(math.log10(min(found))), math.ceil(math.log10(max(found)))
    numbers = [10.0**power for power in range(low, max(high, low + 1) + 1)]
    return Axis(numbers[0], numbers[-1], tuple((number, f"{number:,g}") for number in numbers), base=10.0)


def doublings(values: Iterable[float]) -> Axis:
    """A logarithmic axis from the first to the last value, named at those that are powers of two, seven at most."""
    found = sorted(set(values))
    ticks = [x for x in found if math.log2(x) % 1 == 0]
    ticks = ticks[::-1][:: max(1, math.ceil(len(ticks) / 7))]
    high = max(found[-1], 2 * found[0])
    return Axis(found[0], high, tuple((x, f"{x:,.0f}") for x in ticks), base=2.0)


@dataclass
class Figure:
    """A figure to draw into, from the back to the front.

    >>> figure = Figure("Loss", "of one run", linear([0, 100]), linear([0, 5]), "updates")
    >>> figure.line([(0, 4.0), (50, 2.0), (100, 1.5)], name="training")
    >>> figure.svg().count("<polyline")
    1
    """

    title: str
    subtitle: str
    across: Axis
    up: Axis
    across_name: str
    up_name: str = ""
    height: int = 420
    width: int = 720
    left: int = 72
    right: int = 176
    """The margin in which lines are named."""
    _parts: list[str] = field(default_factory=list)
    _names: list[tuple[Point, float, str, Colour]] = field(default_factory=list)
    """Where what is named ends, and the height at which its name would stand best, in the picture."""

    def place(self, x: float, y: float) -> Point:
        """Where a point of the data stands in the picture."""
        inner = self.height - _TOP - _BOTTOM
        return (
            self.left + self.across.share(x) * (self.width - self.left - self.right),
            self.height - _BOTTOM - self.up.share(y) * inner,
        )

    def line(
        self,
        points: Sequence[Point],
        *,
        colour: Colour = "grey",
        name: str = "",
        dashes: str = "",
        width: float = 1.5,
        dots: bool = False,
    ) -> None:
        """A line through points, with a dot at each where asked; one point alone is a dot."""
        if not points:
            return
        if len(points) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.place(*point) for point in points))
            dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
            style = f'class="line {colour}-line" stroke-width="{width:g}"{dashed}'
            self._parts.append(f'<polyline {style} points="{path}"/>')
        if dots or len(points) == 1:
            self.dots(points, colour=colour)
        if name:
            (x, y), (before, above) = (self.place(*point) for point in (points[-1], points[-2:][0]))
            # Names stand in the order of the lines, were all carried on to the margin: so no lead crosses a line.
            rise = (y - above) / (x - before) if x > before else 0.0
            self._names.append(((x, y), y + rise * (self.width - self.right - x), name, colour))

    def dots(
        self, points: Iterable[Point], *, colour: Colour = "grey", radius: float = 3.0, opacity: float = 1.0
    ) -> None:
        """A dot at each point."""
        style = f'class="{colour}-dot" r="{radius:g}"' + (f' opacity="{opacity:g}"' if opacity < 1 else "")
        for x, y in (self.place(*point) for point in points):
            self._parts.append(f'<circle {style} cx="{x:.1f}" cy="{y:.1f}"/>')

    def band(self, low: Sequence[Point], high: Sequence[Point], *, colour: Colour = "grey") -> None:
        """The surface between two lines, faint."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.place(*point) for point in [*low, *reversed(high)]))
        self._parts.append(f'<polygon class="{colour}-dot" opacity="0.15" points="{path}"/>')

    def bars(self, spans: Iterable[tuple[float, float, float]], *, colour: Colour = "grey") -> None:
        """An upright faint line at each x, from a low to a high value."""
        for x, low, high in spans:
            (at, bottom), (_, top) = self.place(x, low), self.place(x, high)
            ends = f'x1="{at:.1f}" x2="{at:.1f}" y1="{bottom:.1f}" y2="{top:.1f}"'
            self._parts.append(f'<line class="{colour}-line" stroke-width="1" opacity="0.3" {ends}/>')

    def name(self, at: Point, text: str, *, colour: Colour = "grey") -> None:
        """Name what stands at a point, in the margin beside it."""
        place = self.place(*at)
        self._names.append((place, place[1], text, colour))

    def svg(self) -> str:
        """The picture."""
        return "\n".join([*self._frame(), *self._parts, *self._margin(), "</svg>", ""])

    def _frame(self) -> list[str]:
        about, end = escape(self.title) + ": " + escape(self.subtitle), self.width - self.right
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img">',
            f"<title>{about}</title>",
            _STYLE,
            f'<rect class="paper" width="{self.width}" height="{self.height}"/>',
            f'<text class="title" x="20" y="26">{escape(self.title)}</text>',
            f'<text class="quiet" x="20" y="45">{escape(self.subtitle)}</text>',
        ]
        for value, name in self.up.ticks:
            y = self.place(self.across.low, value)[1]
            parts.append(f'<line class="rule" x1="{self.left}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="quiet" x="{self.left - 8}" y="{y + 4:.1f}" text-anchor="end">{name}</text>')
        below = self.height - _BOTTOM + 20
        for value, name in self.across.ticks:
            x = self.place(value, self.up.low)[0]
            parts.append(f'<text class="quiet" x="{x:.1f}" y="{below}" text-anchor="middle">{name}</text>')
        middle = (self.left + end) / 2
        named = escape(self.across_name)
        parts.append(f'<text class="quiet" x="{middle:.0f}" y="{self.height - 12}" text-anchor="middle">{named}</text>')
        if self.up_name:
            centre = (_TOP + self.height - _BOTTOM) / 2
            turn = f'transform="rotate(-90 16 {centre:.0f})" text-anchor="middle"'
            parts.append(f'<text class="quiet" x="16" y="{centre:.0f}" {turn}>{escape(self.up_name)}</text>')
        return parts

    def _margin(self) -> list[str]:
        """The names of lines, each led to where its line ends."""
        heights = _apart([best for _, best, _, _ in self._names], _TOP, self.height - _BOTTOM)
        parts, left = [], self.width - self.right + 16
        for ((x, y), _, name, colour), height in zip(self._names, heights, strict=True):
            parts.append(f'<line class="lead" x1="{x + 5:.1f}" y1="{y:.1f}" x2="{left - 4}" y2="{height:.1f}"/>')
            style = f' class="{colour}-text"' if colour != "grey" else ""
            parts.append(f'<text{style} x="{left}" y="{height + 4:.1f}">{escape(name)}</text>')
        return parts


def _apart(heights: list[float], top: float, bottom: float) -> list[float]:
    """The same heights, moved apart until no two names touch, and kept within the figure."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed, last = list(heights), top - _GAP
    for i in order:
        placed[i] = last = max(placed[i], last + _GAP)
    ceiling = bottom + _GAP
    for i in reversed(order):
        placed[i] = ceiling = min(placed[i], ceiling - _GAP)
    return placed

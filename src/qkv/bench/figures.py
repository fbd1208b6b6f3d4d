"""Time and memory over the length, as SVG that reads on light and on dark paper.

Ours is the ink of the weights; others are grey, told apart by their dashes and named at the end of their lines. The
axes are logarithmic, so that a power of N is a straight line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

from .results import Fact, Result

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 176, 58, 52
_STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #1D1C1A; font-variant-numeric: tabular-nums }
.title { font-size: 16px; font-weight: 600 } .quiet { fill: #6B675F }
.line { fill: none; stroke: #6B675F; stroke-width: 1.5 } .own { stroke: #4B2E83; stroke-width: 3 }
.dot { fill: #6B675F } .own-dot { fill: #4B2E83 } .own-text { fill: #4B2E83; font-weight: 600 }
.rule { stroke: #E4E0D6; stroke-width: 1 } .paper { fill: #FBFAF6 } .lead { stroke: #B8B3A7; stroke-width: 1 }
@media (prefers-color-scheme: dark) {
text { fill: #ECEAE4 } .quiet { fill: #A19C92 } .line { stroke: #A19C92 } .own { stroke: #B79BFF }
.dot { fill: #A19C92 } .own-dot { fill: #B79BFF } .own-text { fill: #B79BFF }
.rule { stroke: #33312D } .paper { fill: #141414 } .lead { stroke: #5A564E } }
</style>"""


@dataclass(frozen=True)
class Line:
    """One library: its name, points ``(N, y)``, and the dashes of its line."""

    name: str
    points: tuple[tuple[float, float], ...]
    own: bool = False
    dashes: str = ""


def time_figure(results: list[Result]) -> str:
    """Causal float32 attention, and ours within a window, with the most threads that were measured."""
    most = max((result.threads for result in results), default=1)
    rows = [
        result
        for result in results
        if result.threads == most
        and (result.case.dtype, result.case.dim, result.case.batch) == ("float32", 64, 1)
        and result.case.direction == "forward"
        and not result.case.score
        and not result.case.observed
        and not result.case.environment
    ]
    lines = []
    for who, mask, name, own, dashes in (
        ("qkv", "causal", "qkv", True, ""),
        ("qkv", "window", "qkv, window of 256", True, "2 5"),
        ("sdpa", "causal", "PyTorch SDPA", False, ""),
        ("eager", "causal", "PyTorch eager", False, "7 4"),
        ("jax", "causal", "JAX", False, "2 4"),
        ("onnx", "causal", "ONNX Runtime", False, "10 3 2 3"),
    ):
        found = {r.case.queries: r.seconds[who] * 1e3 for r in rows if r.case.mask == mask and who in r.seconds}
        if len(found) > 1:
            lines.append(Line(name, tuple(sorted(found.items())), own, dashes))
    threads = f"{most} thread{'s' * (most > 1)}"
    return draw("Time of a forward pass", f"milliseconds; causal, float32, 8 heads of 64, {threads}", lines)


def memory_figure(facts: list[Fact]) -> str:
    """Work space over N, from the facts of that name."""
    named = {
        "qkv": ("qkv.attend", True, ""),
        "observe": ("qkv.observe", True, "2 5"),
        "sdpa": ("PyTorch SDPA", False, ""),
        "eager": ("PyTorch eager", False, "7 4"),
    }
    lines = []
    for who, (name, own, dashes) in named.items():
        head = f"memory a thread: {who}, N="
        found = [
            (float(f.name[len(head) :]), max(f.found, 0.05))
            for f in facts
            if f.name.startswith(head) and f.found is not None
        ]
        if len(found) > 1:
            lines.append(Line(name, tuple(sorted(found)), own, dashes))
    return draw("Memory beyond inputs and outputs", "MiB a thread; causal, float32, 2 heads of 64", lines)


def draw(title: str, subtitle: str, lines: list[Line]) -> str:
    """A figure with both axes logarithmic; without lines, one that says so."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(title)}: {escape(subtitle)}</title>",
        _STYLE,
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text class="title" x="20" y="26">{escape(title)}</text>',
        f'<text class="quiet" x="20" y="45">{escape(subtitle)}</text>',
    ]
    points = [point for line in lines for point in line.points]
    if not points:
        return "\n".join([*parts, '<text class="quiet" x="20" y="80">nothing was measured</text>', "</svg>", ""])
    low, high = (math.floor(math.log10(min(y for _, y in points))), math.ceil(math.log10(max(y for _, y in points))))
    high = max(high, low + 1)
    left, right = math.log2(min(x for x, _ in points)), math.log2(max(x for x, _ in points))
    right = max(right, left + 1)

    def across(x: float) -> float:
        return _LEFT + (math.log2(x) - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)

    def up(y: float) -> float:
        return _HEIGHT - _BOTTOM - (math.log10(y) - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    for power in range(low, high + 1):
        y = up(10.0**power)
        parts.append(f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="quiet" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:,g}</text>')
    ticks = sorted({x for x, _ in points if math.log2(x) % 1 == 0})
    step = max(1, math.ceil(len(ticks) / 7))
    for x in ticks[::-1][::step]:
        label = f"{x:,.0f}"
        parts.append(
            f'<text class="quiet" x="{across(x):.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">{label}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="quiet" x="{middle:.0f}" y="{_HEIGHT - 12}" text-anchor="middle">N, tokens</text>')
    heights = _spread([up(line.points[-1][1]) for line in lines])
    for line, height in zip(lines, heights, strict=True):
        own = " own" if line.own else ""
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in line.points)
        dashes = f' stroke-dasharray="{line.dashes}"' if line.dashes else ""
        parts.append(f'<polyline class="line{own}" points="{path}"{dashes}/>')
        dot = "own-dot" if line.own else "dot"
        parts += [f'<circle class="{dot}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="3"/>' for x, y in line.points]
        end_x, end_y = across(line.points[-1][0]), up(line.points[-1][1])
        text_x = _WIDTH - _RIGHT + 16
        parts.append(f'<line class="lead" x1="{end_x + 5:.1f}" y1="{end_y:.1f}" x2="{text_x - 4}" y2="{height:.1f}"/>')
        text = ' class="own-text"' if line.own else ""
        parts.append(f'<text{text} x="{text_x}" y="{height + 4:.1f}">{escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _spread(heights: list[float], gap: float = 18.0) -> list[float]:
    """The same heights, moved apart until no two labels touch, and kept within the figure."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = list(heights)
    last = _TOP - gap
    for i in order:
        placed[i] = last = max(placed[i], last + gap)
    ceiling = _HEIGHT - _BOTTOM + gap
    for i in reversed(order):
        placed[i] = ceiling = min(placed[i], ceiling - gap)
    return placed

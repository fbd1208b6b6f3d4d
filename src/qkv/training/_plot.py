"""The curve of a run as SVG: training and validation loss by update, drawn without any plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 20, 44
TRAINING, VALIDATION, INK, GRID = "#8A8FA8", "#0072B2", "#1D1C1A", "#E4E1D8"

Point = tuple[float, float]


def plot(metrics: Sequence[dict[str, Any]]) -> str:
    """The SVG of `read_metrics`' lines.

    >>> picture = plot([{"update": 50, "loss": 5.0}, {"update": 100, "loss": 4.0}, {"update": 100, "validation": 4.2}])
    >>> picture.startswith("<svg") and picture.count("<polyline") == 1 and picture.count("<circle") == 1
    True
    """
    training = [(line["update"], line["loss"]) for line in metrics if "loss" in line]
    validation = [(line["update"], line["validation"]) for line in metrics if "validation" in line]
    points = training + validation
    if not points:
        points = [(0.0, 0.0)]
    # The first lines tower over all that follows: the axis ends where validation starts, or at the largest value.
    highest = 1.15 * max(value for _, value in (validation or points))
    lowest = min(value for _, value in points)
    down = _ticks(0.95 * lowest, max(highest, lowest + 0.1))
    across = _ticks(0, max(update for update, _ in points) or 1)

    def place(point: Point) -> Point:
        x = LEFT + (WIDTH - LEFT - RIGHT) * point[0] / across[-1]
        share = (min(point[1], down[-1]) - down[0]) / (down[-1] - down[0])
        return round(x, 1), round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" '
        f'font-size="12" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#FBFAF6"/>',
    ]
    for tick in down:
        y = place((0, tick))[1]
        parts.append(f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for tick in across:
        parts.append(
            f'<text x="{place((tick, 0))[0]}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick:,.0f}</text>'
        )
    parts.append(f'<text x="{(WIDTH + LEFT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">updates</text>')
    parts += _line([place(point) for point in training], TRAINING)
    parts += _line([place(point) for point in validation], VALIDATION)
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{TOP + 4}" text-anchor="end" fill="{TRAINING}">training loss</text>')
    last = f" {validation[-1][1]:.3f}" if validation else ""
    parts.append(
        f'<text x="{WIDTH - RIGHT}" y="{TOP + 20}" text-anchor="end" fill="{VALIDATION}">validation loss{last}</text>'
    )
    return "\n".join([*parts, "</svg>", ""])


def write_plot(metrics: Sequence[dict[str, Any]], file: Path) -> None:
    """Draw into a file, which is never half written."""
    temporary = file.with_name(f".{file.name}.partial")
    temporary.write_text(plot(metrics), encoding="utf-8")
    temporary.replace(file)


def _line(points: Sequence[Point], colour: str) -> list[str]:
    if len(points) == 1:
        return [f'<circle cx="{points[0][0]}" cy="{points[0][1]}" r="3" fill="{colour}"/>']
    if not points:
        return []
    path = " ".join(f"{x},{y}" for x, y in points)
    return [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>']


def _ticks(low: float, high: float) -> list[float]:
    """Five or so round numbers whose first is at most ``low`` and whose last is at least ``high``."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 10) for number in range(first, last + 1)]

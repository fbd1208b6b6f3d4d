"""The curve of a run as SVG: training and validation loss by update."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._figure import Figure, linear
from .._replacing import replacing


def plot(metrics: Sequence[dict[str, Any]]) -> str:
    """The SVG of `read_metrics`' lines.

    >>> picture = plot([{"update": 50, "loss": 5.0}, {"update": 100, "loss": 4.0}, {"update": 100, "validation": 4.2}])
    >>> picture.startswith("<svg") and picture.count("<polyline") == 1 and picture.count("<circle") == 1
    True
    """
    training = [(line["update"], line["loss"]) for line in metrics if "loss" in line]
    validation = [(line["update"], line["validation"]) for line in metrics if "validation" in line]
    points = (training + validation) or [(0.0, 0.0)]
    # The first lines tower over all that follows: the axis ends where validation starts, or at the largest value.
    highest = 1.15 * max(value for _, value in (validation or points))
    lowest = min(value for _, value in points)
    figure = Figure(
        "Loss of a run",
        "nats a token; in training with label smoothing and dropout",
        linear([0, max(update for update, _ in points) or 1]),
        linear([0.95 * lowest, max(highest, lowest + 0.1)]),
        "updates",
        height=360,
    )
    figure.line(training, name="training")
    last = f" {validation[-1][1]:.3f}" if validation else ""
    figure.line(validation, colour="ink", name=f"validation{last}", width=2)
    return figure.svg()


def write_plot(metrics: Sequence[dict[str, Any]], file: Path) -> None:
    """Draw into a file, which is never half written."""
    with replacing(file) as temporary:
        temporary.write_text(plot(metrics), encoding="utf-8")

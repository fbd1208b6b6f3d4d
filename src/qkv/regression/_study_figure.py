"""A study as a figure: how predictions lie about the truth of rows that were held out."""

from __future__ import annotations

import numpy as np

from .._figure import Colour, Figure, linear
from ._answer import Floats, Ints
from ._study import Study

SHOWN = 2_000
"""Dots that are drawn at most, chosen by chance."""
STEPS = 240
"""Points of a curve."""
BINS, LEAST = 10, 10
"""Groups of predictions at most, and how many are in one at least, where there are so many."""


def study_figure(study: Study) -> str:
    """The SVG: the curve over the only feature; else predicted against true; of classes, how sure and how right."""
    if study.table.classes:
        return _reliability(study)
    only = list(study.table.kinds.items())
    return _curve(study, only[0][0]) if len(only) == 1 and only[0][1] != "category" else _against_truth(study)


def _curve(study: Study, name: str) -> str:
    table, x = study.table, study.table.features[name].to_numpy()
    across = linear(x[np.isfinite(x)])
    grid = np.linspace(across.low, across.high, STEPS)
    mean, std = study.predict(type(table.features)({name: grid}))
    up = linear([*table.target, *(mean - std), *(mean + std)])
    unit = "days since 1970" if table.kinds[name] == "date" else ""
    figure = Figure(
        f"{table.name} over {name}",
        f"the curve with ±1 standard deviation of the rows behind it{_thinned(study.held_out)}",
        across,
        up,
        f"{name}, {unit}" if unit else name,
        table.name,
    )
    learnt, held_out = (_some(rows[np.isfinite(x[rows])]) for rows in (study.learnt, study.held_out))
    figure.dots(zip(x[learnt], table.target[learnt], strict=True), colour="key", radius=1.8, opacity=0.45)
    figure.dots(zip(x[held_out], table.target[held_out], strict=True), colour="query", radius=2.2, opacity=0.8)
    figure.band(_points(grid, mean - std), _points(grid, mean + std), colour="value")
    figure.line(_points(grid, mean), colour="value", name="prediction", width=2.5)
    kinds: tuple[tuple[Ints, Colour, str], ...] = (
        (learnt, "key", "rows learnt from"),
        (held_out, "query", "rows held out"),
    )
    for rows, colour, text in kinds:
        last = rows[np.argmax(x[rows])]
        figure.name((x[last], table.target[last]), text, colour=colour)
    return figure.svg()


def _against_truth(study: Study) -> str:
    truth = study.table.target[study.held_out]
    shown = _some(np.arange(len(truth)))
    low, high = study.prediction - study.spread, study.prediction + study.spread
    axis = linear([*truth, *low[shown], *high[shown]])
    figure = Figure(
        f"{study.table.name}: predicted and true",
        f"{len(truth):,} rows held out, ±1 standard deviation of the rows behind each{_thinned(study.held_out)}",
        axis,
        axis,
        f"{study.table.name}, true",
        "predicted",
        height=560,
    )
    figure.line([(axis.low, axis.low), (axis.high, axis.high)], name="equal", dashes="7 4")
    figure.bars(zip(truth[shown], low[shown], high[shown], strict=True), colour="query")
    figure.dots(zip(truth[shown], study.prediction[shown], strict=True), colour="query", radius=2.5, opacity=0.8)
    return figure.svg()


def _reliability(study: Study) -> str:
    """How often predictions of about one probability are right."""
    right = study.prediction == study.table.target[study.held_out]
    sure = study.spread
    order = np.argsort(sure, kind="stable")
    groups = np.array_split(order, min(BINS, max(1, len(order) // LEAST)))
    points = [(float(sure[group].mean()), float(right[group].mean())) for group in groups]
    axis = linear([0, 1])
    figure = Figure(
        f"{study.table.name}: how sure, and how right",
        f"{len(right):,} rows held out, in groups of about {len(groups[0]):,}",
        axis,
        axis,
        "probability of the predicted class",
        "share that was right",
        height=560,
    )
    figure.line([(0, 0), (1, 1)], name="as sure as right", dashes="7 4")
    figure.line(points, colour="ink", name="qkv", width=2, dots=True)
    return figure.svg()


def _points(x: Floats, y: Floats) -> list[tuple[float, float]]:
    return [(float(a), float(b)) for a, b in zip(x, y, strict=True)]


def _some(rows: Ints) -> Ints:
    return rows if len(rows) <= SHOWN else np.sort(np.random.default_rng(0).choice(rows, SHOWN, replace=False))


def _thinned(rows: Ints) -> str:
    return f"; {SHOWN:,} are drawn" if len(rows) > SHOWN else ""

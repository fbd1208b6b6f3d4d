"""``qkv regress``: kernel regression of a table's column on the others, with honest scores, and why a prediction."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table as Grid
from rich.text import Text

from ..errors import ArgumentError
from ._app import app
from ._terminal import console, counted, ink_bar, palette

if TYPE_CHECKING:
    from rich.console import Console

    from qkv.regression._study import Explanation, Study

_BAR = 16
_FEATURES = 12
"""Features that are listed."""
_BESIDE = 3
"""Features that stand beside the rows behind a prediction."""
_NO_SAY = 10.0
"""A bandwidth of as many standard deviations: the feature counts for nearly nothing."""


@app.command()
def regress(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A table: .csv, .tsv, .jsonl or .parquet.")],
    target: Annotated[str, typer.Option(help="The column to predict from the others.")],
    drop: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="Leave it out; may be repeated.")] = None,
    classes: Annotated[bool, typer.Option("--classes", help="Take numbers in the target as classes.")] = False,
    kernel: Annotated[
        str, typer.Option(help="gaussian, laplacian, epanechnikov, boxcar, triangular or cosine.")
    ] = "gaussian",
    held_out: Annotated[float, typer.Option(help="Share of the rows to score on; the others are learnt from.")] = 0.25,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of those rows.")] = 0,
    explain: Annotated[
        int | None, typer.Option(min=0, metavar="ROW", help="Show the rows that this row's prediction attends to.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="With --explain: how many rows.")] = 10,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the held-out rows as SVG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Predict a column by attention to similar rows: scores on rows held out, and the rows behind a prediction.

    Bandwidths are chosen by leave-one-out, one for each feature. A target that is no number is taken as classes. Rows
    are counted from 0.
    """
    from qkv._replacing import check_place, replacing
    from qkv.regression._study import study
    from qkv.regression._study_figure import study_figure
    from qkv.regression._table import prepare, read_table

    if plot is not None:
        if plot.suffix.lower() != ".svg":
            raise ArgumentError(f"--plot: expected a name that ends in .svg, got {plot}")
        check_place(plot)
    table = prepare(read_table(data), target, classes=classes, drop=drop or ())
    if explain is not None and explain not in table.rows:
        raise ArgumentError(
            f"--explain: there is no row {explain} with a {target}: expected one up to {table.rows[-1]}"
        )
    quiet = palette().quiet
    with console(stderr=True).status(f"learning from {counted(len(table.rows), 'row')}", spinner_style=quiet):
        found = study(table, kernel=kernel, held_out=held_out, seed=seed)
        behind = None if explain is None else found.explain(explain, top)
    if plot is not None:
        with replacing(plot) as temporary:
            temporary.write_text(study_figure(found), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(_facts(found, behind, seed), indent=2, ensure_ascii=False))
        return
    screen = console()
    _show_study(screen, found, seed)
    if behind is not None:
        screen.print()
        _show_explanation(screen, found, behind)
    if plot is not None:
        screen.print()
        screen.print(Text(f"drawn into {plot}", style=quiet), soft_wrap=True)


def _facts(found: Study, behind: Explanation | None, seed: int) -> dict[str, Any]:
    first, second = ("accuracy", "brier") if found.table.classes else ("r2", "mean_absolute_error")
    facts: dict[str, Any] = {
        "target": found.table.name,
        "kind": "classes" if found.table.classes else "number",
        "seed": seed,
        "learnt": len(found.learnt),
        "held_out": len(found.held_out),
        "scores": [{"method": s.name, first: s.first, second: s.second} for s in found.scores],
        "bandwidths": [
            {"feature": w.feature, "kind": found.table.kinds[w.feature], "bandwidth": w.bandwidth}
            for w in found.widths()
        ],
        "notes": found.table.notes,
    }
    if behind is not None:
        values = {int(row): at for at, row in enumerate(found.table.rows)}
        facts["explanation"] = {
            "row": behind.row,
            "learnt_without_it": behind.learnt,
            "truth": _plain(found.table.target[values[behind.row]]),
            "prediction": _plain(behind.prediction),
            "probability" if found.table.classes else "standard_deviation": behind.spread,
            "effective_neighbours": behind.neighbours,
            "rows": [
                {
                    "row": int(row),
                    "weight": float(weight),
                    "target": _plain(found.table.target[values[int(row)]]),
                    "features": {n: _plain(v) for n, v in found.table.features.iloc[values[int(row)]].items()},
                }
                for row, weight in zip(behind.rows, behind.weights, strict=True)
            ],
        }
    return facts


def _plain(value: Any) -> Any:
    """A value as JSON has it: a float or a text, null where nothing is."""
    if isinstance(value, str):
        return value
    return None if math.isnan(value) else float(value)


def _show_study(screen: Console, found: Study, seed: int) -> None:
    colours, table = palette(), found.table
    what = "classes of " if table.classes else ""
    learnt, held = counted(len(found.learnt), "row"), f"{len(found.held_out):,} held out"
    screen.print(Text(f"{what}{table.name} · learnt from {learnt}, {held} (seed {seed})", style=colours.quiet))
    screen.print()
    grid = Grid(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style=colours.quiet)
    grid.add_column("on the rows held out", no_wrap=True)
    for measure in found.measures:
        grid.add_column(measure, justify="right", no_wrap=True)
    for index, score in enumerate(found.scores):
        style = "bold" if index == 0 else ""
        grid.add_row(
            Text(score.name, style),
            Text(f"{score.first:.3f}".replace("-0.000", "0.000"), style),
            Text(_number(score.second), style),
        )
    screen.print(grid)
    screen.print()
    grid = Grid(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style=colours.quiet)
    grid.add_column("feature", no_wrap=True, max_width=32, overflow="ellipsis")
    grid.add_column("bandwidth", justify="right", no_wrap=True)
    grid.add_column("", no_wrap=True)
    widths = found.widths()
    for width in widths[:_FEATURES]:
        says = "hardly counts" if width.bandwidth >= _NO_SAY else ""
        grid.add_row(Text(width.feature, colours.key), _width(width.bandwidth), Text(says, colours.quiet))
    screen.print(grid)
    words = (
        "Numbers are standardised, so bandwidths are in standard deviations, chosen by leave-one-out: the smaller, the "
        "more a difference counts."
    )
    if any(kind == "category" for kind in table.kinds.values()):
        words += " A category differs by 1."
    if len(widths) > _FEATURES:
        words = f"and {len(widths) - _FEATURES} more, wider. {words}"
    for note in (words, *table.notes):
        screen.print(Text(note, style=colours.quiet))


def _show_explanation(screen: Console, found: Study, behind: Explanation) -> None:
    colours, table = palette(), found.table
    at = {int(row): index for index, row in enumerate(table.rows)}
    truth = table.target[at[behind.row]]
    spread = f", probability {behind.spread:.2f}" if table.classes else f" ± {_number(behind.spread)}"
    screen.print(
        Text.assemble(
            (f"Row {behind.row}", f"bold {colours.query}"),
            f": {table.name} predicted ",
            (f"{_value(behind.prediction)}{spread}", colours.value),
            f", true {_value(truth)}; it rests on about {counted(round(behind.neighbours), 'row')}.",
        )
    )
    if behind.learnt:
        screen.print(Text("It was learnt from; this prediction was made without it.", style=colours.quiet))
    names = [width.feature for width in found.widths()[:_BESIDE]]
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=colours.quiet)
    grid.add_column("row", justify="right", no_wrap=True, min_width=3)
    grid.add_column("", no_wrap=True, min_width=_BAR)
    grid.add_column("weight", justify="right", no_wrap=True, min_width=6)
    grid.add_column(table.name, justify="right", no_wrap=True, max_width=14, overflow="ellipsis")
    for name in names:
        grid.add_column(name, justify="right", no_wrap=True, max_width=12, overflow="ellipsis")
    largest = float(behind.weights[0])
    own = [_value(table.features[name].iloc[at[behind.row]]) for name in names]
    grid.add_row(Text(str(behind.row), colours.query), "", "", _value(truth), *own)
    for row, weight in zip(behind.rows, behind.weights, strict=True):
        index = at[int(row)]
        beside = [_value(table.features[name].iloc[index]) for name in names]
        target = Text(_value(table.target[index]), colours.value)
        grid.add_row(
            Text(str(row), colours.key), ink_bar(float(weight) / largest, _BAR), f"{weight:.3f}", target, *beside
        )
    screen.print(grid)
    share = float(behind.weights.sum())
    screen.print(Text(f"{counted(len(behind.rows), 'row')}, {share:.0%} of the weight", style=colours.quiet))


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else _number(float(value))


def _width(bandwidth: float) -> str:
    return f"{bandwidth:.2f}" if bandwidth < 100 else "over 100"


def _number(value: float) -> str:
    """Four digits or so, without an exponent where none is needed."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"

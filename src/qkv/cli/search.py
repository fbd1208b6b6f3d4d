"""``qkv search``: soft lookup of a text among texts, and what their values say together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from ..errors import ArgumentError
from ._app import app
from ._input import read_text
from ._opening import open_model
from ._progress import bar
from ._terminal import console, counted, ink_bar, palette

if TYPE_CHECKING:
    from qkv.pretrained import Pretrained
    from qkv.regression import Lookup
    from qkv.regression._collection import Collection

_BAR = 12
_BESIDE = 8
"""Columns that a value has at least, beside a text."""
_CLASSES = 4
"""Classes whose shares are told."""


@app.command()
def search(
    query: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for, in words.")],
    within: Annotated[
        str | None, typer.Option("--in", metavar="COLLECTION", help="packages: Debian's, as apt knows them here.")
    ] = None,
    section: Annotated[str | None, typer.Option(help="With packages: only this section, such as games.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Texts of your own: one a line, or a .csv, .tsv, .jsonl or .parquet table.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="Of a table: the column of texts.")] = None,
    value: Annotated[str | None, typer.Option(help="Of a table: a column of numbers or labels to weigh.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many entries to show.")] = 10,
    temperature: Annotated[float, typer.Option(help="Low: the nearest entry alone answers; high: all alike.")] = 0.02,
    model: Annotated[str, typer.Option(help="An encoder: name, folder or hub name.")] = "minilm",
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code the model brings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the entries as JSON.")] = False,
) -> None:
    """Look a text up among others by what it means: every entry answers, weighted by how like the text it is.

    Entries are embedded once and kept in qkv's cache; cut off, the same command goes on.
    """
    from qkv.pretrained import embed
    from qkv.regression import lookup
    from qkv.regression._collection import debian_packages, read_texts

    read_text(query, as_text=True)  # an empty one is refused
    if not 0 < temperature < np.inf:
        raise ArgumentError(f"--temperature: expected a positive number, got {temperature}")
    if (within is None) == (file is None):
        raise ArgumentError("expected either --in packages or --file FILE: what is to be searched?")
    if within not in (None, "packages"):
        raise ArgumentError(f"--in: expected packages, got {within!r}; --file searches texts of your own")
    if file is not None:
        if section is not None:
            raise ArgumentError(f"--section goes with --in packages: {file} has none")
        found = read_texts(file, column, value)
    else:
        if column is not None or value is not None:
            raise ArgumentError("--column and --value go with --file: packages have their size and section")
        found = debian_packages(section)
    pretrained = open_model(model, trust_remote_code=trust_remote_code)
    with bar("embedding") as progress:
        keys = embed(pretrained, found.texts, progress)
    asked = embed(pretrained, [query], keep=False)[0]
    columns = _columns(found)
    values = np.concatenate([np.zeros((len(found), 1)), *(one.values for one in columns)], axis=1)
    answer = lookup(asked, keys, values, top_k=min(top, len(found)), temperature=temperature)
    answer = answer._replace(value=answer.value[1:])
    if as_json:
        facts = {"model": model, "query": query, "entries": len(found), "temperature": temperature}
        typer.echo(json.dumps({**facts, **_facts(found, columns, answer)}, indent=2, ensure_ascii=False))
    else:
        _show(pretrained, found, columns, answer, temperature)


class _Columns(NamedTuple):
    """One value as columns for `lookup`: a number and whether it is known, or a class each."""

    name: str
    labels: list[str] | None
    values: np.ndarray[Any, Any]


def _columns(found: Collection) -> list[_Columns]:
    columns = []
    for name, numbers in found.numbers.items():
        known = np.isfinite(numbers)
        columns.append(_Columns(name, None, np.stack([np.where(known, numbers, 0), known], axis=1)))
    for name, labels in found.classes.items():
        classes = sorted(set(labels))
        columns.append(_Columns(name, classes, (labels[:, None] == np.array(classes, object)).astype(np.float32)))
    return columns


def _weighted(columns: list[_Columns], answer: Lookup) -> dict[str, Any]:
    """Each value's mean by the weights: a number (null where none is known), or shares of classes, largest first."""
    found: dict[str, Any] = {}
    start = 0
    for name, labels, values in columns:
        told = answer.value[start : start + values.shape[1]]
        start += values.shape[1]
        if labels is None:
            found[name] = float(told[0] / told[1]) if told[1] > 0 else None
        else:
            shares = sorted(zip(labels, map(float, told), strict=True), key=lambda pair: -pair[1])
            found[name] = dict(shares)
    return found


def _facts(found: Collection, columns: list[_Columns], answer: Lookup) -> dict[str, Any]:
    rows = []
    for index, weight in zip(answer.indices, answer.weights, strict=True):
        own: dict[str, Any] = {"name": found.names[index]} if found.names[index] else {}
        own |= {"text": found.texts[index], "weight": float(weight)}
        own |= {name: _known(values[index]) for name, values in found.numbers.items()}
        own |= {name: str(labels[index]) for name, labels in found.classes.items()}
        rows.append(own)
    return {"found": rows, "weighted": _weighted(columns, answer)}


def _known(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None


def _show(
    pretrained: Pretrained, found: Collection, columns: list[_Columns], answer: Lookup, temperature: float
) -> None:
    screen, colours = console(), palette()
    screen.print(Text(f"{pretrained.title} · {len(found):,} texts · temperature {temperature:g}", style=colours.quiet))
    screen.print()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=colours.quiet)
    table.add_column("", no_wrap=True, min_width=_BAR)
    table.add_column("weight", justify="right", no_wrap=True, min_width=6)
    beside_names = [*found.numbers, *found.classes]
    room = screen.width - _BAR - 8 - sum(2 + max(len(name), _BESIDE) for name in beside_names) - 2
    table.add_column("text", no_wrap=True, overflow="ellipsis", max_width=max(room, 20))
    for name in beside_names:
        width = max(len(name), _BESIDE)
        table.add_column(name, justify="right", no_wrap=True, max_width=width, overflow="ellipsis")
    largest = float(answer.weights[0])
    for index, weight in zip(answer.indices, answer.weights, strict=True):
        beside = [_number(_known(values[index])) for values in found.numbers.values()]
        beside += [str(labels[index]) for labels in found.classes.values()]
        table.add_row(
            ink_bar(float(weight) / largest, _BAR),
            f"{weight:.3f}",
            Text(found.texts[index], style=colours.key),
            *(Text(one, style=colours.value) for one in beside),
        )
    screen.print(table)
    screen.print()
    share = float(answer.weights.sum())
    screen.print(Text(f"{counted(len(answer.indices), 'text')}, {share:.0%} of the weight of all", style=colours.quiet))
    for name, told in _weighted(columns, answer).items():
        if isinstance(told, dict):
            words = ", ".join(f"{label} {part:.0%}" for label, part in list(told.items())[:_CLASSES] if part >= 0.005)
        else:
            words = _number(told) or "not known"
        screen.print(Text.assemble(f"{name}, weighted over all: ", (words, colours.value)))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

"""``qkv models``: which real models there are, fetching and deleting them.

`open_model` serves every command that takes ``--model``: a model of the catalogue that is missing is fetched first.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from ._app import app
from ._terminal import console, palette

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from qkv.pretrained import Entry, Pretrained, Progress

models = typer.Typer(help="Real models: list them, get them, remove them.")
app.add_typer(models, name="models")

_DOING = {"wait": "waiting for its turn", "download": "fetching", "check": "checking", "convert": "converting"}


@models.callback(invoke_without_command=True)
def _list(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the models: what they are, which are there, and what they take on disk."""
    if context.invoked_subcommand is not None:
        return
    from qkv import pretrained

    if as_json:
        answer = {
            "cache": str(pretrained.cache_folder()),
            "disk": pretrained.disk_usage(),
            "models": [_facts(model) for model in pretrained.catalogue()],
        }
        typer.echo(json.dumps(answer, indent=2))
    else:
        _show(pretrained.catalogue())


def _facts(model: Entry) -> dict[str, object]:
    from qkv import pretrained

    there = pretrained.is_installed(model.name)
    return {
        "name": model.name,
        "title": model.title,
        "kind": model.kind,
        "about": model.about,
        "licence": model.licence,
        "source": model.source,
        "package": f"{model.package}=={model.version}",
        "sha256": model.sha256,
        "download": model.download,
        "installed": there,
        "path": str(pretrained.model_folder(model.name)) if there else None,
        "disk": pretrained.disk_usage(model.name),
    }


def _show(catalogue: Iterable[Entry]) -> None:
    from qkv import pretrained

    screen, colours = console(), palette()
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style=colours.quiet)
    for heading in ("name", "title", "kind", "licence"):
        table.add_column(heading, no_wrap=True)
    table.add_column("on disk", justify="right", no_wrap=True)
    for model in catalogue:
        there = pretrained.is_installed(model.name)
        disk = decimal(pretrained.disk_usage(model.name)) if there else f"{decimal(model.download)} to get"
        table.add_row(
            Text(model.name, style="bold" if there else ""),
            Text(model.title),
            Text(model.kind),
            Text(model.licence),
            Text(disk, style="" if there else colours.quiet),
        )
    screen.print(table)
    screen.print()
    used = f"{decimal(pretrained.disk_usage())} in {pretrained.cache_folder()}"
    screen.print(Text(used, style=colours.quiet), soft_wrap=True)


@models.command("get")
def _get(names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names from the list.")]) -> None:
    """Bring models into the cache: downloaded with pip, checked, converted once."""
    from qkv import pretrained

    for name in names:
        pretrained.entry(name)  # a wrong name is told before anything is fetched
    for name in dict.fromkeys(names):
        if pretrained.is_installed(name):
            console().print(f"{name} is there: {pretrained.get(name)}", soft_wrap=True)
        else:
            fetch(name)


@models.command("remove")
def _remove(names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names from the list.")]) -> None:
    """Delete models from the cache."""
    from qkv import pretrained

    for name in names:
        pretrained.entry(name)
    for name in dict.fromkeys(names):
        console().print(f"{name} removed: {decimal(pretrained.remove(name))} freed")


def open_model(name: str, *, trust_remote_code: bool = False) -> Pretrained:
    """What ``--model`` names, ready to run; a missing model of the catalogue is fetched, and its progress shown."""
    from qkv import pretrained

    if any(model.name == name for model in pretrained.catalogue()) and not pretrained.is_installed(name):
        fetch(name)
    quiet = palette().quiet
    with console(stderr=True).status(Text(f"opening {name}", style=quiet), spinner_style=quiet):
        return pretrained.load(name, trust_remote_code=trust_remote_code)


def fetch(name: str) -> None:
    """``get`` with a progress bar on a terminal, and a line a step elsewhere; on standard error."""
    from qkv import pretrained

    title, screen, start = pretrained.entry(name).title, console(stderr=True), time.monotonic()
    if screen.is_terminal:
        with _bars(screen) as bars:
            pretrained.get(name, _Bar(bars, title))
    else:
        pretrained.get(name, _Lines(title))
    size = decimal(pretrained.disk_usage(name))
    screen.print(f"{title} is ready: {size}, in {time.monotonic() - start:.0f} s", style=palette().quiet)


class _Bar:
    """Shows each step of ``get`` as a bar of its own length, one after the other in one line."""

    def __init__(self, bars: Bars, title: str) -> None:
        self._bars, self._title = bars, title
        self._task = bars.add_task("", total=None)

    def __call__(self, progress: Progress) -> None:
        if progress.step == "done":
            self._bars.remove_task(self._task)
            return
        description = f"{self._title}  {_DOING[progress.step]}"
        self._bars.update(self._task, description=description, total=progress.total or None, completed=progress.done)


class _Lines:
    """Prints the steps of ``get`` as they begin."""

    def __init__(self, title: str) -> None:
        self._title, self._step = title, "wait"

    def __call__(self, progress: Progress) -> None:
        if progress.step not in (self._step, "done"):
            size = f", {decimal(progress.total)}" if progress.total else ""
            print(f"{self._title}: {_DOING[progress.step]}{size}", file=sys.stderr, flush=True)
        self._step = progress.step


def _bars(screen: Console) -> Bars:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    colours = palette()
    return Progress(
        TextColumn("{task.description}", style=colours.text),
        BarColumn(bar_width=28, style=colours.quiet, complete_style=colours.ink, pulse_style=colours.ink),
        DownloadColumn(),
        console=screen,
        transient=True,
    )

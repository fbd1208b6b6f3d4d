"""``qkv models``: which real models there are, fetching and deleting them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from ..errors import ArgumentError
from ._app import app
from ._opening import fetch
from ._terminal import console, palette

if TYPE_CHECKING:
    from qkv.pretrained import Entry

models = typer.Typer(help="Real models: list them, get them, remove them, pack your own.")
app.add_typer(models, name="models")


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
            "distributions": {
                name: {"path": str(model.folder), "licence": model.licence}
                for name, model in pretrained.distributed().items()
            },
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
    table = _table("name", "title", "kind", "licence")
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
    if distributed := pretrained.distributed():
        table = _table("installed by pip", "licence")
        for name, installed in distributed.items():
            size = decimal(sum(file.stat().st_size for file in installed.folder.iterdir()))
            table.add_row(Text(name, style="bold"), Text(installed.licence), Text(size))
        screen.print(table)
        screen.print()
    used = f"{decimal(pretrained.disk_usage())} in {pretrained.cache_folder()}"
    screen.print(Text(used, style=colours.quiet), soft_wrap=True)


def _table(*headings: str) -> Table:
    """With what each model takes on disk, behind everything else."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=palette().quiet)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    table.add_column("on disk", justify="right", no_wrap=True)
    return table


@models.command("get")
def _get(names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names from the list.")]) -> None:
    """Bring models into the cache: downloaded with pip, checked, converted once."""
    from qkv import pretrained

    for name in names:
        pretrained.entry(name)  # a wrong name is told before anything is fetched
    for name in dict.fromkeys(names):
        if pretrained.is_installed(name):
            console().print(f"{name} is there: {pretrained.get(name)}", soft_wrap=True)
        else:
            fetch(name)


@models.command("pack")
def _pack(
    run: Annotated[Path, typer.Argument(help="The folder of a finished 'qkv train'.")],
    out: Annotated[Path, typer.Option(help="A new folder for the distribution.")],
    licence: Annotated[str, typer.Option(help="Of the weights, as SPDX writes it; it must suit all sources.")],
    licence_file: Annotated[Path | None, typer.Option(help="The licence's text, to go along as LICENSE.")] = None,
    scores: Annotated[Path | None, typer.Option(help="What 'qkv evaluate --json' printed.")] = None,
    version: Annotated[str, typer.Option(help="Of the distribution.")] = "1.0",
) -> None:
    """Pack a trained translator into a distribution that pip installs: float16 weights, log, scores, sources."""
    from qkv.training import pack

    measured = []
    if scores is not None:
        try:
            measured = json.loads(scores.read_text(encoding="utf-8"))["scores"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArgumentError(
                f"--scores: expected what 'qkv evaluate --json' prints, got {scores}: {error}"
            ) from error
    place = pack(run, out, licence=licence, licence_file=licence_file, scores=measured, version=version)
    console().print(f"{place}: pip install {place}", soft_wrap=True)


@models.command("remove")
def _remove(names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names from the list.")]) -> None:
    """Delete models from the cache."""
    from qkv import pretrained

    for name in names:
        pretrained.entry(name)
    for name in dict.fromkeys(names):
        console().print(f"{name} removed: {decimal(pretrained.remove(name))} freed")

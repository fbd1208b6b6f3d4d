"""``qkv data``: build a data set to train on, from a recipe of public packages or from one's own text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ..errors import ArgumentError
from ._app import app
from ._terminal import console, palette

if TYPE_CHECKING:
    from qkv.training.data import Built, Recipe

data = typer.Typer(help="Data sets to train on: build them.", no_args_is_help=True)
app.add_typer(data, name="data")


@data.callback()
def _root() -> None:
    """Data sets to train on: build them."""


@data.command("build")
def build_command(
    source: Annotated[
        str, typer.Argument(help="A recipe: translation; or a file of two columns: .tsv .jsonl .parquet")
    ],
    pair: Annotated[
        str, typer.Option(help="Languages of source and target: en-fr, en-de, en-zh, or reversed.")
    ] = "en-fr",
    out: Annotated[Path | None, typer.Option(help="Folder for the data set; otherwise one in qkv's cache.")] = None,
    packages: Annotated[
        Path | None, typer.Option(help="A folder of .deb (and .whl) files, where there is no apt.")
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--everything",
            help="Take also what a recipe marks `shipped = false` (no stated licence): not for weights that go out. "
            "The recipe translation marks nothing.",
        ),
    ] = False,
) -> None:
    """Download, align, clean and split parallel text: Parquet files and a manifest of what went into them."""
    from qkv.pretrained import cache_folder
    from qkv.training import data as room

    languages = languages_of(pair)
    recipe = _recipe(source, languages)
    folder = out or cache_folder() / "data" / f"{recipe.name}-{pair}"
    screen, quiet = console(), palette().quiet
    screen.print(Text(f"{recipe.about}; {pair}, into {folder}", style=quiet), soft_wrap=True)
    built = room.build(
        recipe,
        languages,
        folder,
        room.Packages(cache_folder() / "packages", packages),
        only_shippable=not everything,
        report=lambda line: screen.print(Text(f"  {line}", style=quiet)),
    )
    _show(built)


def languages_of(pair: str) -> tuple[str, str]:
    """The two languages of ``--pair``."""
    source, _, target = pair.partition("-")
    if not (source.isalpha() and target.isalpha()) or source == target:
        raise ArgumentError(f"--pair: expected two languages such as en-fr, got {pair!r}")
    return source, target


def _recipe(source: str, languages: tuple[str, str]) -> Recipe:
    from qkv.training import data as room

    if "." in source or "/" in source:
        file = Path(source)
        return room.load_recipe(file) if file.suffix == ".toml" else room.table_recipe(file, languages[1])
    return room.load_recipe(source)


def _show(built: Built) -> None:
    screen, colours = console(), palette()
    for warning in built.warnings:
        screen.print(Text(warning, style=colours.ink), soft_wrap=True)
    sets = ", ".join(f"{count:,} {name}" for name, count in built.counts.items())
    screen.print(f"{sets} pairs", soft_wrap=True)
    screen.print(Text(f"{built.folder}", style=colours.quiet), soft_wrap=True)

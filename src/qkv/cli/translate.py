"""``qkv translate``: texts through a translator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ArgumentError, ModelError
from ._app import app
from ._opening import open_model
from ._progress import bar

if TYPE_CHECKING:
    from qkv.pretrained import Pretrained


@app.command()
def translate(
    texts: Annotated[
        list[str],
        typer.Argument(help="Sentences, in quotes; - reads standard input, a sentence a line.", metavar="TEXT..."),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="A translator: a folder of 'qkv train', an installed one (translator-en-fr), or a hub name."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(help="Target language: fr, zh. It chooses among those installed and those that a model writes."),
    ] = None,
    beams: Annotated[int, typer.Option(min=1, help="Hypotheses kept at each step; 1 takes the likeliest token.")] = 4,
) -> None:
    """Translate sentences: one line of answer for each."""
    from qkv.training import translate as run

    lines = [line for text in texts for line in (_standard_input() if text == "-" else [text])]
    opened = open_translator(model or _installed(to))
    with bar("translating") as progress:
        answers = run(opened.model, opened.text_tokenizer(), lines, to=to, beams=beams, report=progress)
    typer.echo("\n".join(answers))


def _installed(to: str | None) -> str:
    """The installed translator into this language; the first one where none is asked for or fits by its name."""
    from qkv import pretrained

    found = [name for name in pretrained.distributed() if name.startswith("translator-")]
    return next((name for name in found if to in name.split("-")[2:]), "translator")


def open_translator(name: str) -> Pretrained:
    """What ``--model`` names, which must translate; a run that is not over yet is told apart from no model at all."""
    folder = Path(name).expanduser()
    if (folder / "run.json").is_file() and not (folder / "model.safetensors").is_file():
        found = sorted(
            (path for path in (folder / "checkpoints").glob("*") if path.name.isdigit()),
            key=lambda path: int(path.name),
        )
        advice = f"its last checkpoint is {found[-1]}" if found else "it has no checkpoint yet"
        raise ModelError(f"model folder {name!r}: its training is not over, so there is no model yet; {advice}.")
    opened = open_model(name)
    if opened.kind != "encoder-decoder":
        raise ModelError(f"model {name!r} does not translate: it is {_article(opened.kind)}, not an encoder-decoder.")
    return opened


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _standard_input() -> list[str]:
    try:
        return sys.stdin.read().splitlines()
    except UnicodeDecodeError as error:
        raise ArgumentError(f"standard input is not UTF-8 text: {error}") from error

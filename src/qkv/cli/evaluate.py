"""``qkv evaluate``: BLEU and chrF of a translator on the sets of a corpus."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ..errors import ArgumentError
from ._app import app
from ._progress import bar
from ._terminal import console, palette
from .translate import open_translator

if TYPE_CHECKING:
    from qkv.training import Corpus


@app.command()
def evaluate(
    data: Annotated[Path, typer.Argument(help="A data set: the folder that 'qkv data build' made.")],
    model: Annotated[
        str,
        typer.Option(help="A translator: a folder of 'qkv train', an installed one (translator-en-fr), or a hub name."),
    ],
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="A set to score, repeated for more; otherwise all whose name begins with test."),
    ] = None,
    beams: Annotated[int, typer.Option(min=1, help="Hypotheses kept at each step; 1 takes the likeliest token.")] = 4,
    first: Annotated[
        int | None, typer.Option(min=1, help="Only so many sentences of each set, the first ones.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Another translator, to compare with by paired bootstrap.")
    ] = None,
    write: Annotated[Path | None, typer.Option(help="A folder for the translations, a file a set.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Score a translator: BLEU and chrF by sacreBLEU, with their signatures, on held-out and out-of-domain sets."""
    from qkv.training import compare, open_corpus, score

    corpus = open_corpus(data)
    names = _sets(corpus, sets)
    target = corpus.languages[1]
    texts = {name: corpus.pairs(name)[:first] for name in names}
    answers = _translated(model, texts, target, beams)
    others = _translated(against, texts, target, beams) if against else {}
    rows: list[dict[str, Any]] = []
    for name in names:
        references = [reference for _, reference in texts[name]]
        row: dict[str, Any] = {
            "set": name,
            "pairs": len(references),
            **asdict(score(answers[name], references, target)),
        }
        if against:
            row["against"] = asdict(compare(answers[name], others[name], references, target))
        rows.append(row)
    if write is not None:
        write.mkdir(parents=True, exist_ok=True)
        for name in names:
            (write / f"{name}.txt").write_text("".join(f"{line}\n" for line in answers[name]), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps({"model": model, "data": str(data), "beams": beams, "scores": rows}, indent=2))
    else:
        _show(rows)


def _sets(corpus: Corpus, asked: list[str] | None) -> list[str]:
    names = asked or [name for name in corpus.sets if name.startswith("test")]
    for name in names:
        if name not in corpus.sets:
            raise ArgumentError(f"--set: expected {', '.join(corpus.sets)}, which {corpus.folder} has, got {name!r}")
    if not (filled := [name for name in names if corpus.sets[name]]):
        raise ArgumentError(
            f"--set: {', '.join(names) or 'test'} of {corpus.folder} has no pairs: there is nothing to score"
        )
    return filled


def _translated(model: str, texts: dict[str, list[tuple[str, str]]], target: str, beams: int) -> dict[str, list[str]]:
    from qkv.training import translate

    opened = open_translator(model)
    answers = {}
    for name, pairs in texts.items():
        with bar(name) as progress:
            sources = [source for source, _ in pairs]
            answers[name] = translate(
                opened.model, opened.text_tokenizer(), sources, to=target, beams=beams, report=progress
            )
    return answers


def _show(rows: list[dict[str, Any]]) -> None:
    screen, colours = console(), palette()
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style=colours.quiet)
    table.add_column("set", no_wrap=True)
    for heading in ("pairs", "BLEU", "chrF"):
        table.add_column(heading, justify="right", no_wrap=True)
    compared = "against" in rows[0]
    if compared:
        for heading in ("other", "difference", "95%", "p"):
            table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        cells = [row["set"], f"{row['pairs']:,}", f"{row['bleu']:.1f}", f"{row['chrf']:.1f}"]
        if compared:
            other = row["against"]
            difference = other["bleu"] - other["other"]
            cells += [
                f"{other['other']:.1f}",
                f"{difference:+.2f}",
                f"{other['low']:+.2f} to {other['high']:+.2f}",
                f"{other['p']:.3f}",
            ]
        table.add_row(*cells)
    screen.print(table)
    for name in ("bleu_signature", "chrf_signature"):
        label = {"bleu_signature": "BLEU", "chrf_signature": "chrF"}[name]
        screen.print(Text(f"{label} {rows[0][name]}", style=colours.quiet), soft_wrap=True)

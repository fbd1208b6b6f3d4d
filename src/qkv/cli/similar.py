"""``qkv similar``: how alike two texts are to a model, and a word in both, layer by layer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ..errors import ArgumentError, ModelError
from ._app import app
from ._input import read_text
from ._opening import open_model
from ._terminal import console, counted, ink_bar, palette

if TYPE_CHECKING:
    import numpy as np

    from qkv.pretrained import Pretrained
    from qkv.views.similar import Similarity, WordSimilarity

_BAR = 36
_SHOWN = 200  # characters of a text that are repeated above the numbers


@app.command()
def similar(
    first: Annotated[str, typer.Argument(metavar="TEXT", help="A text.")],
    second: Annotated[str, typer.Argument(metavar="TEXT", help="Another.")],
    word: Annotated[str | None, typer.Option(help="A word in both: compared layer by layer.")] = None,
    model: Annotated[str, typer.Option(help="An encoder: name, folder or hub name.")] = "minilm",
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code the model brings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """How alike two texts are, and what their neighbours make of a word that both have."""
    from qkv.views.similar import Similarity, find_word, text_similarity

    for text in (first, second):  # what is wrong with a text is told before a model is opened
        read_text(text, as_text=True)
        if word is not None:
            find_word(text, word)
    pretrained = open_model(model, trust_remote_code=trust_remote_code)
    readings = [_read(pretrained, text) for text in (first, second)]
    found = Similarity(
        texts=[first, second],
        similarity=text_similarity(readings[0].states[-1], readings[1].states[-1]),
        word=None if word is None else _compare(word, *readings),
    )
    if as_json:
        typer.echo(json.dumps({"model": model, **found}, indent=2, ensure_ascii=False))
    else:
        _show(pretrained.title, found)


@dataclass
class _Reading:
    """A text as the model read it."""

    text: str
    states: np.ndarray[Any, Any]
    """(layers + 1, tokens, width)"""
    pieces: list[str]
    offsets: list[tuple[int, int]]
    """Characters of each token."""
    unknown: set[int]
    """Tokens that stand for something which the vocabulary lacks."""


def _read(pretrained: Pretrained, text: str) -> _Reading:
    import numpy as np
    import torch

    tokenizer = pretrained.text_tokenizer()
    if not tokenizer.is_fast:
        raise ModelError(f"model {pretrained.name!r} has a tokenizer that cannot tell which characters a token covers.")
    inputs = tokenizer(text, return_offsets_mapping=True)
    offsets, ids = inputs.pop("offset_mapping"), inputs["input_ids"]
    if not any(start < stop for start, stop in offsets):
        raise ArgumentError(f"text {text!r} has no words to compare.")
    if pretrained.maximum_length is not None and len(ids) > pretrained.maximum_length:
        raise ModelError(
            f"text has {len(ids)} tokens, and {pretrained.title} reads at most {pretrained.maximum_length}: shorten it."
        )
    network = pretrained.model.get_encoder() if pretrained.kind == "encoder-decoder" else pretrained.model
    with torch.inference_mode():
        output = network(**{name: torch.tensor([row]) for name, row in inputs.items()}, output_hidden_states=True)
    states = np.stack([state[0].float().numpy() for state in output.hidden_states])
    unknown = {index for index, token in enumerate(ids) if token == tokenizer.unk_token_id}
    return _Reading(text, states, list(tokenizer.convert_ids_to_tokens(ids)), offsets, unknown)


def _compare(word: str, first: _Reading, second: _Reading) -> WordSimilarity:
    from qkv.views.similar import WordSimilarity, find_word, pieces_between, word_similarity

    pieces = []
    for reading in (first, second):
        tokens = pieces_between(reading.offsets, *find_word(reading.text, word))
        if not tokens or reading.unknown.issuperset(tokens):
            raise ModelError(f"word {word!r} is not in the model's vocabulary: another model may know it.")
        pieces.append(tokens)
    return WordSimilarity(
        word=word,
        pieces=[[reading.pieces[i] for i in tokens] for reading, tokens in zip((first, second), pieces, strict=True)],
        layers=word_similarity(first.states, second.states, *pieces),
    )


def _show(title: str, found: Similarity) -> None:
    from qkv.views.similar import find_word

    screen, colours, word = console(), palette(), found["word"]
    screen.print(Text(title, style=colours.quiet))
    screen.print()
    for text in found["texts"]:
        screen.print(_line(text, find_word(text, word["word"]) if word is not None else (0, 0)))
    screen.print()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, max_width=24, overflow="ellipsis")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_row("the texts", ink_bar(found["similarity"], _BAR), f"{found['similarity']:.3f}")
    if word is not None:
        table.add_row()
        table.add_row(Text(word["word"], style="bold"))
        for layer, cosine in enumerate(word["layers"]):
            table.add_row(_depth(layer), ink_bar(cosine, _BAR), f"{cosine:.3f}")
    screen.print(table)
    screen.print()
    screen.print(Text("Cosine similarity: 1 is the same direction, 0 nothing in common.", style=colours.quiet))


def _line(text: str, word: tuple[int, int]) -> Text:
    """The text with the word in bold; of a long one, the part around the word."""
    begin = max(0, min(word[0] - _SHOWN // 2, len(text) - _SHOWN))
    end = max(begin + _SHOWN, word[1])
    line = Text(text)
    line.stylize("bold", *word)
    return Text("…" if begin else "") + line[begin:end] + Text("…" if end < len(text) else "")


def _depth(layers: int) -> str:
    """In words, because layers are counted from 0 everywhere else: "after layer 1" could mean either."""
    return f"after {counted(layers, 'layer')}" if layers else "before any layer"

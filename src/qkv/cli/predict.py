"""``qkv predict``: what a decoder would write next, with its probabilities."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ..errors import ArgumentError, ModelError
from ._app import app
from ._input import read_text
from ._opening import open_model
from ._terminal import console, ink_bar, palette

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

    from qkv.pretrained import Pretrained
    from qkv.views.contract import Candidate

_BAR = 36
_SHOWN = 300  # characters of the text that are repeated above its continuation


@app.command()
def predict(
    text: Annotated[str, typer.Argument(help="The text to continue; - reads standard input.")],
    model: Annotated[str, typer.Option(help="A decoder: name, folder or hub name.")] = "smollm2",
    top: Annotated[int, typer.Option(min=1, help="How many candidates.")] = 10,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code the model brings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the candidates as JSON.")] = False,
) -> None:
    """The likeliest next tokens after a text, each with its probability."""
    from qkv.views.predict import candidates

    read = read_text(text, as_text=text != "-")
    text = read if text == "-" else text  # what was typed keeps its line ends, which a model reads too
    pretrained = open_model(model, trust_remote_code=trust_remote_code)
    tokenizer = pretrained.text_tokenizer()
    count, logits = _last_logits(pretrained, tokenizer, text)
    found = candidates(logits, _decoder(tokenizer), top)
    if as_json:
        answer = {"model": model, "text": text, "tokens": count, "candidates": found}
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        _show(pretrained.title, text, count, len(logits), found)


def _last_logits(
    pretrained: Pretrained, tokenizer: PreTrainedTokenizerBase, text: str
) -> tuple[int, np.ndarray[Any, Any]]:
    """How many tokens were read, and the model's output after the last one."""
    import torch

    if pretrained.kind != "decoder":
        raise ModelError(
            f"model {pretrained.name!r} does not write text one token after the other: it is an "
            f"{pretrained.kind}. predict needs a decoder, such as smollm2."
        )
    inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    count = inputs["input_ids"].shape[1]
    if count == 0:
        raise ArgumentError("text is empty: a decoder needs at least one token to continue.")
    if pretrained.maximum_length is not None and count > pretrained.maximum_length:
        raise ModelError(
            f"text has {count} tokens, and {pretrained.title} reads at most {pretrained.maximum_length}: shorten it."
        )
    network = pretrained.model
    last_only = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(network.forward).parameters else {}
    with torch.inference_mode():
        logits = getattr(network(**inputs, use_cache=False, **last_only), "logits", None)
    if logits is None or logits.ndim != 3:
        raise ModelError(f"model {pretrained.name!r} has no language-model head: it predicts no tokens.")
    return count, logits[0, -1].float().numpy()


def _decoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[int], str]:
    """From a token's index to its characters; the bytes of a character that it only begins or ends are named."""
    special = set(tokenizer.all_special_ids)

    def decode(index: int) -> str:
        text, piece = str(tokenizer.decode([index])), str(tokenizer.convert_ids_to_tokens(index))
        if index in special:
            return text
        if "\ufffd" in text:  # a fragment of a character
            return _bytes(piece) or text
        return f" {text}" if piece.startswith("▁") and not text.startswith(" ") else text

    return decode


def _bytes(piece: str) -> str:
    """``å®`` → ``⟨E5 AE⟩``: the bytes that a byte-level token stands for; "" where it is none.

    GPT-2's alphabet writes a byte as the character of its number where that can be seen, and the other 68 bytes, in
    order, as the characters from 256 on.
    """
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    unseen = [byte for byte in range(256) if byte not in seen]
    alphabet = {chr(byte): byte for byte in seen} | {chr(256 + index): byte for index, byte in enumerate(unseen)}
    if not all(character in alphabet for character in piece):
        return ""
    return "⟨" + " ".join(f"{alphabet[character]:02X}" for character in piece) + "⟩"


def _show(title: str, text: str, count: int, vocabulary: int, found: list[Candidate]) -> None:
    screen, colours = console(), palette()
    screen.print(Text(f"{title} · {count} tokens read", style=colours.quiet))
    screen.print()
    shown = text if len(text) <= _SHOWN else "…" + text[-_SHOWN:]
    screen.print(Text.assemble(shown, ("▏", colours.ink)))
    screen.print()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=12, max_width=24, overflow="ellipsis")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    largest = found[0]["probability"]
    for candidate in found:
        probability = candidate["probability"]
        table.add_row(
            _visible(candidate, text),
            ink_bar(probability / largest, _BAR),
            f"{probability:.3f}",
        )
    screen.print(table)
    screen.print()
    share = sum(candidate["probability"] for candidate in found)
    screen.print(Text(f"{len(found)} of {vocabulary:,} tokens, {share:.0%} of the probability", style=colours.quiet))
    if any(candidate["text"].startswith("⟨") for candidate in found):
        screen.print(Text("⟨E4 BD⟩ are the bytes of a token that is only part of a character.", style=colours.quiet))


def _visible(candidate: Candidate, before: str) -> Text:
    """The token as it would be written: space and line ends as quiet signs, the word that it continues in front."""
    quiet, token = palette().quiet, candidate["text"]
    if not token.strip():
        return Text(token.replace("\n", "↵").replace("\t", "⇥").replace(" ", "␣") or "␣", style=quiet)
    word = re.search(r"[^\W_]{1,14}$", before)
    if word and token[0].isalnum() and not candidate["space"] and token[0].isascii():
        return Text.assemble((word[0], quiet), token)
    return Text(token)

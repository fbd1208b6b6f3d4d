"""Which word of the source each written word came from, by cross-attention."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from .contract import Token
from .stacks import Layers


class Aligned(NamedTuple):
    """A written word, the word of the source that is read most while it is written, and the weight on it."""

    written: str
    read: str
    weight: float


def alignment(cross: Layers, written: Sequence[Token], read: Sequence[Token]) -> list[Aligned]:
    """Each word of ``written`` with a word of ``read``, in the order of writing.

    A token is written by the position in front of it, so that position's weights say where the token came from: the
    mean over all layers and heads, added up over the pieces of a source word and averaged over those of a written one.
    Bahdanau et al., "Neural Machine Translation by Jointly Learning to Align and Translate" (ICLR 2015), figure 3.

    Args:
        cross: the layers of cross-attention; they hold queries and keys, not statistics alone.
        written, read: the tokens of both sides.
    """
    weights = np.mean([record.weights(head) for record in cross.records.values() for head in cross.heads], axis=0)
    sources = [(text, weights[:, places].sum(1)) for text, places in _words(read)]
    found = []
    for text, places in _words(written):
        rows = [place - 1 for place in places if 0 < place <= len(weights)]
        if rows and sources:
            shares = [float(weight[rows].mean()) for _, weight in sources]
            best = int(np.argmax(shares))
            found.append(Aligned(text, sources[best][0], shares[best]))
    return found


def _words(tokens: Sequence[Token]) -> Iterator[tuple[str, list[int]]]:
    """Each word that has a letter or a digit: its text, and where its pieces stand."""
    for word, pieces in groupby(enumerate(tokens), key=lambda piece: piece[1]["word"]):
        held = list(pieces)
        text = "".join(token["text"] for _, token in held)
        if word >= 0 and any(sign.isalnum() for sign in text):
            yield text, [place for place, _ in held]

"""Which word of the source each written word came from, by cross-attention."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from qkv.errors import ArgumentError
from qkv.trace import Token

from .contract import AlignedWord, Alignment
from .stacks import Layers

_CELLS = 1 << 19
"""Weights that are held at a time: a long text is aligned in a few megabytes, some rows after others."""

Span = tuple[int, int]
"""From, inclusive, to, exclusive."""


def alignment(cross: Layers, rows: Span | None = None) -> Alignment:
    """Each written word that begins within ``rows`` with a word of the input, in the order of writing.

    A token is written by the position in front of it, so that position's weights say where the token came from: the
    mean over all layers and heads, added up over the pieces of a source word and averaged over those of a written one.
    Marks alone are no words, nor are sounds and pictures: nothing is aligned with them. A word that reads no word at
    all is left out.
    Bahdanau et al., "Neural Machine Translation by Jointly Learning to Align and Translate" (ICLR 2015), figure 3.

    Args:
        cross: the layers of cross-attention; they hold queries and keys, not statistics alone.
        rows: positions of written tokens; None for all.

    Raises:
        ArgumentError: a range that is empty, or beyond the text.
    """
    written, read = cross.query_tokens, cross.key_tokens
    start, stop = (0, len(written)) if rows is None else rows
    if rows is not None and not 0 <= start < stop <= len(written):
        raise ArgumentError(f"rows: expected start < stop within 0 and {len(written)}, got {start}:{stop}")
    sources = list(_words(read))
    if not sources:
        return Alignment(row_start=start, row_stop=stop, words=[])
    # Nothing writes the first token, and nobody may have read what the last one wrote.
    asked = [
        (first, end)
        for first, end in _words(written)
        if start <= first < stop and max(first, 1) < min(end, cross.first.queries + 1)
    ]
    found: list[AlignedWord] = []
    for group in _groups(asked, max(1, _CELLS // len(read))):
        low, high = max(group[0][0] - 1, 0), min(group[-1][1] - 1, cross.first.queries)
        shares = _shares(cross, (low, high), sources)
        for first, end in group:
            share = shares[max(first - 1 - low, 0) : end - 1 - low].mean(0)
            best = int(np.argmax(share))
            weight = float(share[best])
            if weight > 0:
                place = sources[best]
                found.append(AlignedWord(start=first, stop=end, read_start=place[0], read_stop=place[1], weight=weight))
    return Alignment(row_start=start, row_stop=stop, words=found)


def _shares(cross: Layers, rows: Span, sources: Sequence[Span]) -> NDArray[np.float64]:
    """How much each of ``rows`` reads of each source word, mean over layers and heads: (rows, words)."""
    records = cross.records.values()
    total = np.zeros((rows[1] - rows[0], cross.first.keys + 1))  # a column more, so that every word has an end
    for record in records:
        for head in cross.heads:
            total[:, :-1] += record.weights(head, rows=slice(*rows))
    edges = np.array(sources).ravel()
    shares: NDArray[np.float64] = np.add.reduceat(total, edges, axis=1)[:, ::2] / (len(records) * len(cross.heads))
    return shares


def _groups(words: Sequence[Span], most: int) -> Iterator[list[Span]]:
    """Neighbouring words, as many as span no more than ``most`` positions (one word may)."""
    group: list[Span] = []
    for word in words:
        if group and word[1] - group[0][0] > most:
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _words(tokens: Sequence[Token]) -> Iterator[Span]:
    """Where each word that has a letter or a digit begins and ends."""
    for word, pieces in groupby(enumerate(tokens), key=lambda piece: piece[1].word):
        held = list(pieces)
        if word >= 0 and any(sign.isalnum() for _, token in held for sign in token.text):
            yield held[0][0], held[-1][0] + 1

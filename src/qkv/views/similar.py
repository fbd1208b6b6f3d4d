"""How alike two texts are to a model, and one word in both of them, layer by layer.

A text's embedding is the mean of its tokens' last hidden states; the similarity of two is the cosine of the angle
between them, 1 for the same direction and 0 for nothing in common. (Reimers and Gurevych 2019, "Sentence-BERT",
arXiv:1908.10084, mean pooling.) A word's vector in a layer is the mean over the pieces it was cut into: before the
first layer it depends on its neighbours through its position only, and every layer mixes more of the sentence into it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from .._typing import Float
from ..errors import ArgumentError
from ..similarity import cosine


class WordSimilarity(TypedDict):
    """One word in two texts."""

    word: str
    pieces: list[list[str]]
    """What it was cut into, in each text."""
    layers: list[float]
    """Cosine after each layer; the first is the embedding, before any attention."""


class Similarity(TypedDict):
    """Two texts as a model sees them."""

    texts: list[str]
    similarity: float
    """Cosine of the two texts' embeddings."""
    word: WordSimilarity | None


def text_similarity(first: Float[np.ndarray, "n width"], second: Float[np.ndarray, "m width"]) -> float:
    """Cosine of two texts' embeddings, each the mean of the last hidden states ``(tokens, width)``.

    >>> import numpy as np
    >>> text_similarity(np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[1.0, 1.0]])).__round__(2)
    0.71
    """
    return float(cosine(first.mean(axis=0), second.mean(axis=0)))


def word_similarity(
    first: Float[np.ndarray, "layers n width"],
    second: Float[np.ndarray, "layers m width"],
    first_pieces: Sequence[int],
    second_pieces: Sequence[int],
) -> list[float]:
    """Cosine, layer by layer, of one word in two texts: hidden states ``(layers, tokens, width)`` and its tokens."""
    return [
        float(cosine(a[list(first_pieces)].mean(axis=0), b[list(second_pieces)].mean(axis=0)))
        for a, b in zip(first, second, strict=True)
    ]


def find_word(text: str, word: str) -> tuple[int, int]:
    """Where ``word`` stands first in ``text``, as character positions; case does not matter.

    A word is found whole (*apple*, not the *apple* of *pineapple*), except in scripts that put no spaces between words.
    Raises ``ArgumentError`` where it is not there.

    >>> find_word("Pineapple or apple?", "apple")
    (13, 18)
    >>> find_word("我吃了苹果", "苹果")
    (3, 5)
    """
    if not word.strip():
        raise ArgumentError("word is empty: name a word that stands in both texts.")
    pattern = re.escape(word.strip())
    if any(unicodedata.category(character) != "Lo" for character in word.strip()):
        pattern = rf"(?<!\w){pattern}(?!\w)"
    if (found := re.search(pattern, text, re.IGNORECASE)) is None:
        raise ArgumentError(f"word {word!r} does not stand in the text {text!r}: it has to be in both texts.")
    return found.span()


def pieces_between(offsets: Sequence[tuple[int, int]], start: int, stop: int) -> list[int]:
    """The tokens whose characters overlap ``start:stop``; special tokens, which have no characters, never do.

    >>> pieces_between([(0, 0), (0, 4), (4, 9), (0, 0)], 0, 9)
    [1, 2]
    """
    return [index for index, (first, last) in enumerate(offsets) if first < last and first < stop and last > start]

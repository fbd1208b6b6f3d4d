"""The most telling head and pair: what the page opens on.

A pair tells something when the query reads the key strongly, from afar, and more than other queries do. A key that
every query reads (a sink such as [CLS], or a decoder's first token) tells nothing about the query, so its habitual
weight is taken off::

    telling(i, j) = (weight_ij - mean over the other queries of weight_.j) * log2(1 + min(|p_i - j|, 32))

Neighbours, pieces of the same word, repetitions of the same token, marks without a letter, special tokens and a causal
model's first token count for little, but count: a text that offers nothing else still opens somewhere. Distance says
nothing where two texts meet, so in cross-attention every pair counts as far. Only the strongest keys of each query are
looked at, which `observe` finds in O(n) memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qkv.errors import TraceError
from qkv.trace import Attention, Token

from .contract import Selection, StackName

CANDIDATES = 8
"""The strongest keys of each query that are considered; sinks, neighbours and itself take a few of them."""

FARTHEST = 32
"""Beyond so many tokens farther is not more telling."""

_PIECE = 0.7
_LITTLE = 0.05
_LEAST = 0.001


class Telling(NamedTuple):
    """How telling a head's most telling pair is, and which pair that is."""

    score: float
    query: int
    key: int


def most_telling(
    record: Attention,
    indices: NDArray[np.int64],
    weights: NDArray[np.float32],
    received: NDArray[np.float32],
    query_tokens: list[Token],
    key_tokens: list[Token],
) -> list[Telling]:
    """Return the most telling pair of each head.

    Args:
        record: the layer, for its kind and its shape.
        indices, weights: (H, N, k), the strongest keys of each query, padded with -1 and 0.
        received: (H, M), the sum of weights over queries.
        query_tokens, key_tokens: what the queries and keys stand for.
    """
    heads, queries, keys = len(record.heads), record.queries, record.keys
    if indices.size == 0:
        return [Telling(0.0, 0, 0)] * heads
    there = indices >= 0
    indices = np.where(there, indices, 0)
    # How many other queries can read a key: a causal mask leaves those that come after it.
    others = (np.minimum(queries, keys - np.arange(keys)) if record.causal else np.full(keys, queries)) - 1
    habit = np.take_along_axis(received[:, None, :], indices, axis=2) - weights
    habit = np.where(others[indices] > 0, habit / np.maximum(others[indices], 1), 0)
    score = np.maximum(weights - habit, 0) * there
    of_key = _interest(key_tokens, keys)
    if record.kind == "self":
        own = np.arange(queries)[:, None] + (keys - queries)
        distance = np.abs(own - indices)
        score = score * np.log2(1 + np.minimum(distance, FARTHEST)) * of_key[own]
        score = score * np.where(distance == 0, _LEAST, np.where(distance == 1, _LITTLE, 1.0))
        for same in (_texts(key_tokens, keys), _words(key_tokens, keys)):
            score = score * np.where(same[own] == same[indices], _LITTLE, 1.0)
        if record.causal:
            score = score * np.where(indices == 0, _LEAST, 1.0)
    else:
        score = score * np.log2(1 + FARTHEST) * _interest(query_tokens, queries)[:, None]
    score = score * of_key[indices]
    # A distance of 0 makes a score 0; a tiny share of the weight keeps one-token texts from opening on nothing.
    score = (score + 1e-9 * weights).reshape(heads, -1)
    best = score.argmax(axis=1)
    return [
        Telling(float(score[head, at]), int(at // indices.shape[2]), int(indices[head].reshape(-1)[at]))
        for head, at in enumerate(best)
    ]


def opening(heads: Iterable[tuple[StackName, int, int, Telling]]) -> Selection:
    """Return the most telling of ``(stack, layer, head, its most telling pair)`` as what the page opens on.

    Raises:
        TraceError: there are none.
    """
    found = max(heads, key=lambda one: one[3].score, default=None)
    if found is None:
        raise TraceError("the layer and head to open on are not among those shown")
    stack, layer, head, best = found
    return Selection(stack=stack, layer=layer, head=head, query=best.query, key=best.key)


def _interest(tokens: list[Token], count: int) -> NDArray[np.float64]:
    """How much a token can tell: words most, then pieces of words, little marks, least what the tokenizer added."""
    known = [
        _LEAST if token.special else _LITTLE if not any(c.isalnum() for c in token.text) else 1.0
        for token in tokens[:count]
    ]
    for at, (before, after) in enumerate(pairwise(tokens[:count])):
        if before.word == after.word >= 0:  # both are pieces
            known[at], known[at + 1] = min(known[at], _PIECE), min(known[at + 1], _PIECE)
    return np.array(known + [1.0] * (count - len(known)))


def _texts(tokens: list[Token], count: int) -> NDArray[np.int64]:
    """A number for each distinct text, so that repetitions are found without comparing strings pair by pair."""
    numbers: dict[str, int] = {}
    known = [numbers.setdefault(token.text.casefold(), len(numbers)) for token in tokens[:count]]
    return _filled(known, count)


def _words(tokens: list[Token], count: int) -> NDArray[np.int64]:
    """The word of each position: pieces of one word have one number."""
    return _filled([token.word if token.word >= 0 else -1 - at for at, token in enumerate(tokens[:count])], count)


def _filled(known: list[int], count: int) -> NDArray[np.int64]:
    """``known``, and a number of its own for every position for which there is no token."""
    beyond = max(known, default=0) + 1
    return np.array(known + list(range(beyond, beyond + count - len(known))), dtype=np.int64)

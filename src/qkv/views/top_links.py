"""The strongest links of a head over the whole text, in O(n) memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qkv.trace import Attention, Token

_DEPTH = 8
"""The strongest keys of each query that are considered."""


class HeadLink(NamedTuple):
    """A query, a key, and the weight with which the one reads the other."""

    query: int
    key: int
    weight: float


def top_links(
    record: Attention,
    head: int,
    query_tokens: list[Token],
    key_tokens: list[Token],
    top: int,
    *,
    words_only: bool = True,
    least: float = 0.0,
) -> list[HeadLink]:
    """Return the ``top`` pairs with the largest weight, descending, ties in reading order.

    Args:
        record: the layer.
        head: by its index in the model.
        query_tokens, key_tokens: what queries and keys stand for.
        top: how many.
        words_only: leave out what most heads rest on and what says little: special tokens, marks without a letter, a
            causal model's first token, and a token's link to itself.
        least: leave out links that are not stronger.
    """
    seen = record.observe(head, top_k=min(_DEPTH, record.keys))
    indices, weights = np.asarray(seen.top_k.indices)[0], np.asarray(seen.top_k.weights)[0]
    kept = weights > least
    if words_only:
        own = np.arange(record.queries)[:, None] + (record.keys - record.queries)
        query_words, key_words = _words(query_tokens, record.queries), _words(key_tokens, record.keys)
        if record.kind == "self":
            kept &= indices != own
            key_words[0] &= not record.causal
        kept &= query_words[:, None] & key_words[indices]
    queries, places = np.nonzero(kept)
    keys, found = indices[queries, places], weights[queries, places]
    order = np.lexsort((keys, queries, -found))[:top]
    return [HeadLink(int(queries[at]), int(keys[at]), float(found[at])) for at in order]


def _words(tokens: list[Token], count: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which positions hold words; a position without a token (an image patch) counts as one."""
    known = [not token.special and (not token.text or any(c.isalnum() for c in token.text)) for token in tokens[:count]]
    return np.array(known + [True] * (count - len(known)), dtype=np.bool_)

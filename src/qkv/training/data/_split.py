"""Which set a sentence belongs to: a function of its source text alone, so that no source ever crosses sets."""

from __future__ import annotations

import hashlib

from ._clean import normalised
from ._recipe import Recipe


def key_of(text: str) -> bytes:
    """A digest of the source text without case, punctuation and spaces: what counts as the same sentence."""
    return hashlib.sha256(normalised(text).encode()).digest()[:16]


def set_of(key: bytes, recipe: Recipe) -> str:
    """The set of the sentence with this `key_of`: the same in every language, on every machine."""
    draw = int.from_bytes(key[:8], "big") % 1000
    if draw < recipe.test:
        return "test"
    return "validation" if draw < recipe.test + recipe.validation else "train"

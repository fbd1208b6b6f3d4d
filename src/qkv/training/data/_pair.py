"""A sentence in two languages."""

from __future__ import annotations

from typing import NamedTuple


class Pair(NamedTuple):
    """A text and its translation, and the document that both come from."""

    text: str
    translation: str
    document: str

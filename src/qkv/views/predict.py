"""The likeliest next tokens after a text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._typing import Float
from ..errors import ArgumentError
from .contract import Candidate


def candidates(logits: Float[np.ndarray, " vocabulary"], decode: Callable[[int], str], top: int) -> list[Candidate]:
    """The ``top`` tokens with the largest probability softmax(logits), largest first, ties to the lower index.

    Arguments:
        logits: ``(vocabulary,)``, the model's output at the last position.
        decode: from a token's index to its characters, a leading space included.
        top: how many; all of them where the vocabulary is smaller.

    Raises: ``ArgumentError`` when ``top`` is less than one.

    >>> import numpy as np
    >>> words = [" car", " house", "!"]
    >>> for candidate in candidates(np.log([0.5, 0.3, 0.2]), words.__getitem__, top=2):
    ...     print(candidate["text"], candidate["space"], round(candidate["probability"], 2))
    car True 0.5
    house True 0.3
    """
    if top < 1:
        raise ArgumentError(f"top must be at least 1, got {top}.")
    scores = np.asarray(logits, dtype=np.float64)
    weights = np.exp(scores - scores.max())
    probabilities = weights / weights.sum()
    best = np.argsort(-probabilities, kind="stable")[:top]
    texts = [decode(int(index)) for index in best]
    return [
        Candidate(text=text.removeprefix(" "), space=text.startswith(" "), probability=float(probabilities[index]))
        for text, index in zip(texts, best, strict=True)
    ]

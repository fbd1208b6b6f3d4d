"""Links: what a query takes from each key, weight times the length of the value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qkv.trace import Attention

from ._numbers import lengths, of_head, shared
from .contract import Link

STRONGEST = 12
"""Links that go with a row or a pair."""


def strongest_links(record: Attention, head: int, weights: NDArray[np.float32], most: int = STRONGEST) -> list[Link]:
    """Return the ``most`` keys with the largest of a row's ``weights`` (M,), descending, without those of no weight."""
    most = min(most, weights.size)
    if not most:
        return []
    # A partial sort: a row of a hundred thousand keys has only a dozen links.
    strongest = np.argpartition(-weights, most - 1)[:most]
    strongest = strongest[np.lexsort((strongest, -weights[strongest]))]
    at = shared(len(record.heads), record.key_heads, record.position(head))
    norms = lengths(of_head(record, "value", at)[strongest])
    return [
        Link(key=int(key), weight=float(weights[key]), value_norm=float(norm))
        for key, norm in zip(strongest, norms, strict=True)
        if weights[key] > 0
    ]

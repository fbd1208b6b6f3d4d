"""One row of a head's map: what a query reads."""

from __future__ import annotations

import numpy as np

from qkv.trace import Attention

from ._numbers import floats
from .contract import Row
from .links import STRONGEST, strongest_links
from .stacks import check_index


def row(record: Attention, head: int, query: int, links: int = STRONGEST) -> Row:
    """Return what one query of one head reads; O(M).

    Raises:
        ArgumentError: there is no such head or query.
        TraceError: the head was not captured, or the trace keeps statistics only.
    """
    check_index("query", query, record.queries)
    weights = record.weights(head, rows=slice(query, query + 1))[0]
    present = weights[weights > 0].astype(np.float64)
    return Row(
        query=query,
        weights=floats(weights),
        entropy=float(-(present * np.log2(present)).sum()) + 0.0,  # never -0.0
        links=strongest_links(record, head, weights, links),
    )

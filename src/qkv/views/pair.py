"""One pair: why a query reads a key, every number from the vectors to the weight."""

from __future__ import annotations

import math

import numpy as np

from qkv.trace import Attention

from ._numbers import finite, floats, of_head, shared
from .contract import Pair
from .links import STRONGEST, strongest_links
from .stacks import check_index


def pair(record: Attention, head: int, query: int, key: int, links: int = STRONGEST) -> Pair:
    """Return how ``head`` weighs ``key`` for ``query``, and what the query's output is made of.

    The steps are the definition's own: product, sum, scale, softcap, bias, mask, ``exp(score - lse)``; O(M + head_dim).

    Raises:
        ArgumentError: there is no such head, query or key.
        TraceError: the head was not captured, or the trace keeps statistics only.
    """
    check_index("query", query, record.queries)
    check_index("key", key, record.keys)
    at = record.position(head)
    key_head = shared(len(record.heads), record.key_heads, at)
    query_vector = of_head(record, "query", at)[query].astype(np.float64)
    key_vector = of_head(record, "key", key_head)[key].astype(np.float64)
    product = query_vector * key_vector
    dot = float(product.sum())
    scaled = dot * record.scale
    capped = scaled if record.softcap is None else record.softcap * math.tanh(scaled / record.softcap)
    bias = _bias(record, at, query, key)
    weights = record.weights(head, rows=slice(query, query + 1))[0]
    value = of_head(record, "value", key_head).astype(np.float32)
    return Pair(
        query=query,
        key=key,
        query_vector=floats(query_vector),
        key_vector=floats(key_vector),
        product=floats(product),
        dot=dot,
        scale=float(record.scale),
        scaled=scaled,
        softcap=None if record.softcap is None else float(record.softcap),
        capped=capped,
        bias=finite(bias) or 0.0,
        score=capped + (finite(bias) or 0.0),
        masked=bias == -math.inf or not _allowed(record, at, query, key),
        lse=finite(record.lse[at, query]),
        weight=float(weights[key]),
        links=strongest_links(record, head, weights, links),
        output_norm=float(np.linalg.norm(weights @ value)),
    )


def _allowed(record: Attention, at: int, query: int, key: int) -> bool:
    """Whether the mask lets one query of one head (a position) read one key."""
    mask = record.mask_structure
    ahead = key - (query + record.keys - record.queries)
    if mask.causal and ahead > 0:
        return False
    if mask.window is not None:
        left, right = mask.window
        if (left is not None and -ahead > left) or (right is not None and ahead > right):
            return False
    if mask.keys is not None and not mask.keys[key]:
        return False
    return mask.array is None or bool(mask.array[at if mask.array.shape[0] > 1 else 0, query, key])


def _bias(record: Attention, at: int, query: int, key: int) -> float:
    """What is added to one score; -infinity where a bias masks."""
    bias, total = record.bias_structure, 0.0
    if bias.table is not None:
        table = bias.table[at if bias.table.shape[0] > 1 else 0]
        reach = (table.shape[0] - 1) // 2
        ahead = key - (query + record.keys - record.queries)
        total += float(table[min(max(ahead, -reach), reach) + reach])
    if bias.array is not None:
        total += float(bias.array[at if bias.array.shape[0] > 1 else 0, query, key])
    return total

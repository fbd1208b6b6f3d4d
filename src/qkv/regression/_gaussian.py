r"""Gaussian kernel regression as attention, in the cheapest arithmetic that each query can trust.

With coordinates in bandwidths, :math:`-\tfrac12|q - k|^2 = q \cdot k - \tfrac12|k|^2 - \tfrac12|q|^2`, and the last
term cancels in the softmax: dot-product attention with a bias for each key, on the native kernel, in O(n) memory.

What the formula costs is digits. A key that matters lies at most a *reach* r from its query (as far as the nearest key
and a little more), so both terms are of the size :math:`(|q| + r)^2`, and the score's error of that times the rounding.
The kernel's own logsumexp tells r afterwards. So each query is answered in float32 where the data is, again in
float64 where that may be off, and from differences of coordinates (`_pairs`) where both may be: bandwidths far smaller
than the spread, queries a long way off. Which it was depends on a query and the keys alone, not on other queries.
"""

from __future__ import annotations

import numpy as np

from ..attention import Documents, ExceptSelf, KeyBias, Mask, observe
from ._answer import Answer, Bools, Floats, Ints
from ._pairs import Neighbours

TOLERANCE = {"float32": 2e-4, "float64": 1e-8}
"""How far a score may be off, and so, relatively, a weight."""
HUGE = {"float32": 1e12, "float64": 1e100}
"""Coordinates in bandwidths are kept within this, so that their squares are numbers."""


def gaussian(
    query: Floats,
    key: Floats,
    values: Floats,
    log_weight: Floats | None,
    *,
    own: Ints | None = None,
    top_k: int = 0,
    entropy: bool = False,
    neighbours: Neighbours,
    tolerance: float = TOLERANCE["float32"],
) -> Answer:
    """Attend to every key with weight ``exp(-|q - k|²/2 + log_weight)``.

    Args:
        query: ``(N, d)``, in bandwidths from the data's centre; float32 lets the kernel begin in float32.
        key: ``(M, d)``, likewise.
        values: ``(M, values)`` float64.
        log_weight: ``(M,)``, or None.
        own: ``(N,)``, the key that is the query itself, which it may not attend to; None where it may.
        top_k, entropy: what to tell beside the means.
        neighbours: of the same keys, for what needs differences.
        tolerance: of scores in float32.
    """
    answer = Answer.empty(len(query), values.shape[1], top_k)
    rows = np.arange(len(query))
    for dtype in ("float32", "float64") if key.dtype == np.float32 else ("float64",):
        if not len(rows):
            return answer
        q, k = (_within(x.astype(dtype, copy=False), HUGE[dtype]) for x in (query[rows], key))
        bias = -0.5 * np.einsum("ij,ij->i", k, k, dtype=np.float64)
        if log_weight is not None:
            bias = bias + log_weight
        seen = observe(
            q,
            k,
            values.astype(dtype, copy=False),
            scale=1.0,
            bias=KeyBias(bias.astype(dtype)),
            mask=_except(own, rows, len(query), len(key)),
            entropy=entropy,
            top_k=top_k,
        )
        answer.mean[rows] = seen.output
        if entropy:
            answer.entropy[rows] = seen.entropy
        if top_k:
            answer.indices[rows], answer.weights[rows] = seen.top_k.indices, seen.top_k.weights
        rows = rows[~_trusted(q, seen.lse, len(key), tolerance if dtype == "float32" else TOLERANCE[dtype])]
    if len(rows):
        mine = None if own is None else own[rows]
        answer.put(rows, neighbours.answer(query[rows], values, log_weight, own=mine, top_k=top_k))
    return answer


def _within(x: Floats, limit: float) -> Floats:
    """The same array where nothing is beyond the limit, as is usual."""
    return x if x.size == 0 or (x.max() <= limit and x.min() >= -limit) else np.clip(x, -limit, limit)


def _except(own: Ints | None, rows: Ints, queries: int, keys: int) -> Mask | None:
    if own is None:
        return None
    if len(rows) == queries == keys:
        return ExceptSelf()
    return ~Documents(own[rows].astype(np.int32), np.arange(keys, dtype=np.int32))


def _trusted(query: Floats, lse: Floats, keys: int, tolerance: float) -> Bools:
    """Which rows' scores are right within the tolerance; a row that is not finite is not."""
    length = np.einsum("ij,ij->i", query, query, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        nearest = np.sqrt(np.maximum(length - 2 * lse.astype(np.float64), 0) + 2 * np.log(keys))
        off = float(np.finfo(query.dtype).eps) * (np.sqrt(length) + nearest) ** 2
        trusted: Bools = off <= tolerance
    return trusted

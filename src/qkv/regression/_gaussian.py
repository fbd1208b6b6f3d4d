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

from ._answer import Answer, Bools, Floats, Ints
from ._keys import HUGE, Keys, by_differences

TOLERANCE = {"float32": 2e-4, "float64": 1e-8}
"""How far a score may be off, and so, relatively, a weight."""


def gaussian(
    query: Floats,
    keys: Keys,
    *,
    own: Ints | None = None,
    top_k: int = 0,
    entropy: bool = False,
    tolerance: float = TOLERANCE["float32"],
) -> Answer:
    """Attend to every key with weight ``exp(-|q - k|²/2 + log_weight)``.

    Args:
        query: ``(N, d)``, in bandwidths from the data's centre; float32 lets the kernel begin in float32.
        keys: in one place or in many.
        own: ``(N,)``, the key that is the query itself, which it may not attend to; None where it may.
        top_k, entropy: what to tell beside the means.
        tolerance: of scores in float32.
    """
    answer = Answer.empty(len(query), keys.width, top_k)
    rows = np.arange(len(query))
    for dtype in ("float32", "float64") if keys.single else ("float64",):
        if not len(rows):
            return answer
        asked = query[rows].astype(dtype, copy=False)
        mine = None if own is None else own[rows]
        seen = keys.attend(asked, own=mine, top_k=top_k, entropy=entropy)
        answer.put(rows, Answer.of(seen, top_k))
        rows = rows[~_trusted(asked, seen.lse, keys.total, tolerance if dtype == "float32" else TOLERANCE[dtype])]
    if len(rows):
        mine = None if own is None else own[rows]
        answer.put(rows, by_differences(query[rows], keys, own=mine, top_k=top_k))
    return answer


def _trusted(query: Floats, lse: Floats, keys: int, tolerance: float) -> Bools:
    """Which rows' scores are right within the tolerance; a row that is not finite is not."""
    query = np.clip(query, -HUGE[query.dtype.name], HUGE[query.dtype.name])
    length = np.einsum("ij,ij->i", query, query, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        nearest = np.sqrt(np.maximum(length - 2 * lse.astype(np.float64), 0) + 2 * np.log(keys))
        off = float(np.finfo(query.dtype).eps) * (np.sqrt(length) + nearest) ** 2
        trusted: Bools = off <= tolerance
    return trusted

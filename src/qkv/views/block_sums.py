"""Sums of weights over the cells of any rectangle of a head's map, fast enough to zoom by hand.

The kernel sums blocks at its own speed, but normalises over the keys that it is given. Given only the rectangle's keys
it finds a logsumexp of its own, and each row is put right by one factor::

    weight_ij = exp(score_ij - lse_i) = exp(score_ij - lse'_i) * exp(lse'_i - lse_i)

so rows are summed one by one along their columns, scaled, and then added up. A causal rectangle is cut in two: queries
whose position lies within the columns (causal, the last query at the last key), and queries beyond (nothing masked).
Layers with biases, windows or masks without structure are summed from exact windows of weights instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkv.attention import Causal, observe
from qkv.trace import Attention

from ._numbers import of_head, shared
from .blocks import sum_blocks

_CHUNK = 1 << 18
"""Weights that exist at a time where they are summed from windows: 1 MB, which stays in the processor's cache."""

_CELLS = 1 << 22
"""Sums of single rows that exist at a time: the memory of an answer does not grow with the text."""


def block_sums(
    record: Attention, head: int, rows: tuple[int, int], columns: tuple[int, int], block: int
) -> NDArray[np.float32]:
    """Return the sums over block x block cells of the weights of queries ``rows`` on keys ``columns``."""
    if _structured(record):
        return _from_kernel(record, head, rows, columns, block)
    step = max(1, _CHUNK // (columns[1] - columns[0]) // block) * block
    return np.concatenate(
        [
            sum_blocks(record.weights(head, rows=slice(at, min(at + step, rows[1])), columns=slice(*columns)), block)
            for at in range(rows[0], rows[1], step)
        ]
    )


def _structured(record: Attention) -> bool:
    mask, bias = record.mask_structure, record.bias_structure
    return mask.window is None and mask.array is None and bias.table is None and bias.array is None


def _from_kernel(
    record: Attention, head: int, rows: tuple[int, int], columns: tuple[int, int], block: int
) -> NDArray[np.float32]:
    at, cells = record.position(head), -(-(columns[1] - columns[0]) // block)
    key_head = shared(len(record.heads), record.key_heads, at)
    query, key, lse = of_head(record, "query", at), of_head(record, "key", key_head), record.lse[at]
    # Queries before this one stand within the columns, the others after them: they read all of the columns.
    offset = record.keys - record.queries
    turn = min(max(columns[1] - offset, rows[0]), rows[1]) if record.causal else rows[0]
    step = max(1, _CELLS // cells // block) * block
    found = np.zeros((-(-(rows[1] - rows[0]) // block), cells), np.float32)
    for start in range(rows[0], rows[1], step):
        stop = min(start + step, rows[1])
        single = np.zeros((stop - start, cells), np.float32)
        for first, last, causal in ((start, min(turn, stop), True), (max(turn, start), stop, False)):
            keys = slice(columns[0], min(columns[1], last + offset) if causal else columns[1])
            if first < last and keys.start < keys.stop:
                part = _row_sums(record, query[first:last], key, keys, lse[first:last], block, causal)
                single[first - start : last - start, : part.shape[1]] = part
        down = (start - rows[0]) // block
        found[down : down + -(-(stop - start) // block)] = np.add.reduceat(
            single, np.arange(0, stop - start, block), axis=0
        )
    return found


def _row_sums(
    record: Attention,
    query: NDArray[np.float32],
    key: NDArray[np.float32],
    keys: slice,
    lse: NDArray[np.float32],
    block: int,
    causal: bool,
) -> NDArray[np.float32]:
    """Sums of the weights of each query over blocks of ``keys``: (queries, cells)."""
    mask: Any = Causal() if causal else None
    if record.mask_structure.keys is not None:
        readable = record.mask_structure.keys[None, None, keys]
        mask = readable if mask is None else mask & readable
    count = keys.stop - keys.start
    seen = observe(
        query[None],
        np.ascontiguousarray(key[None, keys]),
        np.zeros((1, count, 1), key.dtype),  # no output is wanted: the narrowest value will do
        mask=mask,
        scale=record.scale,
        softcap=record.softcap,
        block_map=(1, block),
    )
    local = np.asarray(seen.lse)[0]
    # A query that reads nothing here, or nothing at all, has a logsumexp of -infinity and sums of 0.
    reads = np.isfinite(local) & np.isfinite(lse)
    factor = np.exp(np.where(reads, local, 0) - np.where(reads, lse, 0)) * reads
    sums: NDArray[np.float32] = np.asarray(seen.block_map)[0] * factor[:, None]
    return sums

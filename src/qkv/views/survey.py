"""What every head of a layer does over the whole text, in one pass and O(n) memory.

One `observe` gives the marginals, the small map and the strongest keys of each query. The weights on the first, the
previous and the next token are read from narrow exact windows along the diagonal: Q, K and the logsumexp are enough,
so no n x n matrix ever exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkv.attention import weights
from qkv.trace import Attention, Token

from ._numbers import BITS, lengths
from .blocks import block_size, mean_of_blocks
from .contract import HeadFigures
from .opening import CANDIDATES, Telling, most_telling

THUMBNAIL_SIDE = 32
"""Cells on each axis of a small map, at most."""

_ROWS = 256
"""Queries in one window along the diagonal: wide enough for the kernel, small enough to waste little."""


@dataclass(frozen=True, eq=False)
class Survey:
    """One layer, all of its captured heads in the order of ``Attention.heads``; H heads, N queries, M keys."""

    entropy: NDArray[np.float32]
    """(H, N) bits"""
    received: NDArray[np.float32]
    """(H, M) sum of weights over queries"""
    output_norm: NDArray[np.float32]
    """(H, N) length of each output vector"""
    thumbnails: NDArray[np.float32]
    """(H, height, width), mean over a cell's rows of the weight on its columns"""
    figures: list[HeadFigures]
    telling: list[Telling]
    """The most telling pair of each head."""


def survey(record: Attention, query_tokens: list[Token], key_tokens: list[Token]) -> Survey:
    """Return what every captured head of ``record`` does.

    Raises:
        TraceError: the trace keeps statistics only.
    """
    block = block_size(record.queries, record.keys, THUMBNAIL_SIDE)
    seen = record.observe(
        entropy=True, received=True, distance=True, block_map=block, top_k=min(CANDIDATES, record.keys)
    )
    reading = np.isfinite(np.asarray(seen.lse))
    first, previous, following = _weights_beside(record, np.asarray(seen.lse))
    columns: dict[str, NDArray[np.float32]] = {
        "entropy": (np.asarray(seen.entropy) * BITS).astype(np.float32),
        "first": first,
        "previous": previous,
        "next": following,
        "distance": np.asarray(seen.distance),
    }
    own = np.arange(record.queries) + (record.keys - record.queries)
    have = {"previous": reading & (own > 0), "next": reading & (own + 1 < record.keys)}
    means = {name: _mean(values, have.get(name, reading)) for name, values in columns.items()}
    received = np.asarray(seen.received)
    return Survey(
        entropy=columns["entropy"],
        received=received,
        output_norm=lengths(np.asarray(seen.output)),
        thumbnails=mean_of_blocks(np.asarray(seen.block_map), record.queries, block),
        figures=[
            HeadFigures(
                entropy=means["entropy"][head],
                first=means["first"][head],
                previous=means["previous"][head],
                next=means["next"][head],
                distance=means["distance"][head] if record.kind == "self" else 0.0,
                induction=None,
            )
            for head in range(len(record.heads))
        ],
        telling=most_telling(
            record, np.asarray(seen.top_k.indices), np.asarray(seen.top_k.weights), received, query_tokens, key_tokens
        ),
    )


def _mean(values: NDArray[np.float32], reading: NDArray[np.bool_]) -> list[float]:
    """The mean of each head over the queries marked; 0 for a head that has none."""
    total = np.where(reading, values, 0).sum(axis=1, dtype=np.float64)
    found: list[float] = (total / np.maximum(reading.sum(axis=1), 1)).tolist()
    return found


def _weights_beside(
    record: Attention, lse: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Each query's weight on the first token, and in self-attention on the token before and after it; all (H, N)."""
    heads, queries, keys = len(record.heads), record.queries, record.keys
    first = np.zeros((heads, queries), np.float32)
    previous, following = np.zeros_like(first), np.zeros_like(first)
    if not queries or not keys:
        return first, previous, following
    # `Attention.weights` sums all keys again, in float64; for means the logsumexp at hand is exact enough.
    given: dict[str, Any] = {"lse": lse, "mask": record.mask, "bias": record.bias, "sink": record.sink}
    window_of = partial(weights, record.query, record.key, **given, scale=record.scale, softcap=record.softcap)
    first[:] = window_of(columns=slice(0, 1))[..., 0]
    if record.kind == "self":
        offset = keys - queries  # where a cache stood before the queries, they are the last of the keys
        for start in range(0, queries, _ROWS):
            rows = np.arange(start, min(start + _ROWS, queries))
            left = max(start + offset - 1, 0)
            window = window_of(
                rows=slice(start, int(rows[-1]) + 1), columns=slice(left, min(int(rows[-1]) + offset + 2, keys))
            )
            for target, beside in ((previous, rows + offset - 1), (following, rows + offset + 1)):
                there = (beside >= 0) & (beside < keys)
                target[:, rows[there]] = window[:, rows[there] - start, beside[there] - left]
    return first, previous, following

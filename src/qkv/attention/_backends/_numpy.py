"""A backend in NumPy: the plan read row block by row block, in O(n) memory.

It serves what has no elements (no keys, no queries, no batch), which compiled loops need not know, and it is what the
native backend and the lowering of masks are tested against, one at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays import narrow, widen
from .._dropout import kept
from .._plan import Plan
from .._window import window_scores, window_weights
from . import DType, Outputs

BLOCK = 1 << 22
"""How many scores are held at a time."""


def attend(
    query: NDArray[Any], key: NDArray[Any], value: NDArray[Any], plan: Plan, outputs: Outputs, *, dtype: DType
) -> None:
    """See `Backend`."""
    query, key, value = (widen(array, dtype) for array in (query, key, value))
    batch, heads, queries, _ = query.shape
    keys = key.shape[2]
    columns = np.arange(keys)
    for sums in (outputs.received, outputs.block_map):
        if sums is not None:
            sums[...] = 0
    step = max(1, BLOCK // max(1, batch * heads * keys))
    for first in range(0, queries, step):
        last = min(first + step, queries)
        rows = np.arange(first, last)
        with np.errstate(invalid="ignore", over="ignore"):
            scores = window_scores(query[:, :, rows], key, plan, rows, columns)
            lse = _logsumexp(scores, plan.sink)
            weights = window_weights(scores, lse)
            used = weights
            if plan.dropout:
                stays = kept(plan.dropout, plan.seed, batch, heads, rows, columns)
                used = np.where(stays, weights / weights.dtype.type(1 - plan.dropout), 0).astype(weights.dtype)
            narrow(_weighted(used, scores, value), outputs.output[:, :, first:last], dtype)
            if outputs.lse is not None:
                outputs.lse[:, :, rows] = lse
            _observe(scores, weights, lse, plan, outputs, rows)


def _logsumexp(scores: NDArray[Any], sink: NDArray[Any] | None) -> NDArray[Any]:
    """Natural log of the sum of exp over keys, the sink included; -inf over nothing."""
    highest = scores.max(-1, initial=-np.inf)
    if sink is not None:
        highest = np.maximum(highest, sink[:, None])
    reference = np.where(np.isfinite(highest), highest, scores.dtype.type(0))
    with np.errstate(divide="ignore", over="ignore"):
        total = np.exp(scores - reference[..., None]).sum(-1)
        if sink is not None:
            total += np.exp(sink[:, None] - reference)
        result: NDArray[Any] = reference + np.log(total)
    return result


def _weighted(weights: NDArray[Any], scores: NDArray[Any], value: NDArray[Any]) -> NDArray[Any]:
    """Weighted sums of values, ``(batch, heads, rows, value_dim)``; what is masked is not read, NaN or not."""
    value = np.repeat(value, weights.shape[1] // max(value.shape[1], 1), axis=1)
    if np.isfinite(value).all():
        total: NDArray[Any] = weights @ value
        return total
    masked = (scores == -np.inf)[..., None]
    product: NDArray[Any] = np.where(masked, value.dtype.type(0), weights[..., None] * value[:, :, None]).sum(-2)
    return product


def _observe(
    scores: NDArray[Any], weights: NDArray[Any], lse: NDArray[Any], plan: Plan, outputs: Outputs, rows: NDArray[np.intp]
) -> None:
    columns = np.arange(scores.shape[-1])
    if outputs.max_score is not None:
        outputs.max_score[:, :, rows] = scores.max(-1, initial=-np.inf)
    if outputs.entropy is not None:
        masked = scores == -np.inf
        surprise = lse[..., None] - np.where(masked, scores.dtype.type(0), scores)
        outputs.entropy[:, :, rows] = np.where(masked, scores.dtype.type(0), weights * surprise).sum(-1)
    if outputs.distance is not None:
        apart = np.abs(rows[:, None] + plan.offset - columns).astype(weights.dtype)
        outputs.distance[:, :, rows] = (weights * apart).sum(-1)
    if outputs.top_indices is not None and outputs.top_weights is not None:
        width = min(outputs.top_indices.shape[-1], scores.shape[-1])
        order = np.argsort(-scores, axis=-1, kind="stable")[..., :width]
        found = np.take_along_axis(scores, order, -1) != -np.inf
        outputs.top_indices[:, :, rows] = -1
        outputs.top_weights[:, :, rows] = 0
        outputs.top_indices[:, :, rows, :width] = np.where(found, order, -1)
        outputs.top_weights[:, :, rows, :width] = np.where(found, np.take_along_axis(weights, order, -1), 0)
    if outputs.received is not None:
        outputs.received += weights.sum(-2)
    if outputs.block_map is not None:
        tall, wide = outputs.block
        across = np.add.reduceat(weights, np.arange(0, weights.shape[-1], wide), axis=-1) if columns.size else weights
        for row in range(rows[0] // tall, rows[-1] // tall + 1):
            outputs.block_map[:, :, row] += across[:, :, rows // tall == row].sum(-2)

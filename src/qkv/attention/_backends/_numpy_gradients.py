"""The backward pass in NumPy: rows of weights recomputed block by block from lse, in O(n) memory.

It is what the native backward pass is tested against, and what serves arrays without elements.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays import narrow, widen
from .._dropout import kept
from .._plan import Plan
from .._window import scaled_products, window_scores, window_weights
from . import DType, Gradients
from ._numpy import BLOCK


def backward(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    output: NDArray[Any],
    lse: NDArray[Any],
    grad_output: NDArray[Any],
    grad_lse: NDArray[Any] | None,
    plan: Plan,
    gradients: Gradients,
    *,
    dtype: DType,
) -> None:
    """See `Backward`."""
    query, key, value, output, grad_output = (widen(a, dtype) for a in (query, key, value, output, grad_output))
    batch, heads, queries, _ = query.shape
    columns = np.arange(key.shape[2])
    grad_query, grad_key, grad_value = (np.zeros(array.shape, query.dtype) for array in (query, key, value))
    for total in (*gradients.bias, gradients.sink):
        if total is not None:
            total[...] = 0
    step = max(1, BLOCK // max(1, batch * heads * len(columns)))
    for first in range(0, queries, step):
        rows = np.arange(first, min(first + step, queries))
        with np.errstate(invalid="ignore", over="ignore"):
            scores = window_scores(query[:, :, rows], key, plan, rows, columns)
            weights = window_weights(scores, lse[:, :, rows])
            masked = scores == -np.inf
            given = grad_output[:, :, rows]
            share = np.where(masked, query.dtype.type(0), scaled_products(given, value, 1.0))
            used, unused = weights, masked
            if plan.dropout:
                stays = kept(plan.dropout, plan.seed, batch, heads, rows, columns)
                factor = query.dtype.type(1 / (1 - plan.dropout))
                used, share = (np.where(stays, array * factor, query.dtype.type(0)) for array in (weights, share))
                unused = masked | ~stays
            delta = (given * output[:, :, rows]).sum(-1)
            if grad_lse is not None:
                delta -= grad_lse[:, :, rows]
            grad_scores = np.where(masked, query.dtype.type(0), weights * (share - delta[..., None]))
            grad_value += _over_queries(used, given, unused, value.shape[1])
            _add_bias(grad_scores, plan, gradients, rows, columns)
            if gradients.sink is not None and plan.sink is not None:
                pull = np.exp(plan.sink[:, None] - lse[:, :, rows])
                gradients.sink -= np.where(lse[:, :, rows] == -np.inf, 0, pull * delta).sum((0, 2))
            if plan.softcap:
                bent = np.tanh(scaled_products(query[:, :, rows], key, plan.scale / plan.softcap))
                grad_scores = np.where(masked, query.dtype.type(0), grad_scores * (1 - bent * bent))
            grad_scores *= grad_scores.dtype.type(plan.scale)
            grad_query[:, :, rows] = _over_keys(grad_scores, key, masked)
            grad_key += _over_queries(grad_scores, query[:, :, rows], masked, key.shape[1])
    for found, wanted in ((grad_query, gradients.query), (grad_key, gradients.key), (grad_value, gradients.value)):
        narrow(found, wanted, dtype)


def _over_keys(grad_scores: NDArray[Any], key: NDArray[Any], masked: NDArray[np.bool_]) -> NDArray[Any]:
    """``(batch, heads, rows, dim)``: sums over the keys that a query may attend to."""
    key = np.repeat(key, grad_scores.shape[1] // max(key.shape[1], 1), axis=1)
    total: NDArray[Any]
    if np.isfinite(key).all():
        total = grad_scores @ key
    else:
        total = np.where(masked[..., None], key.dtype.type(0), grad_scores[..., None] * key[:, :, None]).sum(-2)
    return total


def _over_queries(weights: NDArray[Any], given: NDArray[Any], masked: NDArray[np.bool_], heads: int) -> NDArray[Any]:
    """``(batch, key heads, keys, dim)``: sums over the queries that may attend to a key, all heads that share it."""
    if np.isfinite(given).all() and np.isfinite(weights).all():
        each = weights.swapaxes(-1, -2) @ given
    else:
        product = np.where(masked[..., None], given.dtype.type(0), weights[..., None] * given[..., None, :])
        each = product.sum(2)
    batch, all_heads, keys, dim = each.shape
    total: NDArray[Any] = each.reshape(batch, heads, all_heads // max(heads, 1), keys, dim).sum(2)
    return total


def _add_bias(
    grad_scores: NDArray[Any], plan: Plan, gradients: Gradients, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> None:
    """Add what these rows contribute to the gradients of the bias terms."""
    for term, total in zip(plan.bias, gradients.bias, strict=False):
        if total is None:
            continue
        match term:
            case ("alibi", _, offset):
                apart = np.abs(rows[:, None] + offset - columns)
                total -= (grad_scores * apart).sum((0, 2, 3)).astype(total.dtype)
            case ("relative", table, offset):
                reach = table.shape[1] // 2
                place = np.clip(columns - rows[:, None] - offset, -reach, reach) + reach
                for head, part in enumerate(grad_scores.sum(0)):
                    total[head] += np.bincount(place.ravel(), part.ravel(), table.shape[1]).astype(total.dtype)
            case ("array", _):
                axes = tuple(axis for axis in (0, 1, 3) if total.shape[axis] == 1)
                part = grad_scores.sum(axes, keepdims=True) if axes else grad_scores
                if total.shape[2] == 1:
                    total += part.sum(2, keepdims=True)
                else:
                    total[:, :, rows] += part

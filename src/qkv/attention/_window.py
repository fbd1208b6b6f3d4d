"""Any window of the scores and weights, computed when somebody looks at it.

This reads a plan with NumPy, vectorised over the rows and columns asked for; nothing larger is ever made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import host
from ._plan import MaskStep, Plan


def window_scores(
    query: NDArray[Any], key: NDArray[Any], plan: Plan, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[Any]:
    """Scores after softcap, bias and mask (-inf where a query may not attend).

    Args:
        query: ``(batch, heads, rows, dim)``, float32 or float64: the rows asked for alone.
        key: ``(batch, key_heads, columns, dim)``: the columns asked for alone.
        plan: in full coordinates.
        rows, columns: where they stand in full coordinates.
    """
    scores = scaled_products(query, key, plan.scale)
    if plan.softcap:
        cap = scores.dtype.type(plan.softcap)
        scores = cap * np.tanh(scores / cap)
    for term in plan.bias:
        match term:
            case ("alibi", slopes, offset):
                scores -= slopes[:, None, None] * np.abs(rows[:, None] + offset - columns).astype(scores.dtype)
            case ("relative", table, offset):
                reach = table.shape[1] // 2
                scores = add_bias(scores, table[:, np.clip(columns - rows[:, None] - offset, -reach, reach) + reach])
            case ("array", values):
                scores = add_bias(scores, host(values[:, :, rows[:, None], columns]))
    masked: NDArray[Any] = np.where(window_mask(plan, rows, columns), scores, scores.dtype.type(-np.inf))
    return masked


def scaled_products(query: NDArray[Any], key: NDArray[Any], scale: float) -> NDArray[Any]:
    """``scale * query . key`` for every pair, ``(batch, heads, rows, columns)``; key heads are shared by groups."""
    batch, heads, rows, dim = query.shape
    grouped = query.reshape(batch, key.shape[1], heads // max(key.shape[1], 1), rows, dim)
    with np.errstate(invalid="ignore", over="ignore"):
        products: NDArray[Any] = (grouped @ key[:, :, None].swapaxes(-1, -2)).reshape(batch, heads, rows, key.shape[2])
    products *= products.dtype.type(scale)
    return products


def add_bias(scores: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    """Scores and a bias; one of -inf counts as masked, whatever the score: NaN and infinity too."""
    with np.errstate(invalid="ignore"):
        biased: NDArray[Any] = np.where(bias == -np.inf, scores.dtype.type(-np.inf), scores + bias)
    return biased


def window_mask(plan: Plan, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Where a query may attend: broadcasts to ``(batch, heads, rows, columns)``."""
    mask: NDArray[np.bool_] = plan.allowed(lambda step: _pushed(step, rows, columns))
    return mask


def _pushed(step: MaskStep, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.bool_]:
    match step:
        case ("interval", start, stop):
            within: NDArray[np.bool_] = (start[:, None, rows, None] <= columns) & (columns < stop[:, None, rows, None])
            return within
        case ("equal", query_ids, key_ids):
            same: NDArray[np.bool_] = query_ids[:, None, rows, None] == key_ids[:, None, None, columns]
            return same
        case ("array", values):
            return host(values[:, :, rows[:, None], columns])
    raise AssertionError(step)


def window_weights(scores: NDArray[Any], lse: NDArray[Any]) -> NDArray[Any]:
    """``exp(score - lse)``; what is masked weighs 0, in empty rows (lse = -inf) too."""
    with np.errstate(invalid="ignore"):
        weights: NDArray[Any] = np.exp(scores - lse[..., None])
    weights[scores == -np.inf] = 0
    return weights

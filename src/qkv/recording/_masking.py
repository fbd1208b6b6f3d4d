"""From what each query was allowed to read, step by step, to the structure of the whole mask.

A layer that writes a text is seen as one call for the prompt and one for each token after it. What every query may
read is kept as an interval of keys where it is one (causal masks, windows, padding), else as booleans. In the end
the intervals are compared with the masks that have a name; nothing N x M is made for those that do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..adapters._runs import Runs
from ..trace import BiasStructure, MaskStructure


@dataclass(frozen=True, eq=False)
class Reach:
    """What the queries of one call may read, in keys counted from the start of the text.

    Attributes:
        start, stop: int64 ``(n,)``: query i reads ``start <= j < stop``, of these
        dense: bool ``(1 | H, n, m)`` over the last m keys of the call; None where the interval says everything.
        keys: how many keys there were when the call was made.
    """

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    keys: int
    dense: NDArray[np.bool_] | None = None


def reach(
    start: NDArray[np.int64], stop: NDArray[np.int64], seen: int, keys: int, *, allowed: NDArray[np.bool_] | None
) -> Reach:
    """What n queries may read that see the last `seen` of `keys` keys.

    Arguments:
        start, stop: int64 ``(n,)``: query i reads ``start <= j < stop`` of what it sees, of these
        allowed: bool ``(1 | H, n, seen)``, or None for all.
    """
    first = keys - seen
    if allowed is None:
        return Reach(first + start, first + stop, keys)
    among = np.arange(seen)
    allowed = allowed & (among >= start[:, None]) & (among < stop[:, None])
    runs = Runs.found_in(allowed)
    if runs is None or (len(allowed) > 1 and not bool((allowed == allowed[0]).all())):
        return Reach(first + start, first + stop, keys, allowed)
    return Reach(first + runs.start[0], first + runs.stop[0], keys)


def mask_structure(steps: list[Reach], *, causal: bool, window: int | None) -> MaskStructure:
    """The mask of all steps together, by the simplest structure that says exactly the same.

    Arguments:
        causal: the layer is known to be causal: where a short text leaves the choice, it is.
        window: how many keys a query reads at most, where the model says so.
    """
    if any(step.dense is not None for step in steps):
        return _of_booleans(_dense(steps))
    start = np.concatenate([step.start for step in steps])
    stop = np.concatenate([step.stop for step in steps])
    queries, keys = len(start), steps[-1].keys
    position = np.arange(queries) + keys - queries

    def matches(left: int | None, right: int | None) -> bool:
        low = np.zeros_like(start) if left is None else np.maximum(position - left, 0)
        high = np.full_like(stop, keys) if right is None else np.minimum(position + right + 1, keys)
        return bool((start == low).all() and (stop == high).all())

    if causal and window and matches(window - 1, 0):
        return MaskStructure(causal=True, window=(window - 1, 0))
    if matches(None, 0) and (causal or queries > 1):
        return MaskStructure(causal=True)
    if matches(None, None):
        return MaskStructure()
    left, right = int((position - start).max(initial=0)), int((stop - 1 - position).max(initial=0))
    if matches(left, right):
        return MaskStructure(causal=right == 0, window=(left, right))
    if len(np.unique(start)) == 1 and len(np.unique(stop)) == 1:
        among = np.arange(keys)
        return MaskStructure(keys=(among >= start[0]) & (among < stop[0]))
    return _of_booleans(_dense(steps))


def _of_booleans(array: NDArray[np.bool_]) -> MaskStructure:
    """Keys that nobody may read, apart from what a causal mask hides; else the array itself."""
    if len(array) == 1:
        read = array[0].any(0)
        if bool((array[0] == read).all()):
            return MaskStructure(keys=read)
        queries, keys = array.shape[1:]
        earlier = np.tri(queries, keys, keys - queries, dtype=np.bool_)
        if bool((array[0] == (earlier & read)).all()):
            return MaskStructure(causal=True, keys=read)
    return MaskStructure(array=array)


def _dense(steps: list[Reach]) -> NDArray[np.bool_]:
    """All steps as booleans ``(1 | H, N, M)``."""
    heads = max((len(step.dense) for step in steps if step.dense is not None), default=1)
    queries, keys = sum(len(step.start) for step in steps), steps[-1].keys
    array = np.zeros((heads, queries, keys), np.bool_)
    among, row = np.arange(keys), 0
    for step in steps:
        rows = slice(row, row + len(step.start))
        if step.dense is not None:
            array[:, rows, step.keys - step.dense.shape[2] : step.keys] = step.dense
        else:
            array[:, rows] = (among >= step.start[:, None]) & (among < step.stop[:, None])
        row = rows.stop
    return array


def bias_structure(steps: list[tuple[NDArray[Any] | None, int, int]]) -> BiasStructure:
    """The bias of all steps together: a table over the steps from query to key where it is one.

    Arguments:
        steps: for each call the bias ``(1 | H, n, seen)`` over the last keys or None, n, and how many keys there were.
    """
    given = [bias for bias, _, _ in steps if bias is not None]
    if not any(bool(bias.any()) for bias in given):
        return BiasStructure()
    heads = max(len(bias) for bias in given)
    queries, keys = sum(n for _, n, _ in steps), steps[-1][2]
    radius = max(queries, keys) - 1
    table = np.full((heads, 2 * radius + 1), np.nan, given[0].dtype)
    placed, row = [], 0
    for bias, n, there in steps:
        if bias is not None:
            seen = bias.shape[2]
            step = np.arange(there - seen, there) - (np.arange(row, row + n)[:, None] + keys - queries)
            table[:, step + radius] = bias
            placed.append((step + radius, bias, row, there - seen))
        row += n
    if radius and all(bool((table[:, index] == bias).all()) for index, bias, _, _ in placed):
        return BiasStructure(table=np.nan_to_num(table, nan=0.0))
    array = np.zeros((heads, queries, keys), given[0].dtype)
    for index, bias, first_row, first_key in placed:
        array[:, first_row : first_row + index.shape[0], first_key : first_key + index.shape[1]] = bias
    return BiasStructure(array=array)

"""Which queries and keys are looked at together where torch computes: what bounds its memory, and spares it what lies
outside a mask's bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

from torch import Tensor

from .._plan import Plan

BLOCK = 1 << 22
"""How many scores are held at a time."""

Inputs: TypeAlias = dict[str, Tensor]
"""What is differentiated with respect to: `query`, `key`, `value`, and where they are tensors of their own rather than
the plan's arrays, `sink` and `bias0`, `bias1`, ... in the shapes of `Gradients`."""


def chunks(query: Tensor, key: Tensor, plan: Plan) -> Iterator[tuple[slice, slice]]:
    """Runs of queries whose scores are held at a time, and of the keys that lie within the bounds of any of them.

    As few queries as all keys leave room for; more of them where they see few keys, and not much more together.
    """
    items, queries, keys = max(1, query.shape[0] * query.shape[1]), query.shape[2], key.shape[2]
    least = max(1, BLOCK // max(1, items * keys))
    first = 0
    while first < queries:
        last = min(first + least, queries)
        left, right = _within(plan, first, last)
        widest = 2 * (right - left)
        while last < queries:
            more = min(2 * last - first, queries)
            start, stop = _within(plan, first, more)
            if stop - start > widest or (stop - start) * (more - first) * items > BLOCK:
                break
            last, left, right = more, start, stop
        yield slice(first, last), slice(left, right)
        first = last


def _within(plan: Plan, first: int, last: int) -> tuple[int, int]:
    """The run of keys that holds the bounds of some queries."""
    start, stop = plan.start[:, first:last], plan.stop[:, first:last]
    right = int(stop.max(initial=0, where=start < stop))
    return int(start.min(initial=right, where=start < stop)), right


def piece_of(plan: Plan, rows: slice, keys: slice) -> Plan:
    """The plan of some queries and keys; dropout is a `_factor` by itself."""
    return replace(plan, dropout=0.0).rows(rows.start, rows.stop).columns(keys.start, keys.stop)


def rows_of(inputs: Inputs, plan: Plan, rows: slice) -> Inputs:
    """The inputs of some queries alone; what all queries share is the tensor itself."""
    everything = (rows.start, rows.stop) == (0, plan.start.shape[1])

    def cut(name: str, tensor: Tensor) -> Tensor:
        by_row = name in ("query", "grad_output", "grad_lse") or (_is_array(name, plan) and tensor.shape[2] > 1)
        return tensor[:, :, rows] if by_row and not everything else tensor

    return {name: cut(name, tensor) for name, tensor in inputs.items()}


def keys_of(inputs: Inputs, plan: Plan, keys: slice) -> Inputs:
    """The inputs of some keys alone."""

    def cut(name: str, tensor: Tensor) -> Tensor:
        if name in ("key", "value"):
            return tensor[:, :, keys]
        return tensor[..., keys] if _is_array(name, plan) and tensor.shape[3] > 1 else tensor

    return {name: cut(name, tensor) for name, tensor in inputs.items()}


def _is_array(name: str, plan: Plan) -> bool:
    """Whether an input is an array of biases."""
    return name.startswith("bias") and plan.bias[int(name[4:])][0] == "array"

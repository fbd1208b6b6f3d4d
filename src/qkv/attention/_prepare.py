"""From a caller's arguments to a `Problem`: validated once, in one place, with messages that help.

Arrays become 4-D NumPy views, everything else one `Plan`. All public functions start here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, SupportsFloat, TypeAlias, cast

import numpy as np

from .._typing import Array
from ..errors import ArgumentError
from ._arrays import (
    FLOATS,
    View,
    check_number,
    describe,
    empty,
    fitted,
    real,
    refuse_gradients,
    usable,
    view,
    widen,
)
from ._biases import Bias, as_bias
from ._bounds import Bounds
from ._dropout import check_dropout
from ._mask import Mask, as_mask
from ._plan import BiasTerm, DType, Plan
from ._scores import Align, ScoreShape

LONGEST = 2**31 - 1
"""Positions are int32 in a plan."""
REMEMBERED = 4096
"""Plans for so many queries are remembered: making one takes longer than a short call's attention itself."""
Shapes: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]
"""By name, in a form that can be looked up."""


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What is to be computed, for a backend.

    Attributes:
        query, key, value: NumPy views, ``(batch, heads, length, dim)``, or tensors on a device; see `View`.
        like: the query as the caller gave it: results are of its framework.
        leading: the caller's axes in front of the length: ``(*batch, heads)``, or ``()`` for 2-D input.
        shape: of the scores.
        plan: everything else.
    """

    query: Any
    key: Any
    value: Any
    like: View
    leading: tuple[int, ...]
    shape: ScoreShape
    plan: Plan

    @property
    def dtype(self) -> DType:
        return cast(DType, self.like.dtype)

    @property
    def real(self) -> str:
        """The dtype of statistics."""
        return real(self.like.dtype)

    def new(self, *axes: int, dtype: str | None = None) -> tuple[Array, Any]:
        """An uninitialised result ``(*leading, *axes)`` for the caller, and its view ``(batch, heads, *axes)``."""
        result, data = empty((*self.leading, *axes), dtype or self.real, self.like)
        return result, data.reshape(self.shape.batches, self.shape.heads, *axes)


def prepare(
    query: Array,
    key: Array,
    value: Array | None,
    *,
    mask: Mask | Array | None,
    bias: Bias | Array | None,
    scale: SupportsFloat | None,
    softcap: SupportsFloat | None,
    sink: Array | None,
    align: Align = "bottom-right",
    total: int | None = None,
    same_dim: bool = True,
    values: bool = True,
    dropout: SupportsFloat = 0.0,
    seed: int | None = None,
    gradients: bool = False,
    devices: bool = False,
) -> Problem:
    """Validate everything.

    Without `values`, where only statistics are wanted, they have no dimensions. With `gradients` the caller sees to
    tensors that require them; otherwise they are refused. With `devices` it sees to tensors that lie on another device.
    `total` is the number of keys in all where `key` is only a piece of them: the plan is made for all of them. Queries
    and keys may have different dimensions where `same_dim` is False (a score function of the caller's own).

    Raises:
        ArgumentError: naming the argument, what was expected and what came.
    """
    arrays = {"query": query, "key": key, **({"value": value} if values else {})}
    views = {name: view(array, name, gradients=gradients, devices=devices) for name, array in arrays.items()}
    _check_kinds(views)
    like = views["query"]
    shapes = tuple((name, seen.data.shape) for name, seen in views.items())
    if bias is None and sink is None and _is_small(shapes, mask, scale, softcap):
        leading, shape, plan = _remembered(shapes, like.dtype, mask, scale, softcap, align, total, same_dim)  # type: ignore[arg-type]
    else:
        leading, shape = _check_shapes(shapes, total, same_dim)
        bias = None if bias is None else as_bias(bias)
        if bias is not None and not (gradients and like.framework == "torch"):
            for leaf in bias._leaves(shape):
                refuse_gradients(leaf, "bias")
        if not gradients:
            refuse_gradients(sink, "sink")
        plan = make_plan(
            shape,
            like.data.shape[-1],
            like.dtype,
            mask=None if mask is None else as_mask(mask),
            bias=bias,
            scale=scale,
            softcap=softcap,
            sink=sink,
            align=align,
            owner=like.owner,
        )
    flat = {name: flatten(seen.data, shape.batches) for name, seen in views.items()}
    flat.setdefault("value", flat["key"][..., :0])
    if type(dropout) is not float or dropout != 0 or seed is not None:
        probability, drawn = check_dropout(dropout, seed)
        if probability:
            plan = replace(plan, dropout=probability, seed=drawn)
    return Problem(**flat, like=like, leading=leading, shape=shape, plan=plan)


def _is_small(shapes: Shapes, mask: object, scale: object, softcap: object) -> bool:
    """Whether all that a plan is made of are a few numbers: then it is remembered."""
    return (
        (mask is None or (isinstance(mask, Mask) and mask._is_small()))
        and (scale is None or type(scale) is float)
        and (softcap is None or type(softcap) is float)
        and len(shapes[0][1]) >= 2
        and shapes[0][1][-2] <= REMEMBERED
    )


@lru_cache(maxsize=256)
def _remembered(
    shapes: Shapes,
    dtype: str,
    mask: Mask | None,
    scale: float | None,
    softcap: float | None,
    align: Align,
    total: int | None,
    same_dim: bool,
) -> tuple[tuple[int, ...], ScoreShape, Plan]:
    """Checked shapes and their plan, whose arrays are everybody's: read-only."""
    leading, shape = _check_shapes(shapes, total, same_dim)
    plan = make_plan(shape, shapes[0][1][-1], dtype, mask=mask, scale=scale, softcap=softcap, align=align)
    for array in (plan.start, plan.stop, *(array for step in plan.residual for array in step[1:])):
        array.flags.writeable = False
    return leading, shape, plan


def make_plan(
    shape: ScoreShape,
    head_dim: int,
    dtype: str,
    *,
    mask: Mask | None = None,
    bias: Bias | None = None,
    scale: SupportsFloat | None = None,
    softcap: SupportsFloat | None = None,
    sink: Array | None = None,
    align: Align = "bottom-right",
    owner: str | None = None,
) -> Plan:
    """Lower checked arguments to the plan for scores of this shape."""
    for name, given in (("mask", mask), ("bias", bias)):
        others = given._owners() - {owner} if given is not None and owner else set()
        if others:
            raise ArgumentError(f"{name}: expected {_owned(owner)} like the query, got {_owned(others.pop())}")
    bounds = Bounds.everything(shape.queries, shape.keys) if mask is None else mask._bounds(shape)
    terms: tuple[BiasTerm, ...] = () if bias is None else tuple(bias._terms(shape, real(dtype)))
    return Plan(
        start=bounds.start,
        stop=bounds.stop,
        residual=bounds.program,
        bias=terms,
        scale=check_scale(scale, head_dim, real(dtype)),
        softcap=check_softcap(softcap, real(dtype)),
        sink=check_sink(sink, shape.heads, real(dtype), owner),
        offset=shape.offset(align),
    )


def check_scale(scale: SupportsFloat | None, head_dim: int, dtype: str) -> float:
    if scale is None:
        return 1 / math.sqrt(head_dim)
    expected = "a finite number, or None for 1/sqrt(head_dim)"
    number = check_number(scale, "scale", expected)
    if abs(number) > float(np.finfo(dtype).max):
        raise ArgumentError(f"scale: expected {expected}, got {scale}, which {dtype} cannot hold")
    return number


def check_softcap(softcap: SupportsFloat | None, dtype: str) -> float:
    if softcap is None:
        return 0.0
    expected = "a positive number, or None for no cap"
    number, held = check_number(softcap, "softcap", expected), np.finfo(dtype)
    if number <= 0:
        raise ArgumentError(f"softcap: expected {expected}, got {softcap}")
    if not float(held.tiny) <= number <= float(held.max):
        raise ArgumentError(f"softcap: expected {expected}, got {softcap}, which {dtype} cannot hold")
    return number


def check_sink(sink: Array | None, heads: int, dtype: str, owner: str | None) -> Any:
    if sink is None:
        return None
    seen = view(sink, "sink", gradients=True, devices=True)
    if owner and seen.owner != owner:
        raise ArgumentError(f"sink: expected {_owned(owner)} like the query, got {_owned(seen.owner)}")
    if seen.dtype not in FLOATS or seen.data.shape != (heads,):
        raise ArgumentError(f"sink: expected floats of shape ({heads},), one for each query head, got {describe(sink)}")
    logits = fitted(widen(seen.data, seen.dtype), dtype)
    return logits if seen.by_torch else np.ascontiguousarray(logits)


def _check_kinds(views: dict[str, View]) -> None:
    """The same framework and device, and the same float dtype."""
    query = views["query"]
    for name, seen in views.items():
        if seen.owner != query.owner:
            raise ArgumentError(f"{name}: expected {_owned(query.owner)} like the query, got {_owned(seen.owner)}")
        if seen.dtype not in FLOATS:
            raise ArgumentError(
                f"{name}: expected float16, bfloat16, float32 or float64, got {seen.dtype}; convert it, to float32 say"
            )
        if seen.dtype != query.dtype:
            raise ArgumentError(
                f"{name}: expected {query.dtype} like the query, got {seen.dtype}; dtypes are not mixed, convert one"
            )


def _check_shapes(named: Shapes, total: int | None, same_dim: bool) -> tuple[tuple[int, ...], ScoreShape]:
    """The caller's axes in front of the length, and the shape of the scores."""
    shapes = dict(named)
    query, key = shapes["query"], shapes["key"]
    for name, shape in shapes.items():
        if len(shape) < 2:
            raise ArgumentError(
                f"{name}: expected (length, head_dim), (heads, length, head_dim) or (batch, heads, length, head_dim), "
                f"got shape {shape}"
            )
        if len(shape) != len(query):
            raise ArgumentError(f"{name}: expected {len(query)} axes like the query {query}, got shape {shape}")
        if shape[:-3] != query[:-3]:
            raise ArgumentError(f"{name}: expected the batch axes {query[:-3]} of the query, got shape {shape}")
    if query[-1] < 1:
        raise ArgumentError(f"query: expected a head_dim of at least 1, got shape {query}")
    if same_dim and key[-1] != query[-1]:
        raise ArgumentError(f"key: expected the query's head_dim {query[-1]}, got shape {key}")
    if "value" in shapes and shapes["value"][-2] != key[-2]:
        raise ArgumentError(f"value: expected one for each of {key[-2]} keys, got shape {shapes['value']}")
    if len(query) > 2:
        if "value" in shapes and shapes["value"][-3] != key[-3]:
            raise ArgumentError(f"value: expected the key's {key[-3]} heads, got shape {shapes['value']}")
        if query[-3] != key[-3] and (key[-3] == 0 or query[-3] % key[-3]):
            raise ArgumentError(
                f"key: expected a number of heads that divides the query's {query[-3]}, got {key[-3]} in shape {key}; "
                "axes are (batch, heads, length, head_dim): transpose (batch, length, heads, head_dim)"
            )
    keys = key[-2] if total is None else total
    for name, count in (("query", query[-2]), ("key", keys)):
        if count > LONGEST:
            raise ArgumentError(f"{name}: expected a length of at most {LONGEST}, got {count}")
    leading, heads = (query[:-2], query[-3]) if len(query) > 2 else ((), 1)
    return leading, ScoreShape(leading[:-1], heads, query[-2], keys)


def flatten(data: Any, batches: int) -> Any:
    """``(batch, heads, length, dim)`` that a backend can walk: a view unless its strides forbid that."""
    if data.ndim != 4:
        data = data.reshape(batches, data.shape[-3] if data.ndim > 2 else 1, *data.shape[-2:])
    return usable(data)


def _owned(owner: str | None) -> str:
    framework, _, device = (owner or "numpy").partition(" ")
    kind = {"numpy": "a NumPy array", "torch": "a torch tensor", "jax": "a JAX array"}[framework]
    return f"{kind} {device}" if device else kind

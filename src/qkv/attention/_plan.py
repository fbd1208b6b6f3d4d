"""The one plan: what masks, biases, scale, softcap and sink come to, once they have been checked.

Every backend, the torch functions and the Hugging Face adapter consume a `Plan`; none interprets arguments again.
Leading axes are flattened before: everything here speaks of ``(batch, heads, length, dim)`` with one batch axis.

A weight is allowed where ``start <= key < stop`` **and** the residual program (if there is one) says true::

    score[b, h, i, j] = softcap(scale * query[b, h, i] . key[b, h', j]) + sum of the bias terms
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

DType: TypeAlias = Literal["float16", "bfloat16", "float32", "float64"]
"""The dtype of query, key and value. NumPy has no bfloat16 of its own: those arrays come as uint16 views."""

Dense: TypeAlias = Any
"""A NumPy array; a tensor where torch computes, on the device of the query."""

MaskStep: TypeAlias = (
    tuple[Literal["interval"], NDArray[np.int32], NDArray[np.int32]]
    | tuple[Literal["equal"], NDArray[np.int32], NDArray[np.int32]]
    | tuple[Literal["array"], Dense]
    | tuple[Literal["and"]]
    | tuple[Literal["or"]]
    | tuple[Literal["not"]]
)
"""One step of a postfix program over boolean score blocks; B is 1 or batch.

==================================  =======================================================================
``("interval", start, stop)``       push ``start[b, i] <= j < stop[b, i]``; both int32 ``(B, N)``
``("equal", query_ids, key_ids)``   push ``query_ids[b, i] == key_ids[b, j]``; int32 ``(B, N)`` and ``(B, M)``
``("array", bools)``                push ``bools[b, h, i, j]``; bool ``(batch, heads, N, M)``, stride 0 where broadcast
``("and",)``, ``("or",)``           pop two, push their combination
``("not",)``                        pop one, push its negation
==================================  =======================================================================
"""

BiasTerm: TypeAlias = (
    tuple[Literal["alibi"], NDArray[Any], int]
    | tuple[Literal["relative"], NDArray[Any], int]
    | tuple[Literal["array"], Dense]
)
"""One of the terms that add up to the bias; values are float32 (float64 where the query is float64).

===============================  ====================================================================
``("alibi", slopes, offset)``    ``-slopes[h] * |i + offset - j|``; slopes ``(heads,)``
``("relative", table, offset)``  ``table[h, clip(j - i - offset, -R, R) + R]``; table ``(heads, 2R + 1)``
``("array", values)``            ``values[b, h, i, j]``; ``(batch, heads, N, M)``, stride 0 where broadcast
===============================  ====================================================================
"""

Cut: TypeAlias = Callable[[NDArray[np.int32]], NDArray[np.int32]]
CutIds: TypeAlias = Callable[[NDArray[np.int32], NDArray[np.int32]], tuple[NDArray[np.int32], NDArray[np.int32]]]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Everything but the arrays themselves.

    Attributes:
        start: int32 ``(1 | batch, N)``, C-contiguous; ``0 <= start <= stop <= M``. Query i attends to no key before it.
        stop: int32, the shape of `start`. Query i attends to no key from here on; ``start == stop`` is an empty row.
        residual: postfix program of `MaskStep`; ``()`` where the bounds say everything.
        bias: tuple of `BiasTerm` that add up; ``()`` is none. -inf counts as masked.
        scale: factor of the dot products, finite.
        softcap: ``c * tanh(score / c)`` for c > 0; 0 is none.
        sink: ``(heads,)`` logits that join the denominator only, float32 (float64 for float64 inputs), or None.
        offset: query i stands at position ``i + offset`` (for the statistic `distance`).
        dropout: probability that a weight becomes 0 in the output, the others being divided by 1 - dropout; what the
            fate of a weight follows from, see `_dropout.kept`. `lse` and statistics are those without it.
        seed: of the generator, ``0 <= seed < 2**64``.
    """

    start: NDArray[np.int32]
    stop: NDArray[np.int32]
    residual: tuple[MaskStep, ...] = ()
    bias: tuple[BiasTerm, ...] = ()
    scale: float = 1.0
    softcap: float = 0.0
    sink: Dense | None = None
    offset: int = 0
    dropout: float = 0.0
    seed: int = 0

    def rows(self, first: int, last: int) -> Plan:
        """The plan of queries ``first <= i < last`` alone, counted from 0; pieces have no dropout."""
        return self._piece(
            lambda bound: np.ascontiguousarray(bound[:, first:last]),
            lambda query, key: (np.ascontiguousarray(query[:, first:last]), key),
            lambda dense: dense[:, :, first:last],
            first,
        )

    def columns(self, first: int, last: int) -> Plan:
        """The plan of keys ``first <= j < last`` alone, counted from 0: how a piece of the keys is computed.

        Positions move with the keys, so nothing downstream knows that there are others. Pieces have no dropout.
        """
        return self._piece(
            lambda bound: np.clip(bound, first, last) - np.int32(first),
            lambda query, key: (query, np.ascontiguousarray(key[:, first:last])),
            lambda dense: dense[..., first:last],
            -first,
        )

    def _piece(self, bound: Cut, ids: CutIds, dense: Callable[[Dense], Dense], moved: int) -> Plan:
        """What bounds, ids of queries and keys, and arrays come to in a piece, whose positions have moved."""
        assert self.dropout == 0
        return replace(
            self,
            start=bound(self.start),
            stop=bound(self.stop),
            residual=tuple(_mask_piece(step, bound, ids, dense) for step in self.residual),
            bias=tuple(_bias_piece(term, dense, moved) for term in self.bias),
            offset=self.offset + moved,
        )

    def allowed(self, pushed: Callable[[MaskStep], Any]) -> Any:
        """Where a query may attend, in the arrays of any library: bounds and program, of what the other steps push."""
        stack = [pushed(("interval", self.start, self.stop))]
        for step in self.residual:
            match step:
                case ("not",):
                    stack.append(~stack.pop())
                case ("and",):
                    stack.append(stack.pop() & stack.pop())
                case ("or",):
                    stack.append(stack.pop() | stack.pop())
                case _:
                    stack.append(pushed(step))
        return stack[0] & stack[1] if len(stack) > 1 else stack[0]


def _mask_piece(step: MaskStep, bound: Cut, ids: CutIds, dense: Callable[[Dense], Dense]) -> MaskStep:
    match step:
        case ("interval", start, stop):
            return "interval", bound(start), bound(stop)
        case ("equal", query_ids, key_ids):
            return "equal", *ids(query_ids, key_ids)
        case ("array", values):
            return "array", dense(values)
    return step


def _bias_piece(term: BiasTerm, dense: Callable[[Dense], Dense], moved: int) -> BiasTerm:
    match term:
        case ("alibi", slopes, offset):
            return "alibi", slopes, offset + moved
        case ("relative", table, offset):
            return "relative", table, offset + moved
        case ("array", values):
            return "array", dense(values)
    raise AssertionError(term)

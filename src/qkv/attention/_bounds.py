"""Masks by interval arithmetic: for every query one run of keys, and a program for what a run cannot say.

`Bounds` is what a mask is lowered to. It is closed under and, or, not; wherever the outcome is again one run of keys
for every query, no program is left, and a backend skips whole blocks of keys without reading a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._plan import MaskStep


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """Query i may attend to the keys ``start[b, i] <= j < stop[b, i]`` for which `program` is true.

    `start` and `stop` are ``(1 | batch, N)`` with ``0 <= start <= stop <= keys``; an empty program is always true.
    """

    start: NDArray[np.int32]
    stop: NDArray[np.int32]
    keys: int
    program: tuple[MaskStep, ...] = ()

    @classmethod
    def of(cls, start: NDArray[np.integer], stop: NDArray[np.integer], keys: int) -> Bounds:
        """Any two bounds, cut to the keys there are; what is empty starts where it stops."""
        start, stop = np.broadcast_arrays(np.clip(start, 0, keys), np.clip(stop, 0, keys))
        start, stop = np.atleast_2d(start), np.atleast_2d(stop)
        return cls(_int32(start), _int32(np.maximum(start, stop)), keys)

    @classmethod
    def everything(cls, queries: int, keys: int, program: tuple[MaskStep, ...] = ()) -> Bounds:
        """All keys for all queries, as far as `program` goes."""
        return cls(np.zeros((1, queries), np.int32), np.full((1, queries), keys, np.int32), keys, program)

    @property
    def is_everything(self) -> bool:
        return not self.start.any() and bool((self.stop == self.keys).all())

    def whole_program(self) -> tuple[MaskStep, ...]:
        """The program with the bounds written into it, true of the same keys wherever it is evaluated."""
        if self.program and self.is_everything:
            return self.program
        interval: tuple[MaskStep, ...] = (("interval", self.start, self.stop),)
        return (*interval, *self.program, ("and",)) if self.program else interval

    def __and__(self, other: Bounds) -> Bounds:
        both: tuple[MaskStep, ...] = (("and",),) if self.program and other.program else ()
        start, stop = np.maximum(self.start, other.start), np.minimum(self.stop, other.stop)
        return Bounds(start, np.maximum(start, stop), self.keys, self.program + other.program + both)

    def __or__(self, other: Bounds) -> Bounds:
        left_empty, right_empty = self.start == self.stop, other.start == other.stop
        start = np.where(
            left_empty, other.start, np.where(right_empty, self.start, np.minimum(self.start, other.start))
        )
        stop = np.where(left_empty, other.stop, np.where(right_empty, self.stop, np.maximum(self.stop, other.stop)))
        touching = left_empty | right_empty | ((self.start <= other.stop) & (other.start <= self.stop))
        if not self.program and not other.program and touching.all():
            return Bounds(start, stop, self.keys)
        return Bounds(start, stop, self.keys, (*self.whole_program(), *other.whole_program(), ("or",)))

    def __invert__(self) -> Bounds:
        empty, left, right = self.start == self.stop, self.start == 0, self.stop == self.keys
        if not self.program and (empty | left | right).all():
            start = np.where(empty | ~left, np.int32(0), self.stop)
            stop = np.where(empty | left, np.int32(self.keys), self.start)
            return Bounds(start, stop, self.keys)
        return Bounds.everything(self.start.shape[1], self.keys, (*self.whole_program(), ("not",)))


def _int32(values: NDArray[np.integer]) -> NDArray[np.int32]:
    return np.ascontiguousarray(values, dtype=np.int32)

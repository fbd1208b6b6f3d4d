"""The array of scores that never exists: its shape, where its queries stand, and what broadcasts to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError

Align: TypeAlias = Literal["bottom-right", "top-left"]
"""Where query i stands among M keys, of N queries: at ``i + M - N`` (the last at the last key), or at ``i``."""


def check_align(align: str, name: str = "align") -> Align:
    if align in get_args(Align):
        return cast(Align, align)
    raise ArgumentError(f"{name}: expected 'bottom-right' or 'top-left', got {align!r}")


@dataclass(frozen=True, slots=True)
class ScoreShape:
    """``(*batch, heads, queries, keys)``, with the caller's own batch axes."""

    batch: tuple[int, ...]
    heads: int
    queries: int
    keys: int

    @property
    def full(self) -> tuple[int, ...]:
        return (*self.batch, self.heads, self.queries, self.keys)

    @property
    def batches(self) -> int:
        """How many there are once the batch axes are one."""
        return math.prod(self.batch)

    @property
    def flat(self) -> tuple[int, int, int, int]:
        return self.batches, self.heads, self.queries, self.keys

    def offset(self, align: Align) -> int:
        """Query i stands at position ``i + offset``."""
        return self.keys - self.queries if align == "bottom-right" else 0

    def positions(self, align: Align) -> NDArray[np.int64]:
        """The position of every query."""
        return np.arange(self.queries) + self.offset(align)

    def broadcast(self, array: Any, name: str) -> Any:
        """`array` as a 4-D view of `flat`, stride 0 where it is broadcast.

        It is copied only where several batch axes, some of them broadcast, have to become one.
        """
        check_broadcast(array.shape, self.full, name, "(batch, heads, N, M)")
        array = array.reshape((1,) * (len(self.full) - array.ndim) + array.shape)
        batch: tuple[int, ...] = array.shape[:-3]
        rest: tuple[int, ...] = array.shape[-3:]
        if self.batch and any(size != 1 for size in batch):
            array = _expand(array, self.batch + rest).reshape(self.batches, *rest)
        else:
            array = array.reshape(1, *rest)
        return _expand(array, self.flat)

    def per_batch(self, array: NDArray[Any], name: str) -> NDArray[Any]:
        """``(length,)`` or ``(*batch, length)`` values as ``(1 | batch, length)``."""
        if array.ndim == 1:
            return array[None]
        check_broadcast(array.shape[:-1], self.batch, name, "the batch axes")
        return np.broadcast_to(array, (*self.batch, array.shape[-1])).reshape(self.batches, array.shape[-1])


def _expand(array: Any, shape: tuple[int, ...]) -> Any:
    return np.broadcast_to(array, shape) if isinstance(array, np.ndarray) else array.expand(shape)


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether an array of this shape broadcasts to that one."""
    return len(shape) <= len(to) and all(have in (1, want) for have, want in zip(shape[::-1], to[::-1], strict=False))


def check_broadcast(shape: tuple[int, ...], to: tuple[int, ...], name: str, words: str) -> None:
    """Raise unless an array of this shape broadcasts to that one."""
    if not broadcasts(shape, to):
        raise ArgumentError(f"{name}: expected what broadcasts to {words} = {to}, got shape {shape}")

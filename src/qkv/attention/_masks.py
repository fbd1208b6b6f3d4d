"""The kinds of masks: small values that say who may attend to whom, in the words of the people who use them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._typing import Array
from ..errors import ArgumentError
from ._arrays import integers
from ._bounds import Bounds
from ._mask import Mask, short_list
from ._scores import Align, ScoreShape, broadcasts, check_align


@dataclass(frozen=True, slots=True)
class Causal(Mask):
    """No query sees what comes after it: ``j <= p``.

    The query's position is ``p = i + M - N`` (the last query stands at the last key, as when decoding with a cache), or
    ``p = i`` with ``align="top-left"``, which is what PyTorch's ``is_causal=True`` means.

    >>> print(Causal().matrix(3, 5).astype(int))
    [[1 1 1 0 0]
     [1 1 1 1 0]
     [1 1 1 1 1]]
    >>> print(Causal(align="top-left").matrix(3, 5).astype(int))
    [[1 0 0 0 0]
     [1 1 0 0 0]
     [1 1 1 0 0]]
    """

    align: Align = "bottom-right"

    def __post_init__(self) -> None:
        check_align(self.align)

    def __repr__(self) -> str:
        return f"Causal({_align(self.align)})"

    def _is_small(self) -> bool:
        return True

    def _matrix(self, shape: ScoreShape) -> NDArray[np.bool_]:
        return np.arange(shape.keys) <= shape.positions(self.align)[:, None]

    def _bounds(self, shape: ScoreShape) -> Bounds:
        positions = shape.positions(self.align)
        return Bounds.of(np.zeros_like(positions), positions + 1, shape.keys)


@dataclass(frozen=True, slots=True)
class Window(Mask):
    """Only what stands near: ``p - left <= j <= p + right``, both ends included; None is unlimited.

    ``Window(w - 1, 0)`` is Hugging Face's ``sliding_window=w``; ``Window(left, right)`` is FlashAttention's
    ``window_size=(left, right)``, whose -1 is our None.

    >>> print(Window(1, 0).matrix(4).astype(int))
    [[1 0 0 0]
     [1 1 0 0]
     [0 1 1 0]
     [0 0 1 1]]
    """

    left: int | None
    right: int | None
    align: Align = "bottom-right"

    def __post_init__(self) -> None:
        check_align(self.align)
        for name in ("left", "right"):
            reach: object = getattr(self, name)
            if reach is not None and (isinstance(reach, bool) or not isinstance(reach, int | np.integer) or reach < 0):
                raise ArgumentError(f"Window {name}: expected 0 or more keys, or None for unlimited, got {reach!r}")

    def __repr__(self) -> str:
        return f"Window({self.left}, {self.right}{_align(self.align, ', ')})"

    def _is_small(self) -> bool:
        return True

    def _matrix(self, shape: ScoreShape) -> NDArray[np.bool_]:
        step = np.arange(shape.keys) - shape.positions(self.align)[:, None]
        near: NDArray[np.bool_] = np.ones(step.shape, np.bool_)
        if self.left is not None:
            near &= step >= -self.left
        if self.right is not None:
            near &= step <= self.right
        return near

    def _bounds(self, shape: ScoreShape) -> Bounds:
        positions, unlimited = shape.positions(self.align), shape.keys + shape.queries
        left = unlimited if self.left is None else min(int(self.left), unlimited)
        right = unlimited if self.right is None else min(int(self.right), unlimited)
        return Bounds.of(positions - left, positions + right + 1, shape.keys)


@dataclass(frozen=True, slots=True)
class ExceptSelf(Mask):
    """Everything but the query's own position: ``j != p`` (leave-one-out regression, for one).

    >>> print(ExceptSelf().matrix(3).astype(int))
    [[0 1 1]
     [1 0 1]
     [1 1 0]]
    """

    align: Align = "bottom-right"

    def __post_init__(self) -> None:
        check_align(self.align)

    def __repr__(self) -> str:
        return f"ExceptSelf({_align(self.align)})"

    def _is_small(self) -> bool:
        return True

    def _matrix(self, shape: ScoreShape) -> NDArray[np.bool_]:
        others: NDArray[np.bool_] = np.arange(shape.keys) != shape.positions(self.align)[:, None]
        return others

    def _bounds(self, shape: ScoreShape) -> Bounds:
        positions = shape.positions(self.align)
        return ~Bounds.of(positions, positions + 1, shape.keys)


class Padding(Mask):
    """Keys that are really there: the first `lengths` of each sequence, or the last ones with ``side="left"``.

    It masks keys only; what padded queries yield is the caller's to ignore.

    Args:
        lengths: number of valid keys, an integer or integers with the batch axes' shape.
        side: where the padding is, "right" or "left".

    >>> print(Padding([3, 1]).matrix(1, 4, batch=(2,)).astype(int).reshape(2, 4))
    [[1 1 1 0]
     [1 0 0 0]]
    >>> print(Padding([3, 1], side="left").matrix(1, 4, batch=(2,)).astype(int).reshape(2, 4))
    [[0 1 1 1]
     [0 0 0 1]]
    """

    __slots__ = ("lengths", "side")

    def __init__(self, lengths: Array | int | list[int], side: str = "right") -> None:
        self.lengths = integers(lengths, "Padding lengths")
        if side not in ("left", "right"):
            raise ArgumentError(f"Padding side: expected 'right' or 'left', got {side!r}")
        self.side = side

    def __repr__(self) -> str:
        return f"Padding({short_list(self.lengths)}{', side=' + repr(self.side) if self.side != 'right' else ''})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Padding) and self.side == other.side and np.array_equal(self.lengths, other.lengths)

    __hash__ = None  # type: ignore[assignment]

    def _checked(self, shape: ScoreShape) -> NDArray[np.int64]:
        """``(..., 1)`` lengths, broadcasting to the batch axes."""
        if self.lengths.size and not (self.lengths.min() >= 0 and self.lengths.max() <= shape.keys):
            raise ArgumentError(
                f"Padding lengths: expected 0 to {shape.keys} (the number of keys), "
                f"got {self.lengths.min()} to {self.lengths.max()}"
            )
        lengths = self.lengths.reshape(()) if self.lengths.size == 1 else self.lengths
        if not broadcasts(lengths.shape, shape.batch):
            raise ArgumentError(
                f"Padding lengths: expected one for each sequence, batch axes {shape.batch}, got shape {lengths.shape}"
            )
        return lengths[..., None]

    def _matrix(self, shape: ScoreShape) -> NDArray[np.bool_]:
        lengths, keys = self._checked(shape), np.arange(shape.keys)
        valid = keys < lengths if self.side == "right" else keys >= shape.keys - lengths
        return valid if valid.ndim == 1 else valid[..., None, None, :]

    def _bounds(self, shape: ScoreShape) -> Bounds:
        lengths = shape.per_batch(self._checked(shape), "Padding lengths")
        start = np.zeros_like(lengths) if self.side == "right" else shape.keys - lengths
        stop = lengths if self.side == "right" else np.full_like(lengths, shape.keys)
        rows = (lengths.shape[0], shape.queries)
        return Bounds.of(np.broadcast_to(start, rows), np.broadcast_to(stop, rows), shape.keys)


class Documents(Mask):
    """Several texts packed into one sequence, each seeing only itself: ``query_ids[i] == key_ids[j]``.

    Args:
        query_ids: integers ``(N,)`` or ``(*batch, N)``, the document of each query.
        key_ids: the same for keys; not needed where queries and keys are the same tokens.

    >>> print(Documents([7, 7, 9]).matrix(3).astype(int))
    [[1 1 0]
     [1 1 0]
     [0 0 1]]
    """

    __slots__ = ("key_ids", "query_ids")

    def __init__(self, query_ids: Array | list[int], key_ids: Array | list[int] | None = None) -> None:
        self.query_ids = integers(query_ids, "Documents query_ids")
        self.key_ids = None if key_ids is None else integers(key_ids, "Documents key_ids")

    def __repr__(self) -> str:
        key_ids = "" if self.key_ids is None else f", {short_list(self.key_ids)}"
        return f"Documents({short_list(self.query_ids)}{key_ids})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Documents) or (self.key_ids is None) != (other.key_ids is None):
            return False
        same_keys = self.key_ids is None or np.array_equal(self.key_ids, other.key_ids)  # type: ignore[arg-type]
        return same_keys and np.array_equal(self.query_ids, other.query_ids)

    __hash__ = None  # type: ignore[assignment]

    def _checked(self, shape: ScoreShape) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        key_ids, hint = self.key_ids, ""
        if key_ids is None:
            key_ids = self.query_ids
            hint = "; give key_ids too where queries and keys differ" if shape.queries != shape.keys else ""
        for name, ids, length in (("query_ids", self.query_ids, shape.queries), ("key_ids", key_ids, shape.keys)):
            if ids.shape[-1:] != (length,) or not broadcasts(ids.shape[:-1], shape.batch):
                words = f"({length},) or {(*shape.batch, length)}" if shape.batch else f"({length},)"
                raise ArgumentError(f"Documents {name}: expected shape {words}, got {ids.shape}{hint}")
        return self.query_ids, key_ids

    def _matrix(self, shape: ScoreShape) -> NDArray[np.bool_]:
        query_ids, key_ids = self._checked(shape)
        query_ids = query_ids if query_ids.ndim == 1 else query_ids[..., None, :]
        key_ids = key_ids if key_ids.ndim == 1 else key_ids[..., None, :]
        same: NDArray[np.bool_] = query_ids[..., :, None] == key_ids[..., None, :]
        return same

    def _bounds(self, shape: ScoreShape) -> Bounds:
        query_ids, key_ids = (shape.per_batch(ids, "Documents") for ids in self._checked(shape))
        rows = max(len(query_ids), len(key_ids))
        start, stop = np.zeros((2, rows, shape.queries), np.int64)
        contiguous = True
        for row in range(rows):
            queries, keys = query_ids[row % len(query_ids)], key_ids[row % len(key_ids)]
            ids, first, count = np.unique(keys, return_index=True, return_counts=True)
            last = shape.keys - np.unique(keys[::-1], return_index=True)[1]
            contiguous &= bool((last - first == count).all())
            place = np.searchsorted(ids, queries)
            found = np.append(ids, 0)[place] == queries
            found &= place < len(ids)
            start[row] = np.where(found, np.append(first, 0)[place], 0)
            stop[row] = np.where(found, np.append(last, 0)[place], 0)
        bounds = Bounds.of(start, stop, shape.keys)
        if contiguous:
            return bounds
        small = np.unique(np.concatenate([query_ids.ravel(), key_ids.ravel()]), return_inverse=True)[1].astype(np.int32)
        equal = small[: query_ids.size].reshape(query_ids.shape), small[query_ids.size :].reshape(key_ids.shape)
        return Bounds(bounds.start, bounds.stop, shape.keys, (("equal", *equal),))


def _align(align: Align, before: str = "") -> str:
    return "" if align == "bottom-right" else f"{before}align={align!r}"

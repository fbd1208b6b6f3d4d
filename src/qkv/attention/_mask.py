"""What a mask is, and how masks combine: ``&``, ``|``, ``~``, and boolean arrays as masks.

True means *may attend*. A mask says what it means twice: `Mask._matrix` is the definition, dense and plain; `_bounds`
is the same thing as intervals, which is what backends use. Neither knows the other, so that tests can compare them.
The kinds of masks are in `_masks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .._typing import Array
from ..errors import ArgumentError
from ._arrays import describe, host, is_array, view
from ._bounds import Bounds
from ._scores import ScoreShape, check_broadcast


class Mask:
    """The base of all masks. Combine them with ``&``, ``|`` and ``~``, among themselves and with boolean arrays.

    >>> from qkv import Causal, Window
    >>> print((Causal() & ~Window(0, 0)).matrix(3).astype(int))
    [[0 0 0]
     [1 0 0]
     [1 1 0]]
    """

    __slots__ = ()
    __array_ufunc__ = None  # NumPy arrays leave `array & mask` to us

    def matrix(
        self, queries: int, keys: int | None = None, *, heads: int = 1, batch: tuple[int, ...] = ()
    ) -> NDArray[np.bool_]:
        """The mask written out: boolean ``(..., queries, keys)``, with batch and head axes only where it has them.

        Args:
            queries: number of queries.
            keys: number of keys; as many as queries where it is not given.
            heads: number of query heads.
            batch: the batch axes.
        """
        shape = ScoreShape(batch, heads, queries, queries if keys is None else keys)
        dense = self._matrix(shape)
        return np.broadcast_to(dense, dense.shape[:-2] + shape.full[-2:])

    def _matrix(self, shape: ScoreShape) -> NDArray[np.bool_]:
        """What broadcasts to `shape`: the definition."""
        raise AssertionError(type(self))

    def _bounds(self, shape: ScoreShape) -> Bounds:
        """The same as intervals and a program."""
        raise AssertionError(type(self))

    def _owners(self) -> set[str]:
        """Who owns the boolean arrays in it: see `View`; it has to be the query's."""
        return set()

    def _is_small(self) -> bool:
        """Whether it is a few numbers, and equal to what means the same: then its plan is remembered."""
        return False

    def __and__(self, other: Mask | Array) -> Mask:
        return And(self, as_mask(other))

    def __rand__(self, other: Mask | Array) -> Mask:
        return And(as_mask(other), self)

    def __or__(self, other: Mask | Array) -> Mask:
        return Or(self, as_mask(other))

    def __ror__(self, other: Mask | Array) -> Mask:
        return Or(as_mask(other), self)

    def __invert__(self) -> Mask:
        return Not(self)

    def __bool__(self) -> NoReturn:
        raise ArgumentError(
            "mask: combine masks with &, | and ~; Python's `and`, `or` and `not` would drop one of them"
        )


def as_mask(mask: object, name: str = "mask") -> Mask:
    """A mask, or a boolean array as one."""
    return mask if isinstance(mask, Mask) else ArrayMask(mask, name)


class ArrayMask(Mask):
    """Any boolean array that broadcasts to ``(batch, heads, N, M)``; True may attend.

    Arrays given as ``mask=`` or combined with masks become this by themselves.

    >>> from qkv import Causal
    >>> Causal() & np.eye(2, dtype=bool)
    Causal() & ArrayMask([[True, False], [False, True]])
    """

    __slots__ = ("owner", "values")

    def __init__(self, values: Array | list[Any], name: str = "mask") -> None:
        if not is_array(values) and not isinstance(values, list):
            raise ArgumentError(
                f"{name}: expected a mask (Causal(), Padding(lengths), ...) or a boolean array, got {describe(values)}"
            )
        try:
            listed = np.asarray(values) if isinstance(values, list) else None
        except ValueError:
            raise ArgumentError(f"{name}: expected booleans in rows of one length, got {describe(values)}") from None
        if listed is not None and not listed.size:
            listed = listed.astype(bool)
        seen = view(values if listed is None else listed, name, devices=True)
        if seen.dtype != "bool":
            hint = "give additive masks (0 and -inf) as bias=" if "float" in seen.dtype else "convert it with != 0"
            raise ArgumentError(f"{name}: expected booleans, True where a query may attend, got {seen.dtype}; {hint}")
        self.values: Any = seen.data
        self.owner: str | None = None if isinstance(values, list) else seen.owner

    def __repr__(self) -> str:
        return f"ArrayMask({short_list(host(self.values))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArrayMask) and np.array_equal(host(self.values), host(other.values))

    __hash__ = None  # type: ignore[assignment]

    def _owners(self) -> set[str]:
        return set() if self.owner is None else {self.owner}

    def _matrix(self, shape: ScoreShape) -> NDArray[np.bool_]:
        check_broadcast(self.values.shape, shape.full, "mask", "(batch, heads, N, M)")
        return np.atleast_2d(host(self.values))

    def _bounds(self, shape: ScoreShape) -> Bounds:
        return Bounds.everything(shape.queries, shape.keys, (("array", shape.broadcast(self.values, "mask")),))


@dataclass(frozen=True, slots=True)
class _Pair(Mask):
    left: Mask
    right: Mask

    def _owners(self) -> set[str]:
        return self.left._owners() | self.right._owners()

    def _is_small(self) -> bool:
        return self.left._is_small() and self.right._is_small()


class And(_Pair):
    """Both."""

    __slots__ = ()

    def __repr__(self) -> str:
        left = f"({self.left})" if isinstance(self.left, Or) else f"{self.left}"
        right = f"({self.right})" if isinstance(self.right, _Pair) else f"{self.right}"
        return f"{left} & {right}"

    def _matrix(self, shape: ScoreShape) -> NDArray[np.bool_]:
        return self.left._matrix(shape) & self.right._matrix(shape)

    def _bounds(self, shape: ScoreShape) -> Bounds:
        return self.left._bounds(shape) & self.right._bounds(shape)


class Or(_Pair):
    """Either."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{self.left} | " + (f"({self.right})" if isinstance(self.right, Or) else f"{self.right}")

    def _matrix(self, shape: ScoreShape) -> NDArray[np.bool_]:
        return self.left._matrix(shape) | self.right._matrix(shape)

    def _bounds(self, shape: ScoreShape) -> Bounds:
        return self.left._bounds(shape) | self.right._bounds(shape)


@dataclass(frozen=True, slots=True)
class Not(Mask):
    """Everything else."""

    mask: Mask

    def __repr__(self) -> str:
        return f"~({self.mask})" if isinstance(self.mask, _Pair) else f"~{self.mask}"

    def _owners(self) -> set[str]:
        return self.mask._owners()

    def _is_small(self) -> bool:
        return self.mask._is_small()

    def _matrix(self, shape: ScoreShape) -> NDArray[np.bool_]:
        return ~self.mask._matrix(shape)

    def _bounds(self, shape: ScoreShape) -> Bounds:
        return ~self.mask._bounds(shape)


def short_list(values: NDArray[Any]) -> str:
    """Short arrays in full, so that a repr can be typed in again; long ones by their size."""
    if values.size <= 64:
        return repr(values.tolist())
    return f"<{values.dtype} of shape {values.shape}>"

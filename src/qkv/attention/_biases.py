"""What is added to the scores: biases as small values that combine with ``+`` and never become n x n.

As with masks, `Bias._matrix` is the definition, dense and plain, and `_terms` the same thing in the plan's words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._typing import Array
from ..errors import ArgumentError
from ._arrays import check_count, describe, fitted, host, is_array, learned, numbers, view, widen
from ._plan import BiasTerm
from ._scores import Align, ScoreShape, check_align, check_broadcast

if TYPE_CHECKING:
    from torch import Tensor


class Bias:
    """The base of all biases. Add them with ``+``, to each other and to arrays."""

    __slots__ = ()
    __array_ufunc__ = None  # NumPy arrays leave `array + bias` to us

    def matrix(
        self, queries: int, keys: int | None = None, *, heads: int = 1, batch: tuple[int, ...] = ()
    ) -> NDArray[np.float64]:
        """The bias written out: ``(..., queries, keys)``, with batch and head axes only where it has them."""
        shape = ScoreShape(batch, heads, queries, queries if keys is None else keys)
        dense = self._matrix(shape)
        return np.broadcast_to(dense, dense.shape[:-2] + shape.full[-2:])

    def _matrix(self, shape: ScoreShape) -> NDArray[np.float64]:
        """What broadcasts to `shape`: the definition."""
        raise AssertionError(type(self))

    def _terms(self, shape: ScoreShape, dtype: str) -> Iterator[BiasTerm]:
        """The same for a plan, in `dtype`."""
        raise AssertionError(type(self))

    def _leaves(self, shape: ScoreShape) -> Iterator[Tensor | None]:
        """For each of `_terms` the tensor that its gradient goes to, if one requires it: a term's own shape, with axes
        of size 1 where it is broadcast."""
        raise AssertionError(type(self))

    def _owners(self) -> set[str]:
        """Who owns the arrays in it: see `View`; it has to be the query's."""
        return set()

    def __add__(self, other: Bias | Array) -> Bias:
        return Sum(self, as_bias(other))

    def __radd__(self, other: Bias | Array) -> Bias:
        return Sum(as_bias(other), self)


def as_bias(bias: object) -> Bias:
    """A bias, or an array as one."""
    return bias if isinstance(bias, Bias) else ArrayBias(bias)


class ALiBi(Bias):
    """A penalty that grows with distance: ``-slope * |p - j|``, one slope for each query head.

    Press, Smith and Lewis, "Train Short, Test Long: Attention with Linear Biases" (ICLR 2022). Their bias is
    ``-slope * (p - j)`` under a causal mask, which is the same; without a mask ours is symmetric.

    Args:
        slopes: ``(heads,)`` numbers, positive; or one number for all heads. A tensor that requires gradients gets them.
        align: where queries stand, see `Causal`.

    >>> print(ALiBi([0.5]).matrix(3)[0])
    [[-0.  -0.5 -1. ]
     [-0.5 -0.  -0.5]
     [-1.  -0.5 -0. ]]
    """

    __slots__ = ("_given", "align")

    def __init__(self, slopes: Array | float | list[float], align: Align = "bottom-right") -> None:
        tensor = learned(slopes)
        self._given = numbers(slopes, "ALiBi slopes") if tensor is None else tensor
        self.align = check_align(align)
        if self.slopes.ndim > 1:
            raise ArgumentError(f"ALiBi slopes: expected one for each head, (heads,), got shape {self.slopes.shape}")

    @property
    def slopes(self) -> NDArray[np.float64]:
        """The slopes; those of a tensor that is being learned, as it is now."""
        slopes = numbers(self._given, "ALiBi slopes")
        if not (np.isfinite(slopes).all() and (slopes >= 0).all()):
            raise ArgumentError(f"ALiBi slopes: expected finite positive numbers, got {_numbers(slopes)}")
        return slopes

    @classmethod
    def geometric(cls, heads: int, align: Align = "bottom-right") -> ALiBi:
        """The paper's slopes: ``2 ** (-8 * (h + 1) / heads)``; between powers of two, as its authors fill them in.

        >>> ALiBi.geometric(4)
        ALiBi([0.25, 0.0625, 0.015625, 0.00390625])
        """
        check_count(heads, "ALiBi.geometric heads", 1)
        power = 2 ** math.floor(math.log2(heads))
        slopes = [2.0 ** (-8 * (h + 1) / power) for h in range(power)]
        slopes += [2.0 ** (-8 * (2 * h + 1) / (2 * power)) for h in range(heads - power)]
        return cls(slopes, align)

    def __repr__(self) -> str:
        return f"ALiBi({_numbers(self.slopes)}{_align(self.align)})"

    def _per_head(self, shape: ScoreShape) -> NDArray[np.float64]:
        if self.slopes.ndim and self.slopes.shape != (shape.heads,):
            raise ArgumentError(
                f"ALiBi slopes: expected one for each of {shape.heads} query heads, got shape {self.slopes.shape}"
            )
        return np.broadcast_to(self.slopes, shape.heads)

    def _matrix(self, shape: ScoreShape) -> NDArray[np.float64]:
        distance = np.abs(shape.positions(self.align)[:, None] - np.arange(shape.keys))
        penalty: NDArray[np.float64] = -self._per_head(shape)[:, None, None] * distance
        return penalty

    def _terms(self, shape: ScoreShape, dtype: str) -> Iterator[BiasTerm]:
        yield "alibi", np.ascontiguousarray(fitted(self._per_head(shape), dtype)), shape.offset(self.align)

    def _leaves(self, shape: ScoreShape) -> Iterator[Tensor | None]:
        slopes = learned(self._given)
        yield None if slopes is None else slopes.expand(shape.heads)


class RelativeBias(Bias):
    """A learned number for each head and each step from query to key: ``table[h, clip(j - p, -R, R) + R]``.

    Shaw, Uszkoreit and Vaswani, "Self-Attention with Relative Position Representations" (NAACL 2018), in the scalar
    form of Raffel et al. (T5, JMLR 2020).

    Args:
        table: ``(heads, 2 R + 1)``; its middle column is the step 0, what stands right of it are later keys. A tensor
            that requires gradients gets them.
        align: where queries stand, see `Causal`.

    >>> print(RelativeBias([[-1.0, 0.0, 5.0]]).matrix(3)[0])
    [[ 0.  5.  5.]
     [-1.  0.  5.]
     [-1. -1.  0.]]
    """

    __slots__ = ("_given", "align")

    def __init__(self, table: Array | list[list[float]], align: Align = "bottom-right") -> None:
        tensor = learned(table)
        self._given = numbers(table, "RelativeBias table") if tensor is None else tensor
        self.align = check_align(align)
        if self.table.ndim != 2 or self.table.shape[1] % 2 == 0:
            raise ArgumentError(
                f"RelativeBias table: expected (heads, 2R + 1), an odd number of columns, got shape {self.table.shape}"
            )

    @classmethod
    def t5(
        cls,
        table: Array,
        *,
        bidirectional: bool = True,
        max_distance: int = 128,
        align: Align = "bottom-right",
    ) -> RelativeBias:
        """T5's bias: steps fall into buckets, one for each near step, logarithmically wider ones for far steps.

        Args:
            table: ``(buckets, heads)``, Hugging Face's ``relative_attention_bias.weight``.
            bidirectional: True for an encoder (half of the buckets are for later keys), False for a decoder.
            max_distance: steps from here on share the last bucket.
            align: where queries stand, see `Causal`.
        """
        values = numbers(table, "RelativeBias.t5 table")
        if values.ndim != 2 or values.shape[0] < (4 if bidirectional else 2):
            raise ArgumentError(f"RelativeBias.t5 table: expected (buckets, heads), got shape {values.shape}")
        exact = len(values) // (4 if bidirectional else 2)  # steps with a bucket of their own
        check_count(max_distance, "RelativeBias.t5 max_distance", exact + 1)
        step = np.arange(-max_distance, max_distance + 1)
        buckets = _t5_buckets(step, len(values), bidirectional, max_distance)
        tensor = learned(table)
        return cls(values[buckets].T if tensor is None else tensor[buckets].T, align)

    @property
    def table(self) -> NDArray[np.float64]:
        """The table; that of a tensor that is being learned, as it is now."""
        return numbers(self._given, "RelativeBias table")

    def __repr__(self) -> str:
        return f"RelativeBias({_numbers(self.table)}{_align(self.align)})"

    def _checked(self, shape: ScoreShape) -> NDArray[np.float64]:
        table = self.table
        if len(table) != shape.heads:
            raise ArgumentError(
                f"RelativeBias table: expected a row for each of {shape.heads} query heads, got {len(table)} rows"
            )
        return table

    def _matrix(self, shape: ScoreShape) -> NDArray[np.float64]:
        table = self._checked(shape)
        reach = table.shape[1] // 2
        step = np.arange(shape.keys) - shape.positions(self.align)[:, None]
        return table[:, np.clip(step, -reach, reach) + reach]

    def _terms(self, shape: ScoreShape, dtype: str) -> Iterator[BiasTerm]:
        yield "relative", np.ascontiguousarray(fitted(self._checked(shape), dtype)), shape.offset(self.align)

    def _leaves(self, shape: ScoreShape) -> Iterator[Tensor | None]:
        yield learned(self._given)


class KeyBias(Bias):
    """A number for each key, the same for every query; broadcasts to ``(batch, heads, M)``.

    With ``bias = KeyBias(-0.5 * scale * |k|^2)`` the weights are a Gaussian kernel's: kernel regression is attention.

    >>> KeyBias([0.0, -1.0]).matrix(2)
    array([[ 0., -1.],
           [ 0., -1.]])
    """

    __slots__ = ("_array",)

    def __init__(self, values: Array | list[float]) -> None:
        self._array = ArrayBias(values if is_array(values) else numbers(values, "KeyBias"), "KeyBias")
        if self._array.values.ndim == 0:
            raise ArgumentError(
                "KeyBias: expected one number for each key, what broadcasts to (batch, heads, M), got ()"
            )

    def __repr__(self) -> str:
        return f"KeyBias({_numbers(host(self._array.values))})"

    def _dense(self, shape: ScoreShape) -> Any:
        check_broadcast(self._array.values.shape, shape.full[:-2] + shape.full[-1:], "KeyBias", "(batch, heads, M)")
        return self._array.values[..., None, :]

    def _matrix(self, shape: ScoreShape) -> NDArray[np.float64]:
        return host(self._dense(shape)).astype(np.float64)

    def _terms(self, shape: ScoreShape, dtype: str) -> Iterator[BiasTerm]:
        yield "array", shape.broadcast(fitted(self._dense(shape), dtype), "KeyBias")

    def _leaves(self, shape: ScoreShape) -> Iterator[Tensor | None]:
        values = self._array.tensor
        yield None if values is None else _leaf(values[..., None, :], shape)


class ArrayBias(Bias):
    """Any array of floats that broadcasts to ``(batch, heads, N, M)``; -inf counts as masked.

    Arrays given as ``bias=`` or added to biases become this by themselves.
    """

    __slots__ = ("_given", "_name", "owner", "tensor")

    def __init__(self, values: object, name: str = "bias") -> None:
        if not is_array(values):
            raise ArgumentError(
                f"{name}: expected a bias (ALiBi(slopes), KeyBias(values), ...) or an array, got {describe(values)}"
            )
        self.tensor = learned(values)
        if self.tensor is not None and 0 in self.tensor.stride():
            values = self.tensor = self.tensor.contiguous()  # a gradient for each of its numbers
        seen = view(values, name, gradients=True, devices=True)
        if not seen.dtype.startswith(("float", "bfloat")):
            hint = "; give boolean masks as mask=" if seen.dtype == "bool" else ""
            raise ArgumentError(f"{name}: expected floats, which are added to the scores, got {seen.dtype}{hint}")
        self._given, self._name = values, name
        self.owner = seen.owner

    @property
    def values(self) -> Any:
        """The numbers, float32 or float64; those of a tensor that is being learned, as it is now."""
        seen = view(self._given, self._name, gradients=True, devices=True)
        return widen(seen.data, seen.dtype)

    def __repr__(self) -> str:
        return f"ArrayBias({_numbers(host(self.values))})"

    def _owners(self) -> set[str]:
        return {self.owner}

    def _matrix(self, shape: ScoreShape) -> NDArray[np.float64]:
        check_broadcast(self.values.shape, shape.full, "bias", "(batch, heads, N, M)")
        return np.atleast_2d(host(self.values)).astype(np.float64)

    def _terms(self, shape: ScoreShape, dtype: str) -> Iterator[BiasTerm]:
        yield "array", shape.broadcast(fitted(self.values, dtype), "bias")

    def _leaves(self, shape: ScoreShape) -> Iterator[Tensor | None]:
        yield None if self.tensor is None else _leaf(self.tensor, shape)


class Sum(Bias):
    """Two biases added up."""

    __slots__ = ("left", "right")

    def __init__(self, left: Bias, right: Bias) -> None:
        self.left, self.right = left, right

    def __repr__(self) -> str:
        return f"{self.left} + {self.right}"

    def _matrix(self, shape: ScoreShape) -> NDArray[np.float64]:
        return self.left._matrix(shape) + self.right._matrix(shape)

    def _terms(self, shape: ScoreShape, dtype: str) -> Iterator[BiasTerm]:
        yield from self.left._terms(shape, dtype)
        yield from self.right._terms(shape, dtype)

    def _leaves(self, shape: ScoreShape) -> Iterator[Tensor | None]:
        yield from self.left._leaves(shape)
        yield from self.right._leaves(shape)

    def _owners(self) -> set[str]:
        return self.left._owners() | self.right._owners()


def _leaf(values: Tensor, shape: ScoreShape) -> Tensor:
    """`ScoreShape.broadcast`, with axes of size 1 where that has a stride of 0, by operations that autograd sees."""
    values = values.reshape((1,) * (len(shape.full) - values.ndim) + tuple(values.shape))
    if any(size != 1 for size in values.shape[:-3]):
        values = values.expand(*shape.batch, *values.shape[-3:])
    return values.reshape(math.prod(values.shape[:-3]), *values.shape[-3:])


def _t5_buckets(step: NDArray[np.int64], buckets: int, bidirectional: bool, max_distance: int) -> NDArray[np.int64]:
    """The bucket of each step ``j - p``; float32 where T5 uses it, so that edges fall where its models were trained."""
    first = np.zeros_like(step)
    if bidirectional:
        buckets //= 2
        first = (step > 0) * buckets
        distance = np.abs(step)
    else:
        distance = np.maximum(-step, 0)
    exact = buckets // 2
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(max_distance / exact)
    )
    far = exact + (ratio * np.float32(buckets - exact)).astype(np.int64)
    return first + np.where(distance < exact, distance, np.minimum(far, buckets - 1))


def _align(align: Align) -> str:
    return "" if align == "bottom-right" else f", align={align!r}"


def _numbers(values: NDArray[Any]) -> str:
    """Short arrays in full, so that a repr can be typed in again; long ones by their size."""
    return repr(values.tolist()) if values.size <= 64 else f"<{values.dtype} of shape {values.shape}>"

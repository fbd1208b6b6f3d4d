r"""How like two vectors are: the four measures that attention is built from.

Two vectors give a number, two sets of vectors give every pair: ``(.., N, d)`` and ``(.., M, d)`` give ``(.., N, M)``.
Lists and integers are welcome; the result is a float, or an array in the dtype and framework of its arguments.

=============  ==========================================  =====================================================
`dot`          :math:`q \cdot k`                           grows with the angle's cosine and with both lengths
`scaled_dot`   :math:`q \cdot k / \sqrt{d}`                as spread out at 512 dimensions as at 2
`cosine`       :math:`q \cdot k / (|q| |k|)`               the angle alone, -1 to 1
`gaussian`     :math:`\exp(-|q - k|^2 / 2 h^2)`            nearness, 0 to 1
=============  ==========================================  =====================================================

The last two are dot products in disguise. The cosine is that of vectors of length 1. And
:math:`-|q - k|^2 / 2 h^2 = q \cdot k / h^2 - |k|^2 / 2 h^2 - |q|^2 / 2 h^2`, whose last term is the same for all keys
and cancels in a softmax: so Gaussian kernel regression is `qkv.attend` with ``scale=1 / h**2`` and
``bias=KeyBias(-(key**2).sum(-1) / (2 * h**2))``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, SupportsFloat

import numpy as np

from ._typing import Array
from .attention._arrays import FLOATS, View, check_number, describe, give, is_array, view, widen
from .attention._measures import Floats, pairwise_cosine, pairwise_dot, pairwise_squared_distance
from .errors import ArgumentError


def dot(query: Array | list[Any], key: Array | list[Any]) -> Any:
    r"""The dot product :math:`q \cdot k`.

    Args:
        query: ``(d,)`` or ``(.., N, d)``.
        key: ``(d,)`` or ``(.., M, d)``.

    Returns:
        A float for two vectors, else ``(.., N, M)`` (``(N,)`` or ``(M,)`` where one is a single vector).

    Raises:
        ArgumentError: where dimensions differ, or something is not made of real numbers.

    >>> dot([1, 4], [0, 3])
    12.0
    >>> dot([[1, 4], [2, 0]], [[0, 3], [1, 1]])
    array([[12.,  5.],
           [ 0.,  2.]])
    """
    return _measure(query, key, pairwise_dot)


def scaled_dot(query: Array | list[Any], key: Array | list[Any]) -> Any:
    r"""The dot product over the square root of the number of dimensions: :math:`q \cdot k / \sqrt{d}`.

    The scores of the Transformer (Vaswani et al. 2017). It is divided by the root of the *number* of dimensions, not by
    a length: of d independent products of variance 1, the sum has variance d. Arguments and result as in `dot`.

    >>> round(scaled_dot([1, 4], [0, 3]), 2)
    8.49
    """
    return _measure(query, key, lambda q, k: pairwise_dot(q, k) / math.sqrt(max(q.shape[-1], 1)))


def cosine(query: Array | list[Any], key: Array | list[Any]) -> Any:
    r"""The cosine of the angle, :math:`q \cdot k / (|q| |k|)`; 0 where one of them has no length.

    Arguments and result as in `dot`.

    >>> round(cosine([1, 0], [1, 1]), 2)
    0.71
    """
    return _measure(query, key, pairwise_cosine)


def gaussian(query: Array | list[Any], key: Array | list[Any], *, bandwidth: SupportsFloat = 1.0) -> Any:
    r"""The Gaussian kernel's value, :math:`\exp(-|q - k|^2 / 2 h^2)`: 1 at the same place, falling with distance.

    Args:
        query, key: as in `dot`.
        bandwidth: h, how far "near" reaches; positive.

    >>> gaussian([0, 0], [0, 0])
    1.0
    >>> round(gaussian([0, 0], [3, 4], bandwidth=5), 3)
    0.607
    """
    width = check_number(bandwidth, "bandwidth", "a positive number")
    if width <= 0:
        raise ArgumentError(f"bandwidth: expected a positive number, got {bandwidth}")
    return _measure(query, key, lambda q, k: np.exp(-0.5 * pairwise_squared_distance(q, k) / width**2))


def _measure(query: object, key: object, pairwise: Callable[[Floats, Floats], Floats]) -> Any:
    """Apply a pairwise measure in float64, and put the result where it belongs."""
    (q, like), (k, other) = _vectors(query, "query"), _vectors(key, "key")
    if like and other and (like.framework, like.dtype) != (other.framework, other.dtype) and _floats(like, other):
        raise ArgumentError(
            f"key: expected {like.dtype} in {like.framework} like the query, got {other.dtype} in {other.framework}"
        )
    if q.shape[-1] != k.shape[-1]:
        raise ArgumentError(f"key: expected {q.shape[-1]} dimensions like the query, got shape {k.shape}")
    try:
        result = pairwise(np.atleast_2d(q), np.atleast_2d(k))
    except ValueError:
        raise ArgumentError(f"key: expected leading axes like the query's {q.shape}, got shape {k.shape}") from None
    result = result[..., 0, :] if q.ndim == 1 else result
    result = result[..., 0] if k.ndim == 1 else result
    if result.ndim == 0:
        return float(result)
    floating = [seen for seen in (like, other) if seen and seen.dtype in FLOATS]
    return _give(result, floating[0] if floating else like or other)


def _floats(like: View, other: View) -> bool:
    """Whether the two could disagree on what to return: different frameworks, or two float dtypes."""
    return like.framework != other.framework or (like.dtype in FLOATS and other.dtype in FLOATS)


def _vectors(values: object, name: str) -> tuple[Floats, View | None]:
    """Numbers as float64 vectors, and the array that they came from, if they did."""
    seen = view(values, name) if is_array(values) else None
    try:
        data = np.asarray(values) if seen is None else seen.data
    except ValueError:
        raise ArgumentError(f"{name}: expected vectors of one length, got {describe(values)}") from None
    if seen is not None and seen.dtype == "bfloat16":
        data = widen(data, "bfloat16")
    if data.dtype.kind not in "iuf":
        raise ArgumentError(f"{name}: expected real numbers, got {describe(values)}")
    if data.ndim == 0:
        raise ArgumentError(f"{name}: expected a vector (d,) or vectors (.., length, d), got the number {data}")
    return data.astype(np.float64), seen


def _give(result: Floats, like: View | None) -> Array:
    """In the framework and dtype of `like`; float64 for lists, and integers count as real numbers."""
    if like is None:
        return result
    return give(result, like.dtype if like.dtype in FLOATS else "float64", like)

"""`lookup`: a dictionary that answers with what its keys nearest to the question hold."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, SupportsFloat

import numpy as np

from ..attention import observe
from ..attention._arrays import check_count, check_number
from ..errors import ArgumentError
from ._answer import Floats, Ints


class Lookup(NamedTuple):
    """What was found; of one query without the leading axis.

    Attributes:
        value: ``(N, values)`` (``(N,)`` where values are numbers), the mean of all values by their keys' weights.
        indices: ``(N, top_k)`` the keys that weigh most, heaviest first; -1 where there are fewer.
        weights: ``(N, top_k)``, theirs, of all keys' weights, which add up to 1; 0 where there are fewer.
    """

    value: Any
    indices: Ints
    weights: Floats


def lookup(query: Any, keys: Any, values: Any, *, top_k: int = 10, temperature: SupportsFloat = 1.0) -> Lookup:
    r"""Look a vector up among keys: every key answers, by how like the query it is.

    .. math:: \mathrm{value} = \sum_j w_j v_j, \qquad w_j = \frac{\exp(q \cdot k_j / T)}{\sum_l \exp(q \cdot k_l / T)}

    The dictionary of a programming language is the limit T -> 0, where the most similar key alone answers; at a high
    temperature all answer alike. It is one call of `qkv.observe`: exact over all keys, millions of them, in O(keys)
    memory. For keys compared by their angle, give vectors of length 1, and temperatures well below 1.

    Graves, Wayne and Danihelka, "Neural Turing Machines" (2014), where a memory is addressed by its content.

    Args:
        query: ``(d,)`` or ``(N, d)``.
        keys: ``(M, d)``, at least one.
        values: ``(M,)`` or ``(M, values)`` numbers; of classes, a column each with 1 where a key is of it: then
            `value` is each class's share.
        top_k: how many keys to name.
        temperature: T, positive.

    Returns:
        `Lookup`, in float64, or in float32 where the keys are float32 or shorter.

    Raises:
        ArgumentError: for what does not fit together; the message names the argument.

    >>> import numpy as np
    >>> from qkv.regression import lookup
    >>> keys = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> found = lookup([1, 0], keys, [10, 20, 30], top_k=2, temperature=0.1)
    >>> found.indices, found.weights.round(3), round(float(found.value), 2)
    (array([0, 2]), array([0.982, 0.018]), 10.36)
    """
    width = check_number(temperature, "temperature", "a positive number")
    if width <= 0:
        raise ArgumentError(f"temperature: expected a positive number, got {temperature}")
    count = check_count(top_k, "top_k", 1)
    key = _numbers(keys, "keys")
    dtype: type[np.float32 | np.float64] = np.float64
    if key.ndim != 2 or not len(key):
        raise ArgumentError(f"keys: expected (keys, dimensions) with at least one key, got shape {key.shape}")
    if key.dtype in (np.float32, np.float16):
        dtype = np.float32
    asked, held = _numbers(query, "query"), _numbers(values, "values")
    if asked.ndim not in (1, 2) or asked.shape[-1] != key.shape[1]:
        raise ArgumentError(
            f"query: expected ({key.shape[1]},) or (queries, {key.shape[1]}) like the keys, got shape {asked.shape}"
        )
    if held.ndim not in (1, 2) or len(held) != len(key):
        raise ArgumentError(f"values: expected one for each of {len(key)} keys, got shape {held.shape}")
    asked, key, held = (_cast(data, dtype, name) for data, name in ((asked, "query"), (key, "keys"), (held, "values")))
    with np.errstate(over="ignore", divide="ignore"):
        scale = dtype(1) / dtype(width)
    if not 0 < scale < np.inf:
        raise ArgumentError(f"temperature: expected a number whose inverse {dtype.__name__} can hold, got {width:g}")
    seen = observe(
        np.atleast_2d(asked),
        key,
        held.reshape(len(held), math.prod(held.shape[1:])),
        scale=float(scale),
        top_k=count,
    )
    if not np.isfinite(seen.lse).all():
        raise ArgumentError(
            f"query, keys: expected products over the temperature that {dtype.__name__} can hold; bring vectors to "
            f"length 1"
        )
    value, indices, weights = seen.output, seen.top_k.indices, seen.top_k.weights
    if held.ndim == 1:
        value = value[:, 0]
    return Lookup(value[0], indices[0], weights[0]) if asked.ndim == 1 else Lookup(value, indices, weights)


def _numbers(values: Any, name: str) -> np.ndarray[Any, Any]:
    """An array of real, finite numbers."""
    if hasattr(values, "toarray"):
        raise ArgumentError(f"{name}: expected a dense array, got a sparse one: give {name}.toarray()")
    try:
        data = np.asarray(values)
    except ValueError:
        raise ArgumentError(f"{name}: expected vectors of one length") from None
    if data.dtype.kind not in "biuf":
        raise ArgumentError(f"{name}: expected real numbers, got {data.dtype}")
    if not np.isfinite(data).all():
        raise ArgumentError(f"{name}: expected finite numbers, got NaN or infinity")
    return data


def _cast(data: np.ndarray[Any, Any], dtype: type[np.float32 | np.float64], name: str) -> np.ndarray[Any, Any]:
    """The same numbers in the dtype of the computation, which must hold them."""
    with np.errstate(over="ignore"):
        cast = data.astype(dtype, copy=False)
    if cast is not data and not np.isfinite(cast).all():
        raise ArgumentError(
            f"{name}: expected numbers that {dtype.__name__} can hold, as the keys are; got larger ones"
        )
    return cast

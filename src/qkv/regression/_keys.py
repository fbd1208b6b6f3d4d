"""Training rows as keys, and what can be asked of them, whether they lie here or in pieces elsewhere.

Everything that is told is a `Partial`, so that what pieces tell merges into what the whole would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from ..attention import Documents, ExceptSelf, Mask, Partial, TopK, observe
from ._answer import Answer, Floats, Ints
from ._pairs import Nearest, Neighbours, spare

HUGE = {"float32": 1e12, "float64": 1e100}
"""Coordinates in bandwidths are kept within this, so that their squares are numbers."""


class Keys(Protocol):
    """What a query can be answered from: keys in bandwidths from a centre, values, weights."""

    @property
    def total(self) -> int:
        """How many keys there are."""

    @property
    def single(self) -> bool:
        """Whether they are float32."""

    @property
    def width(self) -> int:
        """Columns of values."""

    def attend(self, query: Floats, *, own: Ints | None, top_k: int, entropy: bool) -> Partial:
        """Attention with a Gaussian kernel, by dot products in the query's dtype."""

    def nearest(self, query: Floats, own: Ints | None) -> Nearest:
        """The nearest key to each query."""

    def reached(self, query: Floats, nearest: Nearest, *, own: Ints | None, top_k: int) -> Partial:
        """Attention with any kernel, from differences of coordinates, over the keys that matter."""


@dataclass
class Held:
    """Keys in the memory of this process.

    Attributes:
        neighbours: the keys ``(M, d)``, in bandwidths, and the kernel.
        values: ``(M, width)`` float64.
        log_weight: ``(M,)``, 0 for the heaviest of all keys; None where all weigh the same.
        rows: which rows of the data they are, ``(M,)``; None where they are the first ones.
        spare: see `Neighbours.reached`.
    """

    neighbours: Neighbours
    values: Floats
    log_weight: Floats | None = None
    rows: Ints | None = None
    spare: float | None = None
    ready: dict[str, Floats] = field(default_factory=dict)
    """What `attend` has prepared, shared with the same keys of other values."""

    @property
    def total(self) -> int:
        return len(self.neighbours.key)

    @property
    def single(self) -> bool:
        return bool(self.neighbours.key.dtype == np.float32)

    @property
    def width(self) -> int:
        return int(self.values.shape[1])

    def telling(self, tell: Callable[[Floats], Floats]) -> Held:
        """The same keys with other values, made of these."""
        return replace(self, values=tell(self.values))

    def attend(self, query: Floats, *, own: Ints | None = None, top_k: int = 0, entropy: bool = False) -> Partial:
        seen = observe(
            np.concatenate([_within(query, HUGE[query.dtype.name]), np.ones_like(query[:, :1])], axis=1),
            self._biased(query.dtype),
            self.values.astype(query.dtype, copy=False),
            scale=1.0,
            mask=_except(own, self.total),
            entropy=entropy,
            top_k=top_k,
        )
        heaviest = seen.top_k if top_k else None
        partial = Partial(seen.output, seen.lse, entropy=seen.entropy if entropy else None, top_k=heaviest)
        return self._numbered(partial)

    def nearest(self, query: Floats, own: Ints | None = None) -> Nearest:
        return self.neighbours.nearest(_clipped(query), own)

    def reached(self, query: Floats, nearest: Nearest, *, own: Ints | None = None, top_k: int = 0) -> Partial:
        beyond = self.spare
        if beyond is None:
            light = 0.0 if self.log_weight is None else self.log_weight.min()
            beyond = spare(self.total, float(np.exp(light)), 1.0)
        partial = self.neighbours.reached(
            _clipped(query), nearest, self.values, self.log_weight, beyond, own=own, top_k=top_k
        )
        return self._numbered(partial)

    def _biased(self, dtype: np.dtype[Any]) -> Floats:
        """Keys with the bias as one more coordinate, where a query has 1: cheaper than a bias, and the same sum."""
        if dtype.name in self.ready:
            return self.ready[dtype.name]
        key = _within(self.neighbours.key.astype(dtype, copy=False), HUGE[dtype.name])
        bias = -0.5 * np.einsum("ij,ij->i", key, key, dtype=np.float64)
        if self.log_weight is not None:
            bias = bias + self.log_weight
        biased = np.concatenate([key, bias[:, None].astype(dtype)], axis=1)
        if dtype == self.neighbours.key.dtype:
            self.ready[dtype.name] = biased
        return biased

    def _numbered(self, partial: Partial) -> Partial:
        """Keys named by their rows in the data."""
        if self.rows is None or partial.top_k is None or not len(self.rows):
            return partial
        indices = partial.top_k.indices
        return replace(
            partial, top_k=TopK(np.where(indices < 0, np.int64(-1), self.rows[indices]), partial.top_k.weights)
        )


@dataclass(frozen=True)
class Frame:
    """How rows become keys: what all pieces of the data agree on.

    Attributes:
        centre, bandwidth: ``(d,)``; keys are counted from the one in the other. In X's dtype, and float64.
        kernel, metric: their names.
        encode: targets ``(n, targets)`` to columns of values ``(n, width)``.
        total, lightest, heaviest: how many rows weigh something, and the extreme weights.
    """

    centre: Floats
    bandwidth: Floats
    kernel: str
    metric: str
    encode: Callable[[Floats], Floats]
    total: int
    lightest: float
    heaviest: float

    def place(self, x: Floats) -> Floats:
        """Rows in bandwidths from the centre; what is beyond all numbers is brought back to the largest."""
        x = x.astype(self.centre.dtype, copy=False)
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(np.nan_to_num((x - self.centre) / self.bandwidth.astype(x.dtype)))

    def hold(self, x: Floats, y: Floats, weight: Floats, first: int = 0) -> Held:
        """Rows as keys; `first` is the number of the first one in the data."""
        rows = None if not first and (weight > 0).all() else np.flatnonzero(weight)
        if rows is not None:
            x, y, weight = x[rows], y[rows], weight[rows]
        even = self.lightest == self.heaviest
        log_weight = None if even else np.log(weight) - np.log(self.heaviest)
        near = Neighbours(self.place(x), self.kernel, self.metric)
        beyond = spare(self.total, self.lightest, self.heaviest)
        return Held(near, self.encode(y), log_weight, None if rows is None else rows + first, beyond)


def by_differences(query: Floats, keys: Keys, *, own: Ints | None = None, top_k: int = 0) -> Answer:
    """Attention with any kernel: first who is nearest, then all that matter beside it."""
    partial = keys.reached(query, keys.nearest(query, own), own=own, top_k=top_k)
    return Answer.of(partial, top_k)


def _within(x: Floats, limit: float) -> Floats:
    """The same array where nothing is beyond the limit, as is usual."""
    return x if x.size == 0 or (x.max() <= limit and x.min() >= -limit) else np.clip(x, -limit, limit)


def _clipped(query: Floats) -> Floats:
    return _within(np.asarray(query, np.float64), HUGE["float64"])


def _except(own: Ints | None, keys: int) -> Mask | None:
    if own is None:
        return None
    if len(own) == keys:
        return ExceptSelf()
    return ~Documents(own.astype(np.int32), np.arange(keys, dtype=np.int32))

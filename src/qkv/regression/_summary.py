"""What is known of training data after it was read once, piece by piece: counts, moments, and a sample.

All of it joins: the summary of two pieces comes from theirs, and is the same however the data was cut. The sample too:
it is the rows whose numbers hash lowest, a choice that a row's own numbers make, whatever piece it comes in and in
whatever order. Rows that repeat one another in every number are one there, with their weights together; and how many
different rows there are in all is told by how low the lowest hashes lie.

Bar-Yossef et al., "Counting distinct elements in a data stream" (2002); Chan, Golub and LeVeque, "Updating formulae and
a pairwise algorithm for computing sample variances" (1979).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._answer import Bools, Floats

SAMPLED = 100_000
"""Rows of a sample: all there are, up to so many."""


@dataclass(frozen=True)
class Moments:
    """The total weight of rows, the mean of their columns ``(k,)``, and the summed squares around it."""

    mass: float
    mean: Floats
    squares: Floats

    @classmethod
    def of(cls, columns: Floats, weight: Floats) -> Moments:
        mass = float(weight.sum())
        if not mass:
            return cls(0.0, np.zeros(columns.shape[1]), np.zeros(columns.shape[1]))
        mean = np.average(columns, axis=0, weights=weight)
        return cls(mass, mean, np.average((columns - mean) ** 2, axis=0, weights=weight) * mass)

    def join(self, other: Moments) -> Moments:
        mass = self.mass + other.mass
        if not self.mass or not other.mass:
            return self if self.mass else other
        apart, share = other.mean - self.mean, other.mass / mass
        squares = self.squares + other.squares + apart**2 * self.mass * share
        return Moments(mass, self.mean + apart * share, squares)

    @property
    def deviation(self) -> Floats:
        return np.asarray(np.sqrt(self.squares / self.mass))

    def spread(self, dtype: np.dtype[np.floating[Any]]) -> Floats:
        """The standard deviation of columns of that dtype; 1 where they are constant."""
        least = 8 * np.finfo(dtype).eps * np.abs(self.mean)  # a constant's mean is off by its rounding
        return np.where(self.deviation > least, self.deviation, 1.0)


@dataclass(frozen=True)
class Sample:
    """The rows whose hashes are lowest, each once, lowest first.

    Attributes:
        code: ``(n,)``, the hashes.
        x, y: ``(n, d)`` and ``(n, targets)``.
        weight: ``(n,)`` summed over repetitions.
        count: ``(n,)``, the repetitions.
        whole: whether no row was left out.
    """

    code: NDArray[np.uint64]
    x: Floats
    y: Floats
    weight: Floats
    count: NDArray[np.int64]
    whole: bool

    @classmethod
    def of(cls, x: Floats, y: Floats, weight: Floats, count: NDArray[np.int64] | None = None) -> Sample:
        code = _hash(x, y)
        among = np.arange(len(code)) if len(code) <= SAMPLED else np.flatnonzero(code <= np.uint64(_bar(code)))
        found, first, inverse = np.unique(code[among], return_index=True, return_inverse=True)
        mass = np.bincount(inverse, weights=weight[among], minlength=len(found))
        times = np.bincount(inverse, weights=None if count is None else count[among], minlength=len(found))
        counts = times.astype(np.int64)
        kept, whole = among[first][:SAMPLED], len(among) == len(code) and len(found) <= SAMPLED
        part = np.s_[: len(kept)]
        return cls(found[part], x[kept], y[kept], mass[part].astype(np.float64), counts[part], whole)

    def join(self, other: Sample) -> Sample:
        both = (np.concatenate([getattr(s, name) for s in (self, other)]) for name in ("x", "y", "weight", "count"))
        joined = Sample.of(*both)
        return replace(joined, whole=joined.whole and self.whole and other.whole)

    def distinct(self, rows: int) -> float:
        """How many different rows there are among so many: exact where all were kept, or where none repeat."""
        if self.whole:
            return len(self.code)
        if self.count.max() == 1:
            return rows
        return min(rows, (len(self.code) - 1) / (float(self.code[-1]) / 2.0**64))


@dataclass(frozen=True)
class Summary:
    """Of rows that weigh something.

    Attributes:
        lengths: rows of each piece, those of weight 0 included.
        rows: how many weigh something.
        dtype: that which holds all numbers of X.
        lightest, heaviest: the extreme weights.
        features, targets: their moments.
        sample: some rows.
    """

    lengths: tuple[int, ...]
    rows: int
    dtype: np.dtype[np.floating[Any]]
    lightest: float
    heaviest: float
    features: Moments
    targets: Moments
    sample: Sample

    @classmethod
    def of(cls, x: Floats, y: Floats, weight: Floats) -> Summary:
        length, positive = len(x), weight > 0
        if not positive.all():
            x, y, weight = x[positive], y[positive], weight[positive]
        lightest, heaviest = (weight.min(), weight.max()) if len(weight) else (np.inf, 0.0)
        features, targets, sample = Moments.of(x, weight), Moments.of(y, weight), Sample.of(x, y, weight)
        return cls((length,), len(x), x.dtype, float(lightest), float(heaviest), features, targets, sample)

    def join(self, *others: Summary) -> Summary:
        if not others:
            return self
        other, *rest = others
        joined = Summary(
            self.lengths + other.lengths,
            self.rows + other.rows,
            np.result_type(self.dtype, other.dtype),
            min(self.lightest, other.lightest),
            max(self.heaviest, other.heaviest),
            self.features.join(other.features),
            self.targets.join(other.targets),
            self.sample.join(other.sample),
        )
        return joined.join(*rest)

    @property
    def distinct(self) -> float:
        return self.sample.distinct(self.rows)

    @property
    def effective(self) -> float:
        """(sum w)² / sum w², the number of observations that weigh as much (Kish, "Survey Sampling", 1965)."""
        weight = self.sample.weight
        squares = float((weight**2).sum()) * self.distinct / len(weight)
        return self.features.mass**2 / squares


def _hash(x: Floats, y: Floats) -> NDArray[np.uint64]:
    """64 bits for each row, alike for the same numbers in float32 and float64, and for 0 and -0."""
    state = np.full(len(x), 0x9E3779B97F4A7C15, np.uint64)
    for column in (*x.T, *y.T):
        state ^= (column.astype(np.float64) + 0.0).view(np.uint64)
        # The finisher of Stafford's "mix 13" (as in SplitMix64), a permutation of 64 bits in which all bits tell.
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = (state ^ (state >> np.uint64(31))) + np.uint64(0x9E3779B97F4A7C15)
    return state


def _bar(code: NDArray[np.uint64]) -> int:
    """A bound below which lie at least `SAMPLED` different hashes, or all."""
    wanted = SAMPLED
    while wanted < len(code):
        bar = int(np.partition(code, wanted - 1)[wanted - 1])
        under: Bools = code <= np.uint64(bar)
        if len(np.unique(code[under])) >= SAMPLED:
            return bar
        wanted *= 2
    return 2**64 - 1

"""Kernel regression over the keys within reach of each query, found by a k-d tree, from differences of coordinates.

Serves compact kernels, whose cost then does not grow with all keys, other metrics than the Euclidean one, and Gaussian
queries whose scores would lose their digits as dot products.

An exponential kernel reaches everywhere; but what weighs less than e^-40 / n of the heaviest key does not change a
float64 sum of n, and is left out: the result is exact within rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from ..attention import Partial, TopK
from ._answer import Bools, Floats, Ints
from ._kernels import COMPACT, NORMS

PAIRS = 1 << 21
"""How many pairs of a query and a key are held at a time; a query with more keys has its own turn."""
NEGLIGIBLE = 40.0
"""In nats below the heaviest key, beside log n."""
TIED = 1e-12
"""Distances that differ relatively less are one distance."""


class Nearest(NamedTuple):
    """The nearest key to each query: how far it is, ``(N,)`` (inf where there is none), and where, ``(N, d)``."""

    distance: Floats
    at: Floats


class Neighbours:
    """The keys of a kernel regression, arranged so that those near a query are found; built at first use.

    Args:
        key: ``(M, d)`` in bandwidths.
        kernel: one of `KERNELS`.
        metric: one of `NORMS`.
    """

    def __init__(self, key: Floats, kernel: str = "gaussian", metric: str = "euclidean") -> None:
        self.key, self.kernel, self.norm = key, kernel, NORMS[metric]
        self._tree: cKDTree | None = None

    @property
    def tree(self) -> cKDTree:
        if self._tree is None:
            self._tree = cKDTree(np.asarray(self.key, np.float64), balanced_tree=False, compact_nodes=False)
        return self._tree

    def nearest(self, query: Floats, own: Ints | None = None) -> Nearest:
        """The nearest key to each query that is not the query itself, where there is one."""
        if len(self.key) <= (own is not None):
            return Nearest(np.full(len(query), np.inf), np.zeros(query.shape))
        if own is None:
            _, index = self.tree.query(query, p=self.norm)
        else:
            _, index = self.tree.query(query, k=2, p=self.norm)
            first = np.where(index[:, 0] == own, 1, 0)[:, None]
            index = np.take_along_axis(index, first, 1)[:, 0]
        at = np.asarray(self.key[index], np.float64)
        return Nearest(self._length(at - query), at)

    def reached(
        self,
        query: Floats,
        nearest: Nearest,
        values: Floats,
        log_weight: Floats | None,
        spare: float,
        *,
        own: Ints | None = None,
        top_k: int = 0,
    ) -> Partial:
        """Attention over the keys in reach, or over those at the nearest one's distance where no kernel reaches.

        Args:
            query: ``(N, d)`` float64.
            nearest: of all keys, of which these may be a piece: scores are counted from its own.
            values, log_weight, own, top_k: as in `gaussian`.
            spare: how far below the nearest key's a score may lie and matter, weights considered.
        """
        partial = nothing(len(query), values.shape[1], top_k)
        if not len(self.key):
            return partial
        radius = self._radius(nearest.distance, spare)
        for rows in self._turns(query, radius):
            found = self.tree.query_ball_point(query[rows], radius[rows], p=self.norm)
            counts = np.fromiter(map(len, found), np.int64, len(rows))
            columns = np.fromiter((j for keys in found for j in keys), np.int64, int(counts.sum()))
            line = np.repeat(np.arange(len(rows)), counts)
            if own is not None:
                other = columns != own[rows][line]
                line, columns = line[other], columns[other]
            score = self._scores(query[rows], line, columns, Nearest(*(part[rows] for part in nearest)))
            if log_weight is not None:
                score += log_weight[columns]
            _reduce(partial, rows, line, columns, score, values)
        return partial

    def _radius(self, distance: Floats, spare: float) -> Floats:
        """How far to look: to the kernel's edge, or to where weights are negligible; at least to the nearest key."""
        if self.kernel == "gaussian":
            reach = np.sqrt(distance**2 + 2 * spare)
        elif self.kernel == "laplacian":
            reach = distance + spare
        else:
            reach = np.maximum(1.0, distance)
        return np.asarray(reach * (1 + TIED))

    def _turns(self, query: Floats, radius: Floats) -> Iterator[Ints]:
        """Rows in runs that have about `PAIRS` keys in reach together."""
        for start in range(0, len(query), 1 << 16):
            stop = min(start + (1 << 16), len(query))
            counts = self.tree.query_ball_point(
                query[start:stop], radius[start:stop], p=self.norm, return_length=True, workers=-1
            )
            turn = np.cumsum(np.minimum(counts, PAIRS)) // PAIRS
            yield from np.split(np.arange(start, stop), np.flatnonzero(np.diff(turn)) + 1)

    def _length(self, apart: Floats) -> Floats:
        apart = np.abs(apart)
        return np.asarray(
            apart.max(1, initial=0) if np.isinf(self.norm) else (apart**self.norm).sum(1) ** (1 / self.norm)
        )

    def _scores(self, query: Floats, line: Ints, columns: Ints, nearest: Nearest) -> Floats:
        """The logarithms of the kernel's values; for those that reach everywhere, over the nearest key's own."""
        near = nearest.distance[line]
        key = np.asarray(self.key[columns], np.float64)
        if self.kernel == "gaussian" and self.norm == 2:
            # Seen from the nearest key a, |q - k|² - |q - a|² = |d|² - 2 d·(q - a) with d = k - a: no digit is lost,
            # neither close by nor a long way off.
            apart = key - nearest.at[line]
            return np.asarray(np.einsum("ij,ij->i", apart, (query - nearest.at)[line] - 0.5 * apart))
        u = self._length(key - query[line])
        if self.kernel == "gaussian":
            return np.asarray((near - u) * (near + u) / 2)
        if self.kernel == "laplacian":
            return np.asarray(near - u)
        value = COMPACT[self.kernel]
        alone = value(nearest.distance) == 0
        with np.errstate(divide="ignore"):
            return np.log(np.where(alone[line], u <= near * (1 + TIED), value(u)))


def spare(keys: int, lightest: float, heaviest: float) -> float:
    """How far below the nearest key's a score may lie and matter, among so many keys of such weights."""
    return float(NEGLIGIBLE + np.log(keys) + np.log(heaviest / lightest))


def nothing(queries: int, values: int, top_k: int) -> Partial:
    """Attention to no key at all."""
    heaviest = TopK(np.full((queries, top_k), -1, np.int64), np.zeros((queries, top_k))) if top_k else None
    lse = np.full(queries, -np.inf)
    return Partial(np.zeros((queries, values)), lse, entropy=np.zeros(queries), top_k=heaviest)


def _reduce(partial: Partial, rows: Ints, line: Ints, columns: Ints, score: Floats, values: Floats) -> None:
    """Sums over each line, put where they belong; a line that has no key, or none of any weight, stays as it is."""
    some = score > -np.inf
    line, columns, score = line[some], columns[some], score[some]
    first = np.flatnonzero(np.diff(line, prepend=-1))
    if not len(first):
        return
    at, turn = rows[line[first]], np.repeat(np.arange(len(first)), np.diff(first, append=len(line)))
    highest = np.maximum.reduceat(score, first)
    weight = np.exp(score - highest[turn])
    total = np.add.reduceat(weight, first)
    weight /= total[turn]
    partial.lse[at] = highest + np.log(total)
    for column in range(values.shape[1]):
        partial.output[at, column] = np.add.reduceat(weight * values[columns, column], first)
    with np.errstate(divide="ignore", invalid="ignore"):
        partial.entropy[at] = np.add.reduceat(np.where(weight > 0, -weight * np.log(weight), 0), first)
    if partial.top_k is not None:
        order = np.lexsort((columns, -weight, turn))
        rank = np.arange(len(line)) - first[turn]
        kept: Bools = (rank < partial.top_k.indices.shape[1]) & (weight[order] > 0)
        partial.top_k.indices[at[turn[kept]], rank[kept]] = columns[order][kept]
        partial.top_k.weights[at[turn[kept]], rank[kept]] = weight[order][kept]

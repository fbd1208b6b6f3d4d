"""Kernel regression over the keys within reach of each query, found by a k-d tree, from differences of coordinates.

Serves compact kernels, whose cost then does not grow with all keys, other metrics than the Euclidean one, and Gaussian
queries whose scores would lose their digits as dot products.

An exponential kernel reaches everywhere; but what weighs less than e^-40 / n of the heaviest key does not change a
float64 sum of n, and is left out: the result is exact within rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.spatial import cKDTree

from ._answer import Answer, Bools, Floats, Ints
from ._kernels import COMPACT, NORMS

PAIRS = 1 << 21
"""How many pairs of a query and a key are held at a time; a query with more keys has its own turn."""
NEGLIGIBLE = 40.0
"""In nats below the heaviest key, beside log n."""
TIED = 1e-12
"""Distances that differ relatively less are one distance."""


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

    def answer(
        self, query: Floats, values: Floats, log_weight: Floats | None, *, own: Ints | None = None, top_k: int = 0
    ) -> Answer:
        """Weighted means over the keys in reach; over the nearest ones where none is. Arguments as in `gaussian`."""
        answer = Answer.empty(len(query), values.shape[1], top_k)
        if len(self.key) <= (own is not None):  # nobody but itself
            return answer
        query = np.clip(np.asarray(query, np.float64), -1e100, 1e100)
        nearest, distance = self._nearest(query, log_weight, own)
        radius = self._radius(distance, log_weight)
        for rows in self._turns(query, radius):
            found = self.tree.query_ball_point(query[rows], radius[rows], p=self.norm)
            counts = np.fromiter(map(len, found), np.int64, len(rows))
            columns = np.fromiter((j for keys in found for j in keys), np.int64, int(counts.sum()))
            line = np.repeat(np.arange(len(rows)), counts)
            if own is not None:
                other = columns != own[rows][line]
                line, columns = line[other], columns[other]
            # No line is empty: the radius takes in the nearest key.
            weight = self._weights(query[rows], line, columns, nearest[rows], distance[rows], log_weight)
            answer.put(rows, _reduce(len(rows), line, columns, weight, values, top_k))
        return answer

    def _nearest(self, query: Floats, log_weight: Floats | None, own: Ints | None) -> tuple[Ints, Floats]:
        """The nearest key that is not the query itself, and how far it is."""
        if own is None:
            distance, index = self.tree.query(query, p=self.norm)
            return index, distance
        distance, index = self.tree.query(query, k=2, p=self.norm)
        first = np.where(index[:, 0] == own, 1, 0)[:, None]
        return np.take_along_axis(index, first, 1)[:, 0], np.take_along_axis(distance, first, 1)[:, 0]

    def _radius(self, distance: Floats, log_weight: Floats | None) -> Floats:
        """How far to look: to the kernel's edge, or to where weights are negligible; at least to the nearest key."""
        spare = NEGLIGIBLE + np.log(len(self.key)) + (0.0 if log_weight is None else float(np.ptp(log_weight)))
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

    def _weights(
        self, query: Floats, line: Ints, columns: Ints, nearest: Ints, distance: Floats, log_weight: Floats | None
    ) -> Floats:
        """Weights that add up to 1 in each line."""
        first = np.searchsorted(line, np.arange(len(query)))
        extra = 0.0 if log_weight is None else log_weight[columns]
        if self.kernel == "gaussian" and self.norm == 2:
            # Seen from the nearest key a, |q - k|² - |q - a|² = |d|² - 2 d·(q - a) with d = k - a: no digit is lost,
            # neither close by nor a long way off.
            at = np.asarray(self.key[nearest], np.float64)
            apart = np.asarray(self.key[columns], np.float64) - at[line]
            score = np.einsum("ij,ij->i", apart, (query - at)[line] - 0.5 * apart) + extra
        else:
            apart = np.abs(np.asarray(self.key[columns], np.float64) - query[line])
            u = apart.max(1, initial=0) if np.isinf(self.norm) else (apart**self.norm).sum(1) ** (1 / self.norm)
            if self.kernel in COMPACT:
                return _normalized(self._compact(u, line, first, distance), line, first, extra)
            near = distance[line]
            score = (near - u) * (near + u) / 2 + extra if self.kernel == "gaussian" else near - u + extra
        score -= np.maximum.reduceat(score, first)[line]
        weight = np.exp(score)
        return np.asarray(weight / np.add.reduceat(weight, first)[line])

    def _compact(self, u: Floats, line: Ints, first: Ints, distance: Floats) -> Floats:
        """The kernel's values; where all are 0, the nearest keys share alike."""
        weight = COMPACT[self.kernel](u)
        alone = np.add.reduceat(weight, first) == 0
        nearest = u <= np.minimum.reduceat(u, first)[line] * (1 + TIED)
        return np.where(alone[line], nearest, weight)


def _normalized(weight: Floats, line: Ints, first: Ints, extra: Floats | float) -> Floats:
    if not isinstance(extra, float):
        weight = weight * np.exp(extra - np.maximum.reduceat(extra, first)[line])
    return np.asarray(weight / np.add.reduceat(weight, first)[line])


def _reduce(queries: int, line: Ints, columns: Ints, weight: Floats, values: Floats, top_k: int) -> Answer:
    """Sums over each line, which is never empty."""
    first = np.searchsorted(line, np.arange(queries))
    answer = Answer.empty(queries, values.shape[1], top_k)
    for column in range(values.shape[1]):
        answer.mean[:, column] = np.add.reduceat(weight * values[columns, column], first)
    with np.errstate(divide="ignore", invalid="ignore"):
        answer.entropy[:] = np.add.reduceat(np.where(weight > 0, -weight * np.log(weight), 0), first)
    if top_k:
        order = np.lexsort((columns, -weight, line))
        rank = np.arange(len(line)) - first[line]
        kept: Bools = (rank < top_k) & (weight[order] > 0)
        answer.indices[line[kept], rank[kept]] = columns[order][kept]
        answer.weights[line[kept], rank[kept]] = weight[order][kept]
    return answer

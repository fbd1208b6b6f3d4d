"""Updates of about as many tokens each: sentences of like length together, so that little of a batch is padding.

What one update of the weights sees is decided first, from the seed alone, and only then cut into the shares of
processes and of accumulation steps. So a run on two processes, or one that accumulates, follows the curve of one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from ._encoded import NOTHING


class TokenBatches(Sampler[list[int]]):
    """Row numbers of one process's batches, for a given number of updates.

    Each pass over the data shuffles sentences of equal length and then the updates; the pass number and the seed alone
    decide. An update has as many sentences as fit ``sentences * longest <= tokens``, padding counted, on either side.

    Args:
        lengths: ``(rows, 2)``, tokens of source and target.
        tokens: the budget of an update, over all processes and accumulation steps.
        updates: how many to give; the data are passed over as often as that takes.
        seed: of the order.
        accumulate: batches that make up one update in each process.
        processes, process: how many share each update, and which one this is.

    >>> list(TokenBatches(np.array([[3, 4], [9, 8], [4, 2], [4, 4]]), tokens=12, updates=2, seed=0))
    [[1], [2, 0, 3]]
    >>> list(TokenBatches(np.array([[3, 4], [9, 8], [4, 2], [4, 4]]), 12, 2, seed=0, processes=2, process=1))
    [[-1], [0]]
    """

    def __init__(
        self,
        lengths: NDArray[np.integer],
        tokens: int,
        updates: int,
        *,
        seed: int,
        accumulate: int = 1,
        processes: int = 1,
        process: int = 0,
    ) -> None:
        self._lengths = lengths
        self._longest = lengths.max(axis=1)
        self._edges = _edges(np.sort(self._longest), tokens)
        self._updates, self._seed = updates, seed
        self._shares, self._first, self._step = accumulate * processes, process, processes

    @property
    def updates_a_pass(self) -> int:
        """Updates in one pass over the data: the same in every pass."""
        return len(self._edges) - 1

    def __len__(self) -> int:
        return self._updates * (self._shares // self._step)

    def __iter__(self) -> Iterator[list[int]]:
        given = 0
        number = 0
        while given < self._updates:
            for update in self._pass(number):
                for share in range(self._first, self._shares, self._step):
                    yield update[share :: self._shares] or [NOTHING]
                given += 1
                if given == self._updates:
                    return
            number += 1

    def _pass(self, number: int) -> Iterator[list[int]]:
        random = np.random.default_rng([self._seed, number])
        shuffled = random.permutation(len(self._longest))
        # The longer side first: it alone decides where an update ends, so each pass has as many updates.
        keys = (self._lengths[shuffled, 0], self._lengths[shuffled, 1], self._longest[shuffled])
        rows = shuffled[np.lexsort(keys)]
        for index in random.permutation(self.updates_a_pass):
            yield rows[self._edges[index] : self._edges[index + 1]].tolist()


def _edges(longest: NDArray[np.integer], tokens: int) -> list[int]:
    """Where each update starts among the sorted lengths, and the end."""
    edges = [0]
    for row, length in enumerate(longest.tolist()):
        if row > edges[-1] and (row + 1 - edges[-1]) * length > tokens:
            edges.append(row)
    return [*edges, len(longest)]

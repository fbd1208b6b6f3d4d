"""Updates of about as many tokens or sentences each: of like length together, so that little of a batch is padding.

What one update of the weights sees is decided first, from the seed alone, and only then cut into the shares of
processes and of accumulation steps. So a run on two processes, or one that accumulates, follows the curve of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count, islice

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from ._encoded import NOTHING

POOL = 50
"""Updates whose sentences are sorted by length together. Sorting all that there are leaves less padding, but then an
update's sentences are too much alike: after a thousand updates the loss is higher by a quarter of a nat."""


class Batches(Sampler[list[int]]):
    """Row numbers of one process's batches, for a given number of updates.

    Each pass over the data shuffles all sentences, sorts as many as make `POOL` updates by their longer side, cuts them
    into full updates (what is over goes on into the next pool) and shuffles these. The pass number and the seed alone
    decide. By tokens, an update has as many sentences as fit ``sentences * longest <= tokens``, padding counted, on
    either side; by sentences, it has as many as that gives on average, so that short ones weigh more.

    Args:
        lengths: ``(rows, 2)``, tokens of source and target.
        tokens: the budget of an update, over all processes and accumulation steps.
        updates: how many to give; the data are passed over as often as that takes.
        by: ``"tokens"`` or ``"sentences"``.
        seed: of the order.
        accumulate: batches that make up one update in each process.
        processes, process: how many share each update, and which one this is.

    Attributes:
        updates_a_pass: in one pass over the data, about.
        sentences: of an update, on average.

    >>> list(Batches(np.array([[3, 4], [9, 8], [4, 2], [4, 4]]), tokens=12, updates=2, seed=0))
    [[1], [2, 0, 3]]
    >>> list(Batches(np.array([[3, 4], [9, 8], [4, 2], [4, 4]]), 12, 2, seed=0, processes=2, process=1))
    [[-1], [0]]
    >>> list(Batches(np.array([[3, 4], [9, 8], [4, 2], [4, 4]]), 12, 2, by="sentences", seed=0))
    [[3, 1], [2, 0]]
    """

    def __init__(
        self,
        lengths: NDArray[np.integer],
        tokens: int,
        updates: int,
        *,
        by: str = "tokens",
        seed: int,
        accumulate: int = 1,
        processes: int = 1,
        process: int = 0,
    ) -> None:
        self._longest = lengths.max(axis=1)
        self._tokens, self._updates, self._by, self._seed = tokens, updates, by, seed
        self._shares, self._first, self._step = accumulate * processes, process, processes
        self.updates_a_pass = 1 + len(_cuts_by_tokens(np.sort(self._longest), tokens))
        self.sentences = max(1, round(len(lengths) / self.updates_a_pass))

    def __len__(self) -> int:
        return self._updates * (self._shares // self._step)

    def __iter__(self) -> Iterator[list[int]]:
        updates = chain.from_iterable(map(self._of_pass, count()))
        return self._shared(islice(updates, self._updates))

    def one_pass(self) -> Iterator[list[int]]:
        """This process's batches of every sentence once, however many updates that takes."""
        return self._shared(self._of_pass(0))

    def _shared(self, updates: Iterator[list[int]]) -> Iterator[list[int]]:
        for update in updates:
            for share in range(self._first, self._shares, self._step):
                yield update[share :: self._shares] or [NOTHING]

    def _of_pass(self, number: int) -> Iterator[list[int]]:
        random = np.random.default_rng([self._seed, number])
        shuffled = random.permutation(len(self._longest))
        updates: list[NDArray[np.integer]] = []
        rest = shuffled[:0]
        for start in range(0, len(shuffled), POOL * self.sentences):
            pool = np.concatenate([rest, shuffled[start : start + POOL * self.sentences]])
            pool = pool[np.argsort(self._longest[pool], kind="stable")]
            *full, rest = np.split(pool, self._cuts(self._longest[pool]))
            updates += full
        updates.append(rest)
        for index in random.permutation(len(updates)):
            yield updates[index].tolist()

    def _cuts(self, longest: NDArray[np.integer]) -> list[int]:
        """Where each update but the first starts among the sorted lengths."""
        if self._by == "sentences":
            return list(range(self.sentences, len(longest), self.sentences))
        return _cuts_by_tokens(longest, self._tokens)


def _cuts_by_tokens(longest: NDArray[np.integer], tokens: int) -> list[int]:
    """Where an update within the budget ends, so that the next one starts there."""
    cuts = [0]
    for row, length in enumerate(longest.tolist()):
        if row > cuts[-1] and (row + 1 - cuts[-1]) * length > tokens:
            cuts.append(row)
    return cuts[1:]

"""Keys that lie in pieces: each piece is asked for its `Partial`, and the answers are merged.

Only queries travel to the pieces, and only what is said of each query comes back; keys stay where they are. Which
digits can be trusted is told by the merged logsumexp, so that a query goes the very way that it would go in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np

from ..attention import Partial, merge
from ._answer import Floats, Ints
from ._keys import Frame, Held
from ._pairs import Nearest
from ._pieces import Pieces, Rows, T


@dataclass(frozen=True)
class Scattered:
    """The pieces, and how their rows become keys.

    Attributes:
        pieces: where the rows are.
        frame: what they agree on.
        columns: targets as they came to numbers ``(n, targets)``.
        lengths: rows of each piece.
        targets: how many columns those are.
        tell: what is made of the values, None to leave them.
    """

    pieces: Pieces
    frame: Frame
    columns: Callable[[Any], Floats]
    lengths: tuple[int, ...]
    targets: int
    tell: Callable[[Floats], Floats] | None = None

    @property
    def total(self) -> int:
        return self.frame.total

    @property
    def single(self) -> bool:
        return bool(self.frame.centre.dtype == np.float32)

    @property
    def width(self) -> int:
        return int(_told(self.frame.encode(np.zeros((1, self.targets))), self.tell).shape[1])

    def telling(self, tell: Callable[[Floats], Floats]) -> Scattered:
        return replace(self, tell=tell)

    def attend(self, query: Floats, *, own: Ints | None = None, top_k: int = 0, entropy: bool = False) -> Partial:
        return self._asked(partial(Held.attend, query=query, top_k=top_k, entropy=entropy), merge)

    def nearest(self, query: Floats, own: Ints | None = None) -> Nearest:
        return self._asked(partial(Held.nearest, query=query), _nearer)

    def reached(self, query: Floats, nearest: Nearest, *, own: Ints | None = None, top_k: int = 0) -> Partial:
        return self._asked(partial(Held.reached, query=query, nearest=nearest, top_k=top_k), merge)

    def _asked(self, question: Callable[[Held], T], join: Callable[..., T]) -> T:
        first = tuple(accumulate(self.lengths, initial=0))
        ask: Callable[[Rows, int], T] = partial(_answer, self.frame, self.columns, first, self.tell, question)
        return self.pieces.reduce(ask, join)


def _answer(
    frame: Frame,
    columns: Callable[[Any], Floats],
    first: tuple[int, ...],
    tell: Callable[[Floats], Floats] | None,
    question: Callable[[Held], Any],
    rows: Rows,
    number: int,
) -> Any:
    """One piece's answer; this runs where the piece is."""
    held = frame.hold(rows.x, columns(rows.y), rows.weight, first[number])
    return question(replace(held, values=_told(held.values, tell)))


def _told(values: Floats, tell: Callable[[Floats], Floats] | None) -> Floats:
    return values if tell is None else tell(values)


def _nearer(*found: Nearest) -> Nearest:
    """Of several pieces' nearest keys the nearest; the first of several alike."""
    distance = np.stack([part.distance for part in found])
    best, rows = distance.argmin(0), np.arange(distance.shape[1])
    return Nearest(distance[best, rows], np.stack([part.at for part in found])[best, rows])

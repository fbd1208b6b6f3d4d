"""A batch of texts that a model is reading: which tokens they have, which of these are padding, how far it has come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..trace import SideName
from ._growing import Growing


@dataclass(eq=False)
class Span:
    """One side of one text, padding included: everything here has the padded length."""

    valid: NDArray[np.bool_]
    ids: NDArray[np.int64] | None
    generated: NDArray[np.bool_]
    finished: bool = False

    def shown(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Ids (-1 where they are not known) and which are generated, without padding."""
        ids = self.ids if self.ids is not None else np.full(len(self.valid), -1, np.int64)
        return ids[self.valid], self.generated[self.valid]


@dataclass(eq=False)
class Notes:
    """What hooks saw of the texts before attention ran: for each side, ids ``(B, n)`` and a padding mask ``(B, L)``."""

    ids: dict[SideName, Tensor] = field(default_factory=dict)
    masks: dict[SideName, Tensor] = field(default_factory=dict)


@dataclass(eq=False)
class Ending:
    """How generation marks a text that is finished while others of its batch go on."""

    stops: frozenset[int] = frozenset()
    padding: int | None = None


@dataclass(eq=False)
class Reading:
    """One batch, from its first forward pass to its last.

    Attributes:
        first: index of its first text among the sequences of the capture.
        batch: how many texts.
        spans: for each side, one `Span` a text.
        records: for each attention of the model, one record a text; None for a layer that was not asked for.
        tails: for each attention, the last key that it made, to see that a cache is still what it was.
        turns: for each side, the forward pass that added to it last, and its padded length before.
    """

    first: int
    batch: int
    spans: dict[SideName, list[Span]] = field(default_factory=dict)
    records: dict[tuple[str, int], list[Growing] | None] = field(default_factory=dict)
    tails: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    turns: dict[SideName, tuple[int, int]] = field(default_factory=dict)

    def length(self, side: SideName) -> int | None:
        """Padded length of a side so far; None before it was seen."""
        return len(self.spans[side][0].valid) if side in self.spans else None

    def is_padded(self, *sides: SideName) -> bool:
        """Whether some text of the batch has padding on one of these sides."""
        return any(not span.valid.all() for side in sides for span in self.spans[side])

    def before(self, side: SideName, turn: int) -> int:
        """Padded length of a side before a forward pass."""
        last, before = self.turns.get(side, (-1, 0))
        return before if last == turn else (self.length(side) or 0)

    def advance(
        self,
        side: SideName,
        turn: int,
        count: int,
        notes: Notes,
        *,
        padding: Tensor | None,
        generated: bool,
        end: Ending,
    ) -> None:
        """A forward pass reads `count` more tokens of a side; the first attention that shows it calls this."""
        if side in self.turns and self.turns[side][0] == turn:
            return
        past = self.length(side) or 0
        self.turns[side] = (turn, past)
        ids = notes.ids.get(side)
        if ids is not None and tuple(ids.shape) != (self.batch, count):
            ids = None
        mask = notes.masks.get(side)
        if mask is None and past == 0:
            mask = padding
        if mask is not None and (mask.shape[0] != self.batch or mask.shape[1] not in (count, past + count)):
            mask = None
        if side not in self.spans:
            nothing = np.zeros(0, np.bool_)
            self.spans[side] = [Span(nothing, np.zeros(0, np.int64), nothing) for _ in range(self.batch)]
        for index, span in enumerate(self.spans[side]):
            valid = np.ones(count, np.bool_) if mask is None else _numbers(mask[index, -count:]).astype(np.bool_)
            new = None if ids is None else _numbers(ids[index]).astype(np.int64)
            if new is None or span.ids is None:
                span.ids = None
            else:
                if generated and len(span.ids) and span.generated[-1] and int(span.ids[-1]) in end.stops:
                    span.finished = True
                if span.finished:
                    valid = np.zeros(count, np.bool_)
                span.ids = np.concatenate([span.ids, new])
            span.valid = np.concatenate([span.valid, valid])
            span.generated = np.concatenate([span.generated, np.full(count, generated)])

    def take_back(self, turn: int) -> None:
        """Forget what a forward pass that failed has added to texts that were there before it."""
        for side, (last, before) in self.turns.items():
            if last == turn and before:
                for span in self.spans[side]:
                    span.valid, span.generated = span.valid[:before], span.generated[:before]
                    span.ids = None if span.ids is None else span.ids[:before]
        grown = {side for side, (last, before) in self.turns.items() if last == turn and before}
        for records in self.records.values():
            for record in records or ():
                if record.query_side in grown:
                    record.take_back(turn)


def _numbers(tensor: Tensor) -> NDArray[Any]:
    numbers: NDArray[Any] = tensor.detach().cpu().numpy()
    return numbers

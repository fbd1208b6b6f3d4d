"""One layer over one text while the model still runs: it grows by a step for each token that is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..trace import Attention, SideName
from ..trace._tensors import Raw, Tensors, raw
from ._masking import Reach, bias_structure, mask_structure

_BY_QUERY = ("query", "lse", "entropy", "max_score", "distance", "top_k_indices", "top_k_weights")
_BY_KEY = ("key", "value")


class StoredArrays(Mapping[str, Raw]):
    """Arrays that were written to disk already: read from there when they are asked for, and not held in memory."""

    def __init__(self, tensors: Tensors, names: tuple[str, ...]) -> None:
        self._tensors = tensors
        self._names = names

    def __getitem__(self, name: str) -> Raw:
        if name not in self._names:
            raise KeyError(name)
        return self._tensors.raw(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(eq=False)
class Step:
    """What one call adds: new queries, new keys, and what they may read.

    Attributes:
        turn: which forward pass of the model it belongs to; a pass that fails is taken back as a whole.
        arrays: query, key, value, lse and statistics of this step, as they are stored.
        reach: what the queries may read.
        bias: ``(1 | H, n, seen)`` or None.
        first_key: index of the first key that `received` counts.
    """

    turn: int
    arrays: Mapping[str, Raw]
    reach: Reach
    bias: NDArray[Any] | None = None
    first_key: int = 0


@dataclass(eq=False)
class Growing:
    """A record in the making.

    `steps` holds what has been seen; the first may be the concatenation of many.
    """

    path: str
    kind: Literal["self", "cross"]
    part: Literal["encoder", "decoder"]
    layer: int
    heads: tuple[int, ...]
    head_count: int
    scale: float
    softcap: float | None
    query_side: SideName
    key_side: SideName
    sequence: int
    causal: bool
    window: int | None = None
    sink: Raw | None = None
    block: int = 1
    steps: list[Step] = field(default_factory=list)

    @property
    def keys(self) -> int:
        """How many keys there are so far."""
        return self.steps[-1].reach.keys if self.steps else 0

    @property
    def queries(self) -> int:
        """How many queries there are so far."""
        return sum(len(step.reach.start) for step in self.steps)

    def take_back(self, turn: int) -> None:
        """Forget what a forward pass added."""
        self.steps = [step for step in self.steps if step.turn != turn]

    def freeze(self) -> Attention:
        """The record as it stands, its steps joined."""
        stored = self._joined()
        if self.sink is not None:
            stored["sink"] = self.sink
        reaches = [step.reach for step in self.steps]
        return Attention(
            path=self.path,
            kind=self.kind,
            part=self.part,
            layer=self.layer,
            heads=self.heads,
            head_count=self.head_count,
            scale=self.scale,
            softcap=self.softcap,
            query_side=self.query_side,
            key_side=self.key_side,
            tensors=Tensors(stored),
            mask_structure=mask_structure(reaches, causal=self.causal, window=self.window),
            bias_structure=bias_structure([(s.bias, len(s.reach.start), s.reach.keys) for s in self.steps]),
            sequence=self.sequence,
        )

    def _joined(self) -> dict[str, Raw]:
        first, *rest = self.steps
        joined = dict(first.arrays)
        if not rest:
            return joined
        for name in (*_BY_QUERY, *_BY_KEY):
            if name in joined:
                parts = [step.arrays[name].data for step in self.steps if name in step.arrays]
                joined[name] = Raw(joined[name].dtype, np.concatenate(parts, axis=1))
        if "received" in joined:
            total = np.zeros((len(self.heads), self.keys), np.float32)
            for step in self.steps:
                part = step.arrays["received"].data
                total[:, step.first_key : step.first_key + part.shape[1]] += part
            joined["received"] = raw(total)
        if "block_map" in joined:
            joined["block_map"] = raw(self._blocks())
        return joined

    def _blocks(self) -> NDArray[np.float32]:
        """Weights by blocks of `block` queries and keys: each later step holds rows of its own over such blocks."""
        size = self.block
        total = np.zeros((len(self.heads), -(-self.queries // size), -(-self.keys // size)), np.float32)
        row = 0
        for step in self.steps:
            part = step.arrays["block_map"].data
            rows = np.arange(part.shape[1]) if row == 0 else (row + np.arange(part.shape[1])) // size
            for place, values in zip(rows, part.swapaxes(0, 1), strict=True):
                total[:, place, : part.shape[2]] += values
            row += len(step.reach.start)
        return total

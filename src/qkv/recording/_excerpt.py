"""One text of a batch, cut out of an attention without its padding, and the statistics that a trace keeps of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..adapters._call import AttentionCall
from ..adapters._runs import Runs
from ..attention import Observation, TopK, observe
from ..trace._tensors import Raw
from ._storage import stored

TOP_K = 8
BLOCKS = 512
"""Statistics keep the 8 largest weights of a query, and a map of at most 512 x 512 blocks (of the prompt)."""


def wanted(block: int) -> dict[str, Any]:
    """What `qkv.observe` is asked for, with a map of such blocks."""
    plain = dict.fromkeys(("entropy", "max_score", "received", "distance"), True)
    return {**plain, "top_k": TOP_K, "block_map": (block, block)}


@dataclass(eq=False)
class Excerpt:
    """What a call says of one text.

    Attributes:
        call: of the whole batch.
        index: which text of it.
        heads: the query heads that are kept.
        rows, columns: its queries and keys in the call: those that are no padding.
        total: how many keys it has in all; the call may see only the last of them.
    """

    call: AttentionCall
    index: int
    heads: list[int]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    total: int

    @property
    def first_key(self) -> int:
        """The place in the text of the first key that the call sees."""
        return self.total - len(self.columns)

    @property
    def query(self) -> Tensor:
        """``(heads, rows, D)``."""
        return self.among_queries(self.call.query)

    @cached_property
    def runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which run of `columns` each of `rows` may read."""
        keys = self.call.key.shape[2]
        counted = np.zeros(keys + 1, np.int64)
        counted[self.columns + 1] = 1
        counted = np.cumsum(counted)  # how many of the columns lie before a key
        if self.call.runs is None:
            return np.zeros(len(self.rows), np.int64), np.full(len(self.rows), len(self.columns))
        start, stop = (np.clip(bound[self.rows], 0, keys) for bound in self.call.runs.of(self.index))
        return counted[start], counted[np.maximum(start, stop)]

    @cached_property
    def allowed(self) -> NDArray[np.bool_] | None:
        """Booleans ``(1 | heads, rows, columns)`` of what runs cannot say."""
        found = self._window(self.call.allowed)
        return None if found is None else found.cpu().numpy()

    @cached_property
    def bias(self) -> NDArray[Any] | None:
        """``(1 | heads, rows, columns)``, or None."""
        found = self._window(self.call.bias)
        return None if found is None else found.float().cpu().numpy()

    def among_queries(self, tensor: Tensor) -> Tensor:
        """``(heads, rows, ...)`` of ``(B, H, N, ...)``."""
        return _part_of(tensor[self.index], self.heads, self.rows)

    def among_keys(self, tensor: Tensor, columns: NDArray[np.intp]) -> Tensor:
        """``(key heads, columns, ...)`` of ``(B, G, M, ...)``."""
        return _part_of(tensor[self.index], key_heads(self.heads, self.call.query.shape[1], tensor.shape[1]), columns)

    def of(self, seen: Observation) -> Observation:
        """This text's part of what was seen of a batch without padding."""

        def mine(values: Any) -> Any:
            return values[self.index] if len(self.heads) == values.shape[1] else values[self.index][self.heads]

        return Observation(
            **{
                name: TopK(*map(mine, values)) if isinstance(values, TopK) else mine(values)
                for name, values in vars(seen).items()
            }
        )

    def observe(self, block: int) -> Observation:
        """Everything that is kept as statistics, of this text alone."""
        call, (start, stop) = self.call, self.runs
        mask: Any = Runs(start[None], stop[None])
        if self.allowed is not None:
            mask = mask & torch.from_numpy(self.allowed)
        return observe(
            self.query.cpu(),
            self.among_keys(call.key, self.columns).cpu(),
            self.among_keys(call.value, self.columns).cpu(),
            mask=mask,
            bias=None if self.bias is None else torch.from_numpy(self.bias),
            scale=call.scale,
            softcap=call.softcap,
            sink=None if call.sink is None else call.sink.detach().cpu()[self.heads],
            **wanted(block),
        )

    def _window(self, mask: Tensor | None) -> Tensor | None:
        if mask is None:
            return None
        queries, keys = self.call.query.shape[2], self.call.key.shape[2]
        mask = mask.detach()[(None,) * (4 - mask.ndim)]
        mask = mask[self.index if mask.shape[0] > 1 else 0]
        if mask.shape[0] > 1:
            mask = mask[self.heads]
        mask = mask.expand(mask.shape[0], queries, keys)
        if len(self.rows) != queries:
            mask = mask[:, torch.as_tensor(self.rows, device=mask.device)]
        if len(self.columns) != keys:
            mask = mask[:, :, torch.as_tensor(self.columns, device=mask.device)]
        return mask


def key_heads(heads: list[int], query_heads: int, count: int) -> list[int]:
    """The key heads to keep for some query heads: shared in equal groups where they can be, else one for each."""
    group = query_heads // count
    each = [head // group for head in heads]
    shared = sorted(set(each))
    size = len(each) // len(shared)
    return shared if each == [head for head in shared for _ in range(size)] else each


def _part_of(tensor: Tensor, heads: list[int], rows: Any) -> Tensor:
    """``(heads, rows, ...)`` of an array ``(H, N, ...)``, sharing memory where everything is wanted."""
    tensor = tensor.detach()
    if len(heads) != tensor.shape[0] or heads != list(range(len(heads))):
        tensor = tensor[heads]
    return tensor if len(rows) == tensor.shape[1] else tensor[:, torch.as_tensor(rows, device=tensor.device)]


def statistics_of(seen: Observation, first: int, size: int, *, first_step: bool) -> dict[str, Raw]:
    """What a trace keeps of one step, its keys counted from the start of the text.

    Arguments:
        first: the place in the text of the first key that was seen.
        size: of the map's blocks; a step after the first is mapped row by row.
    """
    indices = torch.where(seen.top_k.indices >= 0, seen.top_k.indices + first, seen.top_k.indices)
    blocks = seen.block_map.cpu()
    if not first_step:
        columns = (torch.arange(blocks.shape[2]) + first) // size
        wide = (first + blocks.shape[2] - 1) // size + 1
        blocks = torch.zeros(*blocks.shape[:2], wide).index_add_(2, columns, blocks.float())
    return {
        "lse": stored(seen.lse),
        "entropy": stored(seen.entropy),
        "max_score": stored(seen.max_score),
        "received": stored(seen.received),
        "distance": stored(seen.distance),
        "top_k_indices": stored(indices),
        "top_k_weights": stored(seen.top_k.weights),
        "block_map": stored(blocks),
    }

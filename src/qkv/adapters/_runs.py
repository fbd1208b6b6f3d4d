"""Masks as runs of keys: for every query the keys from one on and up to another.

Causal masks, windows, padding and packed texts are all of this kind. A model hands its mask from where it is made to
every layer as a tensor, so `RunsTensor` looks like the boolean ``(B, 1, N, M)`` that it stands for, and holds
``2 * B * N`` numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ..attention import Mask
from ..attention._bounds import Bounds
from ..attention._scores import ScoreShape


@dataclass(frozen=True, slots=True, eq=False)
class Runs(Mask):
    """Query i of text b may read the keys ``start[b, i] <= j < stop[b, i]``.

    Attributes:
        start, stop: integers ``(1 | B, N)``.
    """

    start: NDArray[np.integer]
    stop: NDArray[np.integer]

    @classmethod
    def causal(cls, queries: int, keys: int) -> Runs:
        """Query i reads keys up to i, both counted from 0."""
        stop = np.minimum(np.arange(1, queries + 1), keys)[None]
        return cls(np.zeros_like(stop), stop)

    @classmethod
    def found_in(cls, allowed: NDArray[np.bool_]) -> Runs | None:
        """The same as booleans ``(B, N, M)`` say, where every query reads one run of keys; else None."""
        keys = allowed.shape[-1]
        if keys == 0:
            return cls(np.zeros(allowed.shape[:-1], np.int64), np.zeros(allowed.shape[:-1], np.int64))
        count = np.count_nonzero(allowed, axis=-1)
        start = np.where(count > 0, allowed.argmax(-1), 0)
        stop = np.where(count > 0, keys - allowed[..., ::-1].argmax(-1), 0)
        return cls(start, stop) if bool((stop - start == count).all()) else None

    def __and__(self, other: Any) -> Any:
        if not isinstance(other, Runs):
            return Mask.__and__(self, other)
        start, stop = np.maximum(self.start, other.start), np.minimum(self.stop, other.stop)
        return Runs(start, np.maximum(start, stop))

    def for_queries(self, count: int) -> Runs:
        """The same with a row for each query, where one stands for all."""
        rows = len(self.start), count
        return (
            self
            if self.start.shape[1] == count
            else Runs(np.broadcast_to(self.start, rows), np.broadcast_to(self.stop, rows))
        )

    def of(self, text: int) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """The bounds ``(N,)`` of one text."""
        row = text if len(self.start) > 1 else 0
        return self.start[row], self.stop[row]

    def everything(self, keys: int) -> bool:
        """Whether every query reads all keys."""
        return bool((self.start == 0).all() and (self.stop >= keys).all())

    def is_causal(self, keys: int) -> bool:
        """Whether query i reads exactly the keys up to i."""
        ends = np.minimum(np.arange(1, self.stop.shape[1] + 1), keys)
        return bool((self.start == 0).all() and (self.stop == ends).all())

    def dense(self, keys: int) -> NDArray[np.bool_]:
        """Booleans ``(1 | B, N, M)``."""
        among = np.arange(keys)
        inside: NDArray[np.bool_] = (among >= self.start[..., None]) & (among < self.stop[..., None])
        return inside

    def _matrix(self, shape: ScoreShape) -> NDArray[np.bool_]:
        dense = self.dense(shape.keys)
        return dense[0] if len(dense) == 1 else dense[:, None]

    def _bounds(self, shape: ScoreShape) -> Bounds:
        return Bounds.of(self.start, self.stop, shape.keys)


class RunsTensor(Tensor):
    """A boolean mask ``(B, 1, N, M)`` that is not there.

    Whoever knows it takes its `runs`; for all others it is the booleans, made when first touched. From then on they are
    what counts (a view of them may be written to), and `runs` is None.
    """

    runs: Runs | None
    _dense: Tensor | None

    @staticmethod
    def __new__(cls, runs: Runs, batch: int, keys: int, device: torch.device | str = "cpu") -> RunsTensor:
        shape = (batch, 1, runs.start.shape[1], keys)
        tensor: RunsTensor = torch.Tensor._make_wrapper_subclass(
            cls, shape, dtype=torch.bool, device=torch.device(device)
        )
        tensor.runs, tensor._dense = runs, None
        return tensor

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"RunsTensor(shape={tuple(self.shape)}, device={self.device})"

    def touched(self) -> Tensor:
        """The booleans."""
        if self._dense is None:
            assert self.runs is not None
            dense = torch.from_numpy(self.runs.dense(self.shape[3]))[:, None]
            self._dense = dense.expand(self.shape).contiguous().to(self.device)
            self.runs = None
        return self._dense

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten.detach.default:  # of what holds no gradient, and is no other memory
            return args[0]
        args, kwargs = tree_map_only(RunsTensor, RunsTensor.touched, (args, kwargs or {}))
        return func(*args, **kwargs)

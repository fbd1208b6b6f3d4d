"""Masks and biases as a trace keeps them: by structure where there is one, as an array where there is none.

A causal mask over 100,000 tokens is the word "causal", not ten thousand million booleans. `MaskStructure` and
`BiasStructure` are plain data (they go to disk as they are) and build the objects that `qkv.attend` takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..attention import Causal, RelativeBias, Window
from ._tensors import Tensors


@dataclass(frozen=True, eq=False)
class MaskStructure:
    """A conjunction of simple masks; every part that is not given allows everything.

    Attributes:
        causal: a query reads no key after its own position p = i + M - N.
        window: ``(left, right)``: p - left <= j <= p + right, None for no limit on a side.
        keys: bool ``(M,)``: the keys that may be read at all.
        array: bool ``(1 | heads, N, M)``: whatever has no structure.
    """

    causal: bool = False
    window: tuple[int | None, int | None] | None = None
    keys: NDArray[np.bool_] | None = None
    array: NDArray[np.bool_] | None = None

    def build(self) -> Any:
        """The mask for `qkv.attend`, or None where everything may be read."""
        parts: list[Any] = []
        if self.window is not None:
            left, right = self.window
            parts.append(Window(left, 0 if self.causal and right is None else right))
        elif self.causal:
            parts.append(Causal())
        if self.keys is not None:
            parts.append(self.keys[None, None, :])
        if self.array is not None:
            parts.append(self.array)
        if not parts:
            return None
        mask = parts[0]
        for part in parts[1:]:
            mask = mask & part
        return mask

    def select(self, heads: Sequence[int]) -> MaskStructure:
        """The mask of some of the heads (positions on the head axis)."""
        if self.array is None or self.array.shape[0] == 1:
            return self
        return MaskStructure(self.causal, self.window, self.keys, self.array[list(heads)])


@dataclass(frozen=True, eq=False)
class BiasStructure:
    """A sum of biases.

    Attributes:
        table: ``(1 | heads, 2R + 1)``, indexed by clip(j - p, -R, R) + R: T5's buckets, ALiBi's slopes.
        array: ``(1 | heads, N, M)``: whatever has no structure.
    """

    table: NDArray[np.floating] | None = None
    array: NDArray[np.floating] | None = None

    def build(self, heads: int) -> Any:
        """The bias for `qkv.attend` over so many heads, or None."""
        bias: Any = None
        if self.table is not None:
            table = self.table if self.table.shape[0] == heads else np.repeat(self.table, heads, axis=0)
            bias = RelativeBias(table)
        if self.array is not None:
            bias = self.array if bias is None else bias + self.array
        return bias

    def select(self, heads: Sequence[int]) -> BiasStructure:
        """The bias of some of the heads (positions on the head axis)."""

        def cut(values: NDArray[np.floating] | None) -> NDArray[np.floating] | None:
            return values if values is None or values.shape[0] == 1 else values[list(heads)]

        return BiasStructure(cut(self.table), cut(self.array))


class StoredMask(MaskStructure):
    """A mask whose arrays are read from disk when they are first asked for."""

    def __init__(self, causal: bool, window: tuple[int | None, int | None] | None, tensors: Tensors) -> None:
        for name, value in (("causal", causal), ("window", window), ("_tensors", tensors)):
            object.__setattr__(self, name, value)

    @property
    def keys(self) -> NDArray[np.bool_] | None:
        return self._tensors.get("mask_keys")  # type: ignore[attr-defined,no-any-return]

    @property
    def array(self) -> NDArray[np.bool_] | None:
        return self._tensors.get("mask_array")  # type: ignore[attr-defined,no-any-return]


class StoredBias(BiasStructure):
    """A bias whose arrays are read from disk when they are first asked for."""

    def __init__(self, tensors: Tensors) -> None:
        object.__setattr__(self, "_tensors", tensors)

    @property
    def table(self) -> NDArray[np.floating] | None:
        return self._tensors.get("bias_table")  # type: ignore[attr-defined,no-any-return]

    @property
    def array(self) -> NDArray[np.floating] | None:
        return self._tensors.get("bias_array")  # type: ignore[attr-defined,no-any-return]

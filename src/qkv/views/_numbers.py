"""From arrays to plain floats, and the few units that views speak in."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qkv.trace import Attention

BITS = 1.0 / math.log(2.0)
"""Entropies are nats in arrays and bits where they are shown."""


def floats(values: NDArray[Any]) -> list[float]:
    """Return a flat array as plain floats."""
    found: list[float] = np.asarray(values, dtype=np.float64).tolist()
    return found


def finite(value: Any) -> float | None:
    """Return a number as a plain float, or None where it is infinite or not a number."""
    number = float(value)
    return number if math.isfinite(number) else None


def lengths(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Return the Euclidean length of each vector on the last axis."""
    wide = np.asarray(vectors, dtype=np.float32)
    found: NDArray[np.float32] = np.sqrt(np.einsum("...d,...d->...", wide, wide))
    return found


def of_head(record: Attention, name: Literal["query", "key", "value"], at: int) -> NDArray[Any]:
    """Return the queries, keys or values of one entry of the head axis, without reading the other heads.

    Raises:
        TraceError: the trace keeps statistics only.
    """
    if name not in record.tensors:
        getattr(record, name)  # raises, and says what to do
    found: NDArray[Any] = record.tensors.select(name, [at])[0]
    return found


def shared(record_heads: int, key_heads: int, head: int) -> int:
    """Return the key head that query head ``head`` (a position) reads: heads share them in equal groups."""
    return head // (record_heads // key_heads)

"""Which weights dropout keeps: a function of the seed and the weight's place alone.

So the backward pass regenerates what the forward pass drew, and nothing depends on threads or on the order of blocks.
The generator is Philox4x32-10: Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011).
"""

from __future__ import annotations

import secrets

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from ._arrays import check_number, describe

_MULTIPLY = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def kept(
    dropout: float, seed: int, batch: int, heads: int, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Whether each weight stays: ``(batch, heads, rows, columns)``, at these places of the whole.

    The counter is (j // 4, i, head, batch item); its four words are those of four neighbouring keys. A weight stays
    where its word is at least dropout * 2**32.
    """
    groups, place = np.unique(columns // 4, return_inverse=True)
    counter = (
        groups.astype(np.uint64),
        rows.astype(np.uint64)[:, None],
        np.arange(heads, dtype=np.uint64)[:, None, None],
        np.arange(batch, dtype=np.uint64)[:, None, None, None],
    )
    words = np.stack(philox(counter, seed), axis=-1)
    return words[..., place, columns % 4] >= threshold(dropout)


def threshold(dropout: float) -> int:
    """Words below it drop their weight."""
    return min(round(dropout * 2.0**32), 2**32 - 1)


def philox(counter: tuple[NDArray[np.uint64], ...], seed: int) -> list[NDArray[np.uint32]]:
    """Four random words for each counter of four words, held in uint64."""
    first, second, third, fourth = np.broadcast_arrays(*counter)
    low, high = seed & 0xFFFFFFFF, seed >> 32
    for turn in range(_ROUNDS):
        left, right = first * _MULTIPLY[0], third * _MULTIPLY[1]
        keys = (np.uint64((low + turn * _WEYL[0]) & 0xFFFFFFFF), np.uint64((high + turn * _WEYL[1]) & 0xFFFFFFFF))
        first, second, third, fourth = (
            (right >> _HALF) ^ second ^ keys[0],
            right & _LOW,
            (left >> _HALF) ^ fourth ^ keys[1],
            left & _LOW,
        )
    return [word.astype(np.uint32) for word in (first, second, third, fourth)]


def check_dropout(dropout: object, seed: object) -> tuple[float, int]:
    """A probability below 1 and a seed; a new one from the system where none is given.

    Raises:
        ArgumentError: for anything else.
    """
    probability = check_number(dropout, "dropout", "a probability from 0 to below 1")  # type: ignore[arg-type]
    if not 0 <= probability < 1:
        raise ArgumentError(f"dropout: expected a probability from 0 to below 1, got {dropout}")
    if seed is None:
        return probability, secrets.randbits(64) if probability else 0
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise ArgumentError(f"seed: expected a whole number from 0 to 2**64 - 1, got {describe(seed)}")
    return probability, int(seed)

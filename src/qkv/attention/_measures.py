"""How like two sets of vectors are, pair by pair: ``(.., N, d)`` and ``(.., M, d)`` give ``(.., N, M)``, in float64."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


def pairwise_dot(query: Floats, key: Floats) -> Floats:
    product: Floats = query @ key.swapaxes(-1, -2)
    return product


def pairwise_cosine(query: Floats, key: Floats) -> Floats:
    return pairwise_dot(_unit(query), _unit(key))


def pairwise_squared_distance(query: Floats, key: Floats) -> Floats:
    """From differences, not from |q|^2 - 2 q.k + |k|^2, which loses the digits of near pairs."""
    distance: Floats = np.zeros(
        (*np.broadcast_shapes(query.shape[:-2], key.shape[:-2]), query.shape[-2], key.shape[-2])
    )
    for axis in range(query.shape[-1]):
        distance += (query[..., :, None, axis] - key[..., None, :, axis]) ** 2
    return distance


def _unit(vectors: Floats) -> Floats:
    """Vectors of length 1; scaled by their largest number first, so that squares neither overflow nor vanish."""
    largest = np.abs(vectors).max(-1, keepdims=True, initial=0)
    with np.errstate(invalid="ignore"):  # infinity has no direction: NaN
        vectors = vectors / np.where(largest == 0, 1, largest)
    length = np.sqrt((vectors**2).sum(-1, keepdims=True))
    unit: Floats = vectors / np.where(length == 0, 1, length)
    return unit

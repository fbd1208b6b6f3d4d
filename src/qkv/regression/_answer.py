"""What keys say to queries: weighted means of their values, and how the weights lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass
class Answer:
    """One row a query; everything float64.

    Attributes:
        mean: ``(N, values)``, the weighted means.
        entropy: ``(N,)`` of the weights, in nats.
        indices: ``(N, top_k)``, the heaviest keys, -1 where there are fewer.
        weights: ``(N, top_k)``, theirs.
    """

    mean: Floats
    entropy: Floats
    indices: Ints
    weights: Floats

    @classmethod
    def empty(cls, queries: int, values: int, top_k: int) -> Answer:
        return cls(
            np.zeros((queries, values)),
            np.zeros(queries),
            np.full((queries, top_k), -1, np.int64),
            np.zeros((queries, top_k)),
        )

    def put(self, rows: Ints, other: Answer) -> None:
        """Take the answer of some rows from another."""
        self.mean[rows], self.entropy[rows] = other.mean, other.entropy
        self.indices[rows], self.weights[rows] = other.indices, other.weights

"""What keys say to queries: weighted means of their values, and how the weights lie."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..attention import Partial

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

    @classmethod
    def of(cls, partial: Partial, top_k: int = 0) -> Answer:
        entropy = np.zeros(len(partial.lse)) if partial.entropy is None else partial.entropy
        if top_k and partial.top_k is not None:
            return cls(partial.output, entropy, partial.top_k.indices, partial.top_k.weights)
        return cls(partial.output, entropy, np.zeros((len(entropy), 0), np.int64), np.zeros((len(entropy), 0)))

    @classmethod
    def joined(cls, answers: list[Answer]) -> Answer:
        """Of several runs of queries, one after another."""
        if len(answers) == 1:
            return answers[0]
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(answer, name) for answer in answers]) for name in names))

    def put(self, rows: Ints, other: Answer) -> None:
        """Take the answer of some rows from another."""
        self.mean[rows], self.entropy[rows] = other.mean, other.entropy
        self.indices[rows], self.weights[rows] = other.indices, other.weights

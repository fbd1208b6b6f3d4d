"""How large and how small the numbers may be that a model is fitted to, wherever they lie."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError
from ._answer import Floats

LARGEST = 1e140
"""Of the numbers in X and y: the squares of more cannot be added up."""
HEAVIEST = 1e50
"""Of weights, and 1 over the lightest."""


def check_range(numbers: Any, name: str) -> None:
    """Numbers whose squares can be added up."""
    largest = max(abs(float(numbers.max())), abs(float(numbers.min()))) if numbers.size else 0.0
    if largest > LARGEST:
        raise ArgumentError(f"{name}: expected numbers up to {LARGEST:g}, got {largest:g}: give it in a larger unit")


def check_weights(weight: Floats) -> None:
    positive = weight[weight > 0]
    if len(positive) and (positive.max() > HEAVIEST or positive.min() < 1 / HEAVIEST):
        raise ArgumentError(
            f"sample_weight: expected 0 or numbers from {1 / HEAVIEST:g} to {HEAVIEST:g}, got weights from "
            f"{positive.min():g} to {positive.max():g}"
        )

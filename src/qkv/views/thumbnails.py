"""Small maps of every head of a layer or a stack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .contract import StackName, Thumbnails
from .survey import Survey


def thumbnails(stack: StackName, layers: Sequence[tuple[Survey, list[int]]]) -> tuple[Thumbnails, NDArray[np.float32]]:
    """Return the small maps of ``layers``, each with its heads' positions: (layers, heads, height, width)."""
    parts = [surveyed.thumbnails[heads] for surveyed, heads in layers]
    height, width = (max(part.shape[axis] for part in parts) for axis in (1, 2))
    maps = np.zeros((len(parts), parts[0].shape[0], height, width), np.float32)
    for layer, part in zip(maps, parts, strict=True):  # layers that read different lengths leave a margin
        layer[:, : part.shape[1], : part.shape[2]] = part
    return Thumbnails(stack=stack, layers=len(parts), heads=maps.shape[1], height=height, width=width), maps

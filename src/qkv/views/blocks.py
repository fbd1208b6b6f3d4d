"""Maps of a size that fits a screen: a cell is the mean over its rows of the weight on its columns.

So a cell that covers whole rows shows 1, one token or a thousand to the cell alike: the share of attention that the
tokens behind its row spend on the tokens behind its column.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def block_size(height: int, width: int, side: int) -> int:
    """Return the tokens a cell must stand for, so that a map of height x width has at most ``side`` cells an axis."""
    return max(1, -(-max(height, width) // side))


def mean_of_blocks(sums: NDArray[Any], rows: int, block: int) -> NDArray[np.float32]:
    """Return sums of weights over blocks, ``(..., height, width)``, as means over each block's rows.

    The last block holds what is left of ``rows``.
    """
    height = sums.shape[-2]
    sizes = np.minimum(block, rows - block * np.arange(height))
    return (sums / sizes[:, None]).astype(np.float32)


def sum_blocks(weights: NDArray[Any], block: int) -> NDArray[np.float32]:
    """Return the sums of a matrix ``(rows, columns)`` over block x block cells; edge cells hold what is left."""
    rows, columns = weights.shape
    summed = np.add.reduceat(weights, np.arange(0, columns, block), axis=1) if columns else weights
    found: NDArray[np.float32] = np.add.reduceat(summed, np.arange(0, rows, block), axis=0) if rows else summed
    return found

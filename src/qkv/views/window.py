"""A rectangle of a head's map, at any zoom: exact weights, or means where a cell stands for more than one token."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qkv.errors import ArgumentError
from qkv.trace import Attention

from .block_sums import block_sums
from .blocks import block_size, mean_of_blocks
from .contract import Window

LARGEST_SIDE = 2048
"""Cells on an axis in one answer: more than a screen has, and 16 MB."""


def window(
    record: Attention, head: int, rows: tuple[int, int], columns: tuple[int, int], side: int = 512
) -> tuple[Window, NDArray[np.float32]]:
    """Return the weights of queries ``rows`` on keys ``columns``, both (start, stop), in at most side x side cells.

    A cell stands for block x block tokens and holds the mean over its rows of the weight on its columns.

    Raises:
        ArgumentError: an empty range, one beyond the text, or a side that is not between 1 and 2048.
        TraceError: the head was not captured, or the trace keeps statistics only.
    """
    _check_range("rows", rows, record.queries)
    _check_range("columns", columns, record.keys)
    if not 1 <= side <= LARGEST_SIDE:
        raise ArgumentError(f"side: expected a number of cells from 1 to {LARGEST_SIDE}, got {side}")
    height, width = rows[1] - rows[0], columns[1] - columns[0]
    block = block_size(height, width, side)
    if block == 1:
        values = record.weights(head, rows=slice(*rows), columns=slice(*columns))
    else:
        values = mean_of_blocks(block_sums(record, head, rows, columns, block), height, block)
    header = Window(
        row_start=rows[0],
        row_stop=rows[1],
        column_start=columns[0],
        column_stop=columns[1],
        block=block,
        height=values.shape[0],
        width=values.shape[1],
    )
    return header, np.ascontiguousarray(values, dtype=np.float32)


def _check_range(name: str, range_: tuple[int, int], size: int) -> None:
    start, stop = range_
    if not 0 <= start < stop <= size:
        raise ArgumentError(f"{name}: expected start < stop within 0 and {size}, got {start}:{stop}")

"""Named arrays of a record, in the dtype that they were stored in, widened when somebody reads them.

NumPy has no bfloat16. It is kept as the 16 bits that it is, and widened to float32 on reading, which is exact: so a
trace needs neither torch nor another package to be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Raw(NamedTuple):
    """An array as it is stored.

    Attributes:
        dtype: its name in safetensors: "F32", "BF16" ...
        data: the array; uint16 for BF16.
    """

    dtype: str
    data: NDArray[Any]


NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
"""What each dtype of a trace is in memory."""

_NAMES = {dtype: name for name, dtype in NUMPY_DTYPES.items() if name != "BF16"}


def raw(array: NDArray[Any]) -> Raw:
    """A NumPy array as it is stored."""
    return Raw(_NAMES[array.dtype.newbyteorder("<")], np.ascontiguousarray(array))


def widen(stored: Raw) -> NDArray[Any]:
    """The array as people read it: bfloat16 becomes float32."""
    if stored.dtype != "BF16":
        return stored.data
    bits: NDArray[np.uint32] = stored.data.astype(np.uint32) << np.uint32(16)
    return bits.view(np.float32)


class Tensors(Mapping[str, NDArray[Any]]):
    """The arrays of one record by name, in memory."""

    def __init__(self, stored: Mapping[str, Raw]) -> None:
        self._stored = stored

    def raw(self, name: str) -> Raw:
        """The array as it is stored."""
        return self._stored[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """The array's shape, without reading it."""
        shape: tuple[int, ...] = self._stored[name].data.shape
        return shape

    def select(self, name: str, positions: Sequence[int]) -> NDArray[Any]:
        """Some entries of the first axis: no more than these is widened."""
        dtype, data = self.raw(name)
        first, last = positions[0], positions[-1] + 1
        if list(positions) == list(range(first, last)):
            return widen(Raw(dtype, data[first:last]))
        return widen(Raw(dtype, data[list(positions)]))

    def __getitem__(self, name: str) -> NDArray[Any]:
        return widen(self.raw(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def __contains__(self, name: object) -> bool:
        return name in self._stored

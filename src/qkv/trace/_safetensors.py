"""One safetensors file: written by renaming, read by memory map, in NumPy alone.

The format is eight bytes with the length of a header, the header (JSON: dtype, shape and place of each array), then the
arrays. Reading it here, not through the library, keeps bfloat16 as the bits that it is and opens without torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._replacing import replacing
from ..errors import TraceError
from ._tensors import NUMPY_DTYPES, Raw, Tensors

if TYPE_CHECKING:
    from typing_extensions import Buffer

LONGEST_HEADER = 1 << 24


class Entry(NamedTuple):
    """Where an array lies in its file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class FileInfo(NamedTuple):
    """What a file has to be."""

    name: str
    size: int
    sha256: str


def write(path: Path, arrays: Mapping[str, Raw]) -> FileInfo:
    """Write arrays into a file that appears whole or not at all; returns its size and checksum."""
    header: dict[str, Any] = {}
    place = 0
    # Widest dtypes first, so that every array is aligned; the format allows no gaps.
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].data.itemsize))
    for name, (dtype, data) in arrays.items():
        header[name] = {"dtype": dtype, "shape": list(data.shape), "data_offsets": [place, place + data.nbytes]}
        place += data.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    digest = hashlib.sha256()
    size = 0
    with replacing(path) as temporary, temporary.open("wb") as file:
        for part in (len(text).to_bytes(8, "little"), text, *_bytes(arrays)):
            digest.update(part)
            size += file.write(part)
    return FileInfo(path.name, size, digest.hexdigest())


def _bytes(arrays: Mapping[str, Raw]) -> Iterator[Buffer]:
    """The arrays as they lie in the file, without a copy of those that lie so in memory."""
    for _, data in arrays.values():
        if data.size:
            yield np.ascontiguousarray(data).reshape(-1).view(np.uint8).data


class StoredTensors(Tensors):
    """The arrays of one file: its checksum is verified when one is first read, and every array is a memory map.

    A map is made for each reading and lives as long as the array: a trace of a thousand layers holds no thousand files
    open. The checksum is taken by plain reading, which keeps no page of the file in this process.
    """

    def __init__(self, folder: Path, info: FileInfo, *, trusted: bool = False) -> None:
        super().__init__({})
        self._path = folder / info.name
        self._info = info
        self.entries, self._start = _header(self._path, info.size)
        self._verified = trusted

    def raw(self, name: str) -> Raw:
        entry = self.entries[name]
        dtype = NUMPY_DTYPES[entry.dtype]
        if not self._verified:
            self._verify()
        if entry.start == entry.stop:
            return Raw(entry.dtype, np.zeros(entry.shape, dtype))
        try:
            data = np.asarray(np.memmap(self._path, dtype, "r", self._start + entry.start, entry.shape))
        except (OSError, ValueError) as error:
            raise TraceError(f"{self._path} cannot be read: {error}; restore it, or capture again") from error
        return Raw(entry.dtype, np.require(data, requirements="A"))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.entries[name].shape

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def _verify(self) -> None:
        digest = hashlib.sha256()
        try:
            with self._path.open("rb") as file:
                while part := file.read(1 << 20):
                    digest.update(part)
        except OSError as error:
            raise TraceError(f"{self._path} cannot be read: {error}; restore it, or capture again") from error
        if digest.hexdigest() != self._info.sha256:
            raise TraceError(
                f"{self._path} is not what was written: its checksum is another than trace.json says. The file was "
                "damaged or changed; restore it, or capture again"
            )
        self._verified = True


def _header(path: Path, size: int) -> tuple[dict[str, Entry], int]:
    """The entries of a file and where its arrays begin; every number in it is checked before it is used."""
    try:
        found = path.stat().st_size
        if found != size:
            raise TraceError(
                f"{path} is truncated or was changed: expected {size} bytes, got {found}; restore it, or capture again"
            )
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(LONGEST_HEADER, size - 8):
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        entries = {name: _entry(what, size - 8 - length) for name, what in header.items() if name != "__metadata__"}
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror}; restore it, or capture again") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise TraceError(f"{path} is no safetensors file: {error}; restore it, or capture again") from error
    return entries, 8 + length


def _entry(what: dict[str, Any], available: int) -> Entry:
    dtype, shape, (start, stop) = what["dtype"], tuple(what["shape"]), what["data_offsets"]
    if not isinstance(dtype, str) or dtype not in NUMPY_DTYPES:
        raise ValueError(f"dtype {dtype!r} is none that a trace holds")
    if not all(type(number) is int and number >= 0 for number in (*shape, start, stop)):
        raise ValueError(f"an array of shape {shape} at bytes {start} to {stop} is none")
    if not start <= stop <= available or stop - start != math.prod(shape) * NUMPY_DTYPES[dtype].itemsize:
        raise ValueError(f"an array of shape {shape} does not lie at bytes {start} to {stop}")
    return Entry(dtype, shape, start, stop)

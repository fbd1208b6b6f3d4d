"""What the machine is, and how fast it reads and multiplies. Never its name."""

from __future__ import annotations

import ctypes
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..attention import _native

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}
_ROUNDS = 2_000_000  # some 10 ms: nothing beside them matters


def processor() -> str:
    """The processor's model, with family and number where the model alone says little."""
    found: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    model = found.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in found:
        model += f" (family {found['cpu family']}, model {found['model']})"
    return model


def processors() -> list[int]:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def last_level_cache() -> int:
    """Bytes; 32 MiB where the machine does not say."""
    sizes = [0]
    for file in _CACHES.glob("index*/size"):
        text = file.read_text().strip()
        sizes.append(int(text[:-1]) * _UNITS[text[-1]] if text[-1] in _UNITS else int(text))
    return max(sizes) or 32 * 1024**2


class Reading:
    """The machine's read bandwidth: memory is searched for a byte that it does not hold.

    The C library's ``memchr`` does nothing but read, in the widest vectors there are, and runs outside Python's lock.
    """

    def __init__(self, threads: int) -> None:
        self.bytes = max(4 * last_level_cache(), 128 * 1024**2)
        self._buffer = ctypes.create_string_buffer(self.bytes)
        ctypes.memset(self._buffer, 1, self.bytes)
        self._find = ctypes.CDLL(None).memchr
        self._find.restype = ctypes.c_void_p
        self._find.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)

    def __call__(self) -> float:
        """Bytes a second, of one pass over the buffer."""
        share = self.bytes // self._threads
        start = ctypes.addressof(self._buffer)
        begin = time.perf_counter()
        parts = [self._pool.submit(self._find, start + share * i, 2, share) for i in range(self._threads)]
        if any(part.result() is not None for part in parts):
            raise AssertionError("memory holds what was never written")
        return share * self._threads / (time.perf_counter() - begin)


class Multiplying:
    """How fast the processor multiplies and adds: the kernel's own instruction, all operands in registers."""

    def __init__(self, threads: int, dtype: str) -> None:
        self._threads, self._dtype = threads, dtype
        self._pool = ThreadPoolExecutor(threads)

    def __call__(self) -> float:
        """Operations a second."""
        begin = time.perf_counter()
        parts = [self._pool.submit(_native.multiply_most, self._dtype, _ROUNDS) for _ in range(self._threads)]
        return sum(part.result() for part in parts) / (time.perf_counter() - begin)

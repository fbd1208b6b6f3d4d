"""Memory of freed tensors, kept for the next ones: a step on CPUs otherwise spends much of its time on fresh pages."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Have glibc hand out large blocks from its heap and keep them, where it maps and unmaps each one otherwise.

    Every step frees and takes the same hundreds of megabytes; fresh pages come zeroed, one fault for 4 KiB.

    Returns:
        Whether this C library could be told.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl, say
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 64 << 20))
    answers = [mallopt(name, value) for name, value in settings]
    return answers == [1, 1, 1]

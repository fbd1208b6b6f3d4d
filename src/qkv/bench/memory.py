"""Peak memory of one call beyond what went in and came out; ``python -m qkv.bench.memory WHO N THREADS``.

A process of its own, because a peak never falls: Linux is asked to forget it just before the call.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .cases import EVERYTHING

_HEADS, _DIM = 2, 64
WHO = ("qkv", "observe", "sdpa", "eager")


def peak(who: str, length: int, threads: int) -> float | None:
    """Bytes beyond inputs and outputs, causal, two heads of 64 numbers; None where it cannot be told."""
    command = [sys.executable, "-m", "qkv.bench.memory", who, str(length), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(threads))
    return float(done.stdout) if done.returncode == 0 else None


def _environment(threads: int) -> dict[str, str]:
    import os

    return {**os.environ, "QKV_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}


def _call(who: str, length: int) -> Callable[[], list[Any]]:
    """A call that returns its results as arrays with ``nbytes``."""
    if who in ("qkv", "observe"):
        import numpy as np

        import qkv

        generator = np.random.default_rng(0)
        query, key, value = generator.standard_normal((3, _HEADS, length, _DIM), dtype=np.float32)
        if who == "qkv":
            return lambda: [qkv.attend(query, key, value, mask=qkv.Causal())]

        def observe() -> list[Any]:
            seen = qkv.observe(query, key, value, mask=qkv.Causal(), **EVERYTHING)
            parts = [seen.output, seen.lse, seen.entropy, seen.max_score, seen.received, seen.block_map]
            return [*parts, seen.top_k.indices, seen.top_k.weights]

        return observe
    import torch

    tensors = torch.randn(3, 1, _HEADS, length, _DIM)
    if who == "sdpa":
        query, key, value = tensors
        return lambda: [torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)]

    def eager() -> list[Any]:
        query, key, value = tensors
        score = query @ key.mT / _DIM**0.5
        score.masked_fill_(torch.ones(length, length, dtype=torch.bool).triu(1), -torch.inf)
        return [torch.softmax(score, -1) @ value]

    return eager


def _status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {name} in /proc/self/status")


def main() -> None:
    who, length = sys.argv[1], int(sys.argv[2])
    # The short call first starts threads and loads code, which are no work space of the long one.
    _call(who, 256)()
    call = _call(who, length)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    results = call()
    print(_status("VmHWM") - before - sum(result.nbytes for result in results))


if __name__ == "__main__":
    main()

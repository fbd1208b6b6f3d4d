"""`qkv.attend` and `qkv.observe` beside PyTorch's fused attention, in one run.

    .venv/bin/python benchmarks/attend.py --threads 1 2          # a minute or two; --quick for a few seconds

Both compute the same problem in turn, several times; what is reported is the fastest of each and the median of the
ratios of neighbouring runs, which a busy machine disturbs least. Arrays are made before the clock starts, and each
timed run follows an untimed one of the same library, because threads of the other spin on for milliseconds. Results are
asserted equal: each must lie as near to float64 as PyTorch's own does. Rows that PyTorch has no fused counterpart for
(statistics) are compared with its plain attention, which computes none of them.

The table is Markdown, ready for a document. Two threads mean something only where the other core is idle.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import qkv
from qkv.attention._backends import _native

sdpa = torch.nn.functional.scaled_dot_product_attention


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    dim: int
    queries: int
    keys: int
    dtype: str = "float32"
    batch: int = 1
    heads: int = 8
    key_heads: int = 8
    mask: str = "full"
    observed: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        shape = f"{self.dtype} D{self.dim} N{self.queries}"
        shape += f" M{self.keys}" if self.keys != self.queries else ""
        shape += f" B{self.batch}" if self.batch > 1 else ""
        shape += f" H{self.heads}" + (f"/{self.key_heads}" if self.key_heads != self.heads else "")
        return f"{shape} {self.mask}" + (f", {' '.join(self.observed)}" if self.observed else "")

    @property
    def operations(self) -> float:
        """Multiplications and additions of the two products; half of them under a causal mask."""
        all_pairs = 4.0 * self.batch * self.heads * self.queries * self.keys * self.dim
        return all_pairs / 2 if self.mask == "causal" else all_pairs


def cases(quick: bool) -> Iterator[Case]:
    for dim in (64, 128):
        for length in (1024,) if quick else (1024, 4096):
            for mask in ("full", "causal"):
                yield Case(dim, length, length, mask=mask)
    for dtype in ("bfloat16", "float16", "float64"):
        yield Case(64, 1024, 1024, dtype, mask="causal")
    yield Case(64, 128, 128, batch=16)
    yield Case(64, 2048, 2048, mask="window")
    yield Case(128, 1, 8192, heads=32, key_heads=8)
    for observed in ({"entropy": True}, {"top_k": 8}, {"received": True}, {"block_map": 64}):
        yield Case(64, 2048, 2048, observed=observed)


def measure(case: Case, repeats: int) -> tuple[float, float, float]:
    """Seconds of ours, seconds of PyTorch's, median ratio."""
    generator = torch.Generator().manual_seed(0)

    def random(heads: int, length: int) -> torch.Tensor:
        return torch.randn(case.batch, heads, length, case.dim, generator=generator).to(getattr(torch, case.dtype))

    query = random(case.heads, case.queries)
    key, value = (random(case.key_heads, case.keys) for _ in range(2))
    grouped = case.heads != case.key_heads
    mask = {"full": None, "causal": qkv.Causal(), "window": qkv.Window(255, 0)}[case.mask]
    allowed = None
    if case.mask == "window":
        row, column = torch.arange(case.queries)[:, None], torch.arange(case.keys)
        allowed = (column <= row) & (column >= row - 255)

    def ours() -> torch.Tensor:
        if case.observed:
            return qkv.observe(query, key, value, mask=mask, **case.observed).output
        return qkv.attend(query, key, value, mask=mask)

    def theirs(*arrays: torch.Tensor) -> torch.Tensor:
        return sdpa(*(arrays or (query, key, value)), allowed, is_causal=case.mask == "causal", enable_gqa=grouped)

    check(ours(), theirs(), theirs(query.double(), key.double(), value.double()), case)
    pairs = [(timed(ours), timed(theirs)) for _ in range(repeats)]
    return min(a for a, _ in pairs), min(b for _, b in pairs), statistics.median(b / a for a, b in pairs)


def check(found: torch.Tensor, other: torch.Tensor, exact: torch.Tensor, case: Case) -> None:
    """Fails where our error against float64 exceeds PyTorch's by more than a rounding."""
    size = exact.norm()
    error, bar = ((array.double() - exact).norm() / size for array in (found, other))
    slack = 1e-7 if case.dtype != "float64" else 1e-14
    assert error <= 1.1 * bar + slack, f"{case.name}: error {error:.2e}, PyTorch's {bar:.2e}"


def timed(work: Callable[[], object]) -> float:
    """Seconds of the second of two calls: during the first, the other library's threads stop spinning and sleep."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def processor() -> str:
    """The model of the processor; never the machine's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="numbers of threads, for both")
    parser.add_argument("--repeats", type=int, default=9, help="interleaved runs of each row")
    parser.add_argument("--quick", action="store_true", help="leave out the rows that take seconds")
    chosen = parser.parse_args()
    print(f"{processor()}, {_native.isa()}, qkv {qkv.__version__}, PyTorch {torch.__version__}\n")
    print("| case | threads | qkv | | PyTorch | ratio |\n|---|--:|--:|--:|--:|--:|")
    for threads in chosen.threads:
        os.environ["QKV_THREADS"] = str(threads)
        torch.set_num_threads(threads)
        for case in cases(chosen.quick):
            ours, theirs, ratio = measure(case, chosen.repeats)
            rate = f"{case.operations / ours / 1e9:.0f} GF" if case.mask != "window" else ""
            row = (case.name, threads, f"{ours * 1e3:.2f} ms", rate, f"{theirs * 1e3:.2f} ms", f"{ratio:.2f}")
            print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    main()

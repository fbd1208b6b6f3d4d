"""The compiled backward pass beside that of PyTorch's fused attention and of plain operations, in one run.

    OMP_NUM_THREADS=1 QKV_THREADS=1 .venv/bin/python benchmarks/gradients.py    # --quick for a few seconds

Both libraries compute the gradients of query, key and value from the same arrays in turn; the fastest run of each
counts. Results are asserted to agree as far as rounding lets them. Ours is called below the public functions, as
torch's automatic differentiation calls it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from qkv.attention._backends import Gradients, Outputs
from qkv.attention._backends import _native as native
from qkv.attention._backends._native_gradients import backward
from qkv.attention._plan import DType, Plan

AGREE = {"float32": 1e-5, "bfloat16": 2e-2}
LONG = [(1, 2, 4096, dim, causal) for dim in (64, 128) for causal in (False, True)]
SENTENCES = [(64, 4, length, 64, False) for length in (20, 32)]


def bare(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    tensor = tensor.detach()
    return np.asarray((tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy())


def timed(*steps: Callable[[], object]) -> list[float]:
    """Seconds of each step, in order."""
    marks = [time.perf_counter()]
    for step in steps:
        step()
        marks.append(time.perf_counter())
    return [after - before for before, after in pairwise(marks)]


def row(batch: int, heads: int, length: int, dim: int, causal: bool, dtype: DType, repeats: int) -> str:
    kind = getattr(torch, dtype)
    leaves = [torch.randn(batch, heads, length, dim).to(kind).requires_grad_() for _ in range(3)]
    given = torch.randn(batch, heads, length, dim).to(kind)
    query, key, value, grad = map(bare, (*leaves, given))
    stop = (np.arange(length) + 1 if causal else np.full(length, length)).astype(np.int32)[None]
    plan = Plan(np.zeros_like(stop), stop, scale=dim**-0.5)
    output, lse = np.empty_like(query), np.empty((batch, heads, length), np.float32)
    found = Gradients(np.empty_like(query), np.empty_like(key), np.empty_like(value))
    results: dict[str, Any] = {}

    def ours_forward() -> None:
        native.attend(query, key, value, plan, Outputs(output, lse), dtype=dtype)

    def ours_backward() -> None:
        backward(query, key, value, output, lse, grad, None, plan, found, dtype=dtype)

    def fused() -> None:
        results["fused"] = torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=causal)

    def plain() -> None:
        scores = leaves[0] @ leaves[1].transpose(-1, -2) * dim**-0.5
        if causal:
            scores = scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -torch.inf)
        results["plain"] = torch.softmax(scores, -1) @ leaves[2]

    def differentiated(name: str) -> Callable[[], None]:
        def run() -> None:
            results["gradients"] = torch.autograd.grad(results[name], leaves, given)

        return run

    times: dict[str, list[list[float]]] = {"ours": [], "fused": [], "plain": []}
    for _ in range(repeats + 1):
        times["ours"].append(timed(ours_forward, ours_backward))
        if length <= 256:
            times["plain"].append(timed(plain, differentiated("plain")))
        times["fused"].append(timed(fused, differentiated("fused")))
    for ours, theirs in zip((found.query, found.key, found.value), results["gradients"], strict=True):
        mine = torch.from_numpy(ours.view(np.int16)).view(kind) if dtype == "bfloat16" else torch.from_numpy(ours)
        apart = (mine.float() - theirs.float()).norm() / theirs.float().norm()
        assert apart < AGREE[dtype], f"gradients differ from PyTorch's by {apart:.1e}"

    best = {name: [min(step) * 1e3 for step in zip(*runs[1:], strict=True)] for name, runs in times.items() if runs}
    forward, back = best["ours"]
    whole = min(sum(best[name]) for name in ("fused", "plain") if name in best)
    case = f"{dtype}, B={batch} H={heads} N={length} D={dim}, {'causal' if causal else 'full'}"
    return (
        f"| {case} | {back:.2f} | {best['fused'][1]:.2f} | {best['fused'][1] / back:.2f} "
        f"| {forward + back:.2f} | {whole:.2f} | {whole / (forward + back):.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the sentences alone")
    quick = parser.parse_args().quick
    torch.set_num_threads(native.threads())
    print("| case | backward, ms | PyTorch's | ratio | forward + backward, ms | the better of PyTorch's | ratio |")
    print("|---|---|---|---|---|---|---|")
    dtypes: tuple[DType, ...] = ("float32", "bfloat16")
    for dtype in dtypes:
        for shape in SENTENCES if quick else LONG + SENTENCES:
            print(row(*shape, dtype, 3 if shape[2] > 256 else 30), flush=True)


if __name__ == "__main__":
    main()

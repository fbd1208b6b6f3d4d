"""A real model on our attention and on PyTorch's: reading a text, writing after it, and what capturing it costs.

    python benchmarks/huggingface.py [--lengths 2000 4000] [--dtype float32] [--threads 2]

SmolLM2-135M reads random tokens. Every figure is the best of a few runs that alternate between the implementations;
logits are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

WRITTEN = 16
"""Tokens that are written after the text, one by one."""


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[2000, 4000])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--capture", action="store_true", help="time capturing as well")
    chosen = parser.parse_args()
    os.environ["QKV_THREADS"] = str(chosen.threads)

    import torch

    import qkv
    from qkv import pretrained

    torch.set_num_threads(chosen.threads)
    qkv.register()
    model: Any = pretrained.load("smollm2").model.to(getattr(torch, chosen.dtype))
    body = model.base_model
    print(f"| SmolLM2-135M, {chosen.dtype}, {chosen.threads} thread(s) | sdpa | qkv | ratio |\n|---|--:|--:|--:|")

    def show(what: str, times: dict[str, list[float]], count: int) -> None:
        plain, ours = min(times["sdpa"]), min(times["qkv"])
        print(
            f"| {what} | {count / plain:.1f} tokens/s | {count / ours:.1f} tokens/s | {plain / ours:.2f} |", flush=True
        )

    with torch.inference_mode():
        for length in chosen.lengths:
            ids = torch.randint(5, 40_000, (1, length), generator=torch.Generator().manual_seed(0))
            reading: dict[str, list[float]] = {"sdpa": [], "qkv": []}
            writing: dict[str, list[float]] = {"sdpa": [], "qkv": []}
            last: dict[str, Any] = {}

            def write(cache: Any, token: Any) -> None:
                for _ in range(WRITTEN):
                    body(input_ids=token, past_key_values=cache)

            for _ in range(chosen.runs):
                for name in reading:
                    model.set_attn_implementation(name)
                    start = time.perf_counter()
                    found = body(input_ids=ids, use_cache=True)
                    reading[name].append(time.perf_counter() - start)
                    last[name] = found.last_hidden_state[:, -1].float()
                    cache, token = found.past_key_values, ids[:, -1:]
                    body(input_ids=token, past_key_values=cache)
                    writing[name].append(seconds(lambda c=cache, t=token: write(c, t)))
            apart = (last["qkv"] - last["sdpa"]).norm() / last["sdpa"].norm()
            assert apart < (1e-4 if chosen.dtype == "float32" else 5e-2), apart
            show(f"reading {length} tokens", reading, length)
            show(f"writing after {length}", writing, WRITTEN)
            if chosen.capture:
                capture(model, body, ids, chosen.runs)


def capture(model: Any, body: Any, ids: Any, runs: int) -> None:
    """What looking costs a model that runs on our attention."""
    import qkv

    model.set_attn_implementation("qkv")

    def captured(**options: Any) -> None:
        with qkv.capture(model, **options):
            body(input_ids=ids, use_cache=False)

    ways: dict[str, Callable[[], Any]] = {
        "qkv alone": lambda: body(input_ids=ids, use_cache=False),
        "captured": captured,
        'captured, keep="statistics"': lambda: captured(keep="statistics"),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, work in ways.items():
            times[name].append(seconds(work))
    alone = min(times["qkv alone"])
    for name, taken in times.items():
        print(f"| {ids.shape[1]} tokens, {name} | | {min(taken):.2f} s | {min(taken) / alone:.2f} |")


if __name__ == "__main__":
    main()

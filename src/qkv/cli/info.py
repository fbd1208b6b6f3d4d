"""``qkv info``: what runs here, and with ``--explain`` which path a call takes."""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
from importlib import metadata
from typing import Annotated, TypedDict

import typer
from rich.padding import Padding
from rich.table import Table

from ..errors import ArgumentError
from ._app import app
from ._explain import explain_call
from ._terminal import console, palette

_PACKAGES = ("numpy", "torch", "transformers", "tokenizers", "safetensors", "ml_dtypes")

_PATHS = (
    ("NumPy arrays, CPU tensors", "The compiled kernel. It reads them where they lie and never holds an N x M array."),
    ("float32", "Computed in float32; output and statistics are float32."),
    ("float16, bfloat16", "Read block by block into float32, computed there, rounded once at the end."),
    ("bfloat16, avx512_bf16", "Multiplied as it is, by pairs, into float32 sums; softmax and statistics in float32."),
    ("float64", "Computed in float64 throughout."),
    ("masks, biases", "Keys that no query of a block may see are skipped; the rest is masked within the block."),
    ("statistics", "In the same pass. received and block_map keep one tile's weights, which is O(M) memory a thread."),
    ("no keys, no queries", "The NumPy backend: there is nothing to compute."),
    ("qkv.steps", "The NumPy reference, in float64: it makes every N x M array, to be looked at."),
    ("qkv.weights", "NumPy, over the window of rows and columns that was asked for."),
    (
        "tensors that require grad",
        "The same forward pass; gradients recompute weights from the logsumexp, second ones by chunks in torch.",
    ),
    ("CUDA tensors", "PyTorch's exact fused attention; masks and biases beyond it, and statistics, by rows of scores."),
)


class Facts(TypedDict):
    """What ``qkv info --json`` prints."""

    version: str
    python: str
    platform: str
    isa: str
    isas: list[str]
    threads: int
    compiler: str
    packages: dict[str, str | None]
    cache: str


def facts() -> Facts:
    """What runs here; nothing heavy is imported to find out.

    Raises:
        KernelError: where `QKV_ISA` or `QKV_THREADS` ask for what this machine has not.
    """
    import qkv
    from qkv.attention._backends import _native
    from qkv.pretrained import cache_folder

    return {
        "version": qkv.__version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        "isa": _native.isa(),
        "isas": _native.isas(),
        "threads": _native.threads(),
        "compiler": _native.compiler(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "cache": str(cache_folder()),
    }


def _version(name: str) -> str | None:
    """Of an installed package; None where it cannot be imported."""
    if importlib.util.find_spec(name) is None:
        return None
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@app.command()
def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say which path a call takes, and why.")] = False,
    call: Annotated[
        list[str] | None,
        typer.Argument(
            help="With --explain, a call of your own: heads=32 key_heads=8 queries=1 keys=8192 mask=causal ..."
        ),
    ] = None,
) -> None:
    """Show what runs here: version, instruction set, threads, libraries, cache.

    QKV_ISA (baseline, avx2, avx512, avx512_bf16) and QKV_THREADS choose another instruction set or number of threads;
    QKV_LOG=1 prints the path of every call that a program makes. Words that describe a call: batch, heads, key_heads,
    queries, keys, head_dim, value_dim (numbers), dtype, mask (none, causal, array), window, bias (none, alibi, array),
    softcap, statistics (entropy, max_score, top_k, received, block_map, distance, with commas).
    """
    if call and not explain:
        raise ArgumentError(f"info: expected no words without --explain, got {' '.join(call)!r}")
    taken = explain_call(call) if call else None
    found = facts()
    if as_json:
        answer: dict[str, object] = {**found, "paths": dict(_PATHS)} if explain else {**found}
        if taken:
            answer["call"] = taken
        typer.echo(json.dumps(answer, indent=2))
        return
    others = [name for name in found["isas"] if name != found["isa"]]
    rows = [
        ("qkv", found["version"]),
        ("python", f"{found['python']}, {found['platform']}"),
        ("instruction set", found["isa"] + (f" (also here: {', '.join(others)})" if others else "")),
        ("threads", str(found["threads"])),
        ("compiled by", found["compiler"]),
        *((name, version or "not installed") for name, version in found["packages"].items()),
        ("cache", found["cache"]),
    ]
    terminal = console()
    if taken:
        terminal.print(_table(list(taken.items())))
        return
    terminal.print(_table(rows))
    if explain:
        terminal.print("\nWhich path a call of attend or observe takes:\n")
        terminal.print(Padding(_table(_PATHS), (0, 0, 0, 2)))


def _table(rows: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> Table:
    table = Table.grid(padding=(0, 3))
    table.add_column(style=palette().quiet)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table

"""``qkv bench``: our speed and memory beside other libraries', measured here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ArgumentError
from ._app import app
from ._terminal import console


@app.command()
def bench(
    rows: Annotated[
        str, typer.Option(metavar="PATTERN", help="Only rows whose name contains this; * and ? work.")
    ] = "",
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="Number of threads; may be given twice. Else one, and all.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Short problems only, in less than a minute.")] = False,
    names: Annotated[bool, typer.Option("--list", help="Print the rows' names and measure nothing.")] = False,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Renew benchmarks.md and its figures in this folder of documents."),
    ] = None,
) -> None:
    """Measure attention beside PyTorch, and JAX, ONNX Runtime and FlexAttention where they are installed."""
    from qkv.bench.cases import choose
    from qkv.bench.runner import Options, run
    from qkv.bench.table import check_document, fact_line, heading, line, write_document

    terminal = console()
    if names:
        for case in choose(rows, quick=quick):
            terminal.print(case.id, soft_wrap=True)
        return
    if write is not None:
        if rows or quick:
            raise ArgumentError("--write renews a whole table: leave out --rows and --quick")
        check_document(write)
    source = write.resolve().parent if write else Path.cwd()
    options = Options(rows=rows, threads=tuple(threads or ()), quick=quick, source=source)
    terminal.print(heading(), soft_wrap=True)
    results, facts = run(options, told=lambda result: terminal.print(line(result), soft_wrap=True))
    for fact in facts:
        terminal.print(fact_line(fact), soft_wrap=True)
    if write is not None:
        write_document(write, results, facts)
        terminal.print(f"written: {write / 'benchmarks.md'}", soft_wrap=True)

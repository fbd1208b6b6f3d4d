"""``qkv capture``: what a model's attention does on a text, kept on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ArgumentError
from ._app import app
from ._input import open_input, trace_folder
from ._terminal import console, counted


@app.command()
def capture(
    source: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="A text, a file, or - for standard input; two texts for pairs."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="NAME.qkv", help="The trace to write.")],
    model: Annotated[str, typer.Option(help="Name, folder or hub name.")] = "minilm",
    target: Annotated[str | None, typer.Option(help="What an encoder-decoder is to write.")] = None,
    generate: Annotated[int, typer.Option(min=0, metavar="N", help="Let a decoder write N tokens more.")] = 0,
    layer: Annotated[list[int] | None, typer.Option(min=0, help="Keep only this layer; may be repeated.")] = None,
    head: Annotated[list[int] | None, typer.Option(min=0, help="Keep only this head; may be repeated.")] = None,
    as_text: Annotated[bool, typer.Option("--text", help="Take INPUT as a text, whatever it looks like.")] = False,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code the model brings.")] = False,
) -> None:
    """Keep a model's attention on a text as a trace; `qkv look NAME.qkv` opens it without the model."""
    if len(source) == 1 and not as_text and trace_folder(source[0]):
        raise ArgumentError(f"{source[0]} is a trace already; capture takes a text (--text takes it as one)")
    if out.suffix != ".qkv":
        out = out.with_name(out.name + ".qkv")
    trace = open_input(
        source,
        as_text=as_text,
        model=model,
        target=target,
        generate=generate,
        trust_remote_code=trust_remote_code,
        to=out,
        layers=layer,
        heads=head,
    ).trace
    size = sum(file.stat().st_size for file in out.iterdir() if file.is_file())
    tokens = " and ".join(counted(len(side), "token") for side in trace.sequences[0].sides.values())
    layers = counted(len(trace.attentions), "layer")
    console().print(f"{out} holds {tokens}, {layers}: {size / 1e6:,.1f} MB", soft_wrap=True)

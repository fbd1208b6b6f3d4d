"""``qkv look``: attention on a text, in the terminal and on a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from .._replacing import check_place
from ._app import app
from ._input import open_input
from ._terminal import console, palette


@app.command()
def look(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="A text, a file, - for standard input, or a trace; two texts where a model takes pairs.",
        ),
    ],
    model: Annotated[str | None, typer.Option(help="Name, folder or hub name; minilm where none is given.")] = None,
    target: Annotated[str | None, typer.Option(help="What an encoder-decoder is to write.")] = None,
    generate: Annotated[int, typer.Option(min=0, metavar="N", help="Let a decoder write N tokens more.")] = 0,
    layer: Annotated[int | None, typer.Option(min=0, help="Open on this layer.")] = None,
    head: Annotated[int | None, typer.Option(min=0, help="Open on this head.")] = None,
    top: Annotated[int, typer.Option(min=0, help="Print so many links of the head.")] = 10,
    probe: Annotated[bool, typer.Option("--probe", help="Measure induction on repeated random tokens.")] = False,
    as_text: Annotated[bool, typer.Option("--text", help="Take INPUT as a text, whatever it looks like.")] = False,
    sequence: Annotated[int, typer.Option(min=0, help="Which text of a trace that holds several.")] = 0,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the page into one file, with --layer and --head only these."),
    ] = None,
    summary: Annotated[bool, typer.Option("--summary", help="Print, and open no page.")] = False,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The page's port; 0 takes a free one.")] = 0,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code the model brings.")] = False,
) -> None:
    """Look into a model's attention on a text: a summary here, then the page, until Ctrl-C."""
    # What would stop us in the end is told before a long text is read.
    if html is not None or not summary:
        from qkv.explorer import check_port, page_files

        page_files()
        if html is not None:
            check_place(html)
        else:
            check_port(port)
    opened = open_input(
        source,
        as_text=as_text,
        model=model,
        target=target,
        generate=generate,
        probe=probe,
        trust_remote_code=trust_remote_code,
    )
    from qkv.views.answers import Answers

    from ._progress import prepare
    from ._summary import print_summary

    answers = Answers(opened.trace, sequence=sequence, layer=layer, head=head, induction=opened.induction)
    prepare(answers)
    screen = console()
    print_summary(screen, answers, top)
    if html is not None:
        from qkv.explorer import save_html

        chosen = answers.only(None if layer is None else [layer], None if head is None else [head])
        save_html(chosen, html)
        screen.print()
        screen.print(f"{html} holds the page: {html.stat().st_size / 1e6:.1f} MB", soft_wrap=True)
    elif not summary:
        from qkv.explorer import open_page

        def opened_at(url: str) -> None:
            # On a line of its own and flushed: scripts read it, terminals make it a link.
            screen.print()
            screen.print(url, soft_wrap=True)
            screen.print(Text("Ctrl-C ends it.", style=palette().quiet))
            screen.file.flush()

        open_page(answers, port=port, browser=browser, opened=opened_at)

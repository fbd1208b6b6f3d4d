"""The typer application that every command registers with."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="qkv",
    help="Attention you can look into.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root() -> None:
    """Attention you can look into."""


# Each command registers itself; heavy modules wait inside the functions, so that --help is quick.
from . import (  # noqa: E402, F401
    bench,
    capture,
    data,
    evaluate,
    info,
    look,
    models,
    predict,
    regress,
    search,
    similar,
    stats,
    train,
    translate,
)

"""``qkv stats``: what every head does, or its strongest links, as a table for other tools."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from .._optional import imports_for
from ..errors import ArgumentError
from ._app import app
from ._input import open_input

if TYPE_CHECKING:
    from qkv.trace import Trace

Row = dict[str, Any]


@app.command()
def stats(
    source: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="A text, a file, - for standard input, or a trace.")
    ],
    csv_file: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write CSV.")] = None,
    parquet_file: Annotated[Path | None, typer.Option("--parquet", metavar="FILE", help="Write Parquet.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write a JSON array.")] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="A row for each link instead of one for each head.")] = False,
    top: Annotated[int, typer.Option(min=1, help="With --pairs: the strongest links of each head.")] = 10,
    model: Annotated[str | None, typer.Option(help="Name, folder or hub name; minilm where none is given.")] = None,
    target: Annotated[str | None, typer.Option(help="What an encoder-decoder is to write.")] = None,
    generate: Annotated[int, typer.Option(min=0, metavar="N", help="Let a decoder write N tokens more.")] = 0,
    layer: Annotated[int | None, typer.Option(min=0, help="Only this layer.")] = None,
    head: Annotated[int | None, typer.Option(min=0, help="Only this head of each layer.")] = None,
    as_text: Annotated[bool, typer.Option("--text", help="Take INPUT as a text, whatever it looks like.")] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Add the induction score, from repeated random tokens.")
    ] = False,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code the model brings.")] = False,
) -> None:
    """What every head does, as a table: entropy, what it rests on, how far it looks; CSV where no file is named."""
    opened = open_input(
        source,
        as_text=as_text,
        model=model,
        target=target,
        generate=generate,
        probe=probe,
        trust_remote_code=trust_remote_code,
    )
    only = {"only_layers": None if layer is None else [layer], "only_heads": None if head is None else [head]}
    rows = _rows(opened.trace, top if pairs else None, {**only, "induction": opened.induction})
    if csv_file is None and parquet_file is None and json_file is None:
        _write_csv(rows, sys.stdout)
    for path, write in ((csv_file, _save_csv), (parquet_file, _save_parquet), (json_file, _save_json)):
        if path is not None:
            write(rows, path)


def _rows(trace: Trace, top: int | None, options: Row) -> list[Row]:
    """The rows of every text of the trace: of heads, or of each head's ``top`` links."""
    from qkv.views.answers import Answers
    from qkv.views.tables import head_rows, link_rows

    from ._progress import prepare

    rows: list[Row] = []
    for sequence in range(len(trace.sequences)):
        answers = Answers(trace, sequence=sequence, **options)
        if top is None:
            prepare(answers)
            rows += map(dict, head_rows(answers))
        else:
            rows += map(dict, link_rows(answers, top))
    if not rows:
        raise ArgumentError("there is nothing to tabulate: the trace holds no text")
    return rows


def _write_csv(rows: Sequence[Row], file: TextIO) -> None:
    writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _save_csv(rows: Sequence[Row], path: Path) -> None:
    from qkv._replacing import replacing

    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        _write_csv(rows, file)


def _save_json(rows: Sequence[Row], path: Path) -> None:
    from qkv._replacing import replacing

    with replacing(path) as temporary:
        temporary.write_text(json.dumps(rows, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _save_parquet(rows: Sequence[Row], path: Path) -> None:
    from qkv._replacing import replacing

    with imports_for("--parquet", extra="look"):
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet
    # A column that no row fills still has its type: the induction score of a text that was not probed.
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    types = {"induction": pyarrow.float64()}
    table = pyarrow.table({name: pyarrow.array(values, types.get(name)) for name, values in columns.items()})
    with replacing(path) as temporary:
        parquet.write_table(table, temporary)

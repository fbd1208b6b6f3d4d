"""The user's own parallel text: two columns of a .tsv, .jsonl or .parquet file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ....errors import ArgumentError
from ..._needs import needs
from .._pair import Pair

FORMATS = (".tsv", ".jsonl", ".parquet")


def read_table(files: Sequence[Path], language: str, options: Mapping[str, Any]) -> Iterator[Pair]:
    """The first two columns of each file (of JSON lines: the first two strings of each object), row by row.

    Raises:
        ArgumentError: for a row without two texts, with the number of its line.
    """
    for file in files:
        rows = {".tsv": _tsv, ".jsonl": _jsonl, ".parquet": _parquet}[file.suffix](file)
        for number, row in enumerate(rows, 1):
            if len(row) < 2:
                raise ArgumentError(
                    f"{file.name}, line {number}: expected a text and its translation, got {len(row)} columns; "
                    f"a .tsv has a tab between them, a .jsonl object two strings, a .parquet file two text columns"
                )
            yield Pair(row[0], row[1], file.stem)


def _tsv(file: Path) -> Iterator[list[str]]:
    with file.open(encoding="utf-8-sig") as lines:
        for line in lines:
            if line.strip():
                yield line.rstrip("\r\n").split("\t")


def _jsonl(file: Path) -> Iterator[list[str]]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise ArgumentError(f"{file.name}, line {number}: expected a JSON object, got {line[:40]!r}") from error
            values = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ()
            yield [value for value in values if isinstance(value, str)]


def _parquet(file: Path) -> Iterator[list[str]]:
    table = needs("pyarrow.parquet").ParquetFile(file)
    types = needs("pyarrow").types
    names = [
        field.name for field in table.schema_arrow if types.is_string(field.type) or types.is_large_string(field.type)
    ]
    for batch in table.iter_batches(columns=names[:2]):
        yield from (list(row.values()) for row in batch.to_pylist())

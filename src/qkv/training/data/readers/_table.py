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

    A row of a .parquet file that lacks one of its two texts (null) is passed over.

    Raises:
        ArgumentError: for a row without two texts, with the number of its line; for a file that is not UTF-8, or no
            Parquet.
    """
    for file in files:
        for number, row in enumerate(_rows(file), 1):
            if len(row) < 2:
                raise ArgumentError(
                    f"{file.name}, line {number}: expected a text and its translation, got {len(row)} columns; "
                    f"a .tsv has a tab between them, a .jsonl object two strings, a .parquet file two text columns"
                )
            yield Pair(row[0], row[1], file.stem)


def _rows(file: Path) -> Iterator[list[str]]:
    try:
        yield from {".tsv": _tsv, ".jsonl": _jsonl, ".parquet": _parquet}[file.suffix](file)
    except UnicodeDecodeError as error:
        raise ArgumentError(
            f"{file.name}: expected UTF-8, got the byte 0x{error.object[error.start]:02x} ({error.reason}): "
            f"save it as UTF-8"
        ) from error


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
    arrow, parquet = needs("pyarrow"), needs("pyarrow.parquet")
    try:
        with parquet.ParquetFile(file) as table:
            texts = [field.name for field in table.schema_arrow if _is_text(field.type, arrow.types)]
            for batch in table.iter_batches(columns=texts[:2]):
                yield from (row for row in map(list, map(dict.values, batch.to_pylist())) if None not in row)
    except (arrow.ArrowException, OSError) as error:
        raise ArgumentError(
            f"{file.name}: expected a Parquet file, got one that cannot be read ({error}): write it again, "
            f"or save it as .tsv or .jsonl"
        ) from error


def _is_text(kind: Any, types: Any) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind))

"""Parquet files as pieces: runs of row groups, read one after another, of which one is held at a time."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ._pieces import Pieces, Rows, T, checked, needs

PIECE = 250_000
"""Rows of a piece: row groups of a file are read together until there are so many."""


class ParquetPieces(Pieces):
    """A file, a folder (with partitions in the names of its folders, as Hive makes them), or what a pattern finds."""

    def __init__(self, data: Any, names: list[str], targets: list[str], weight: str | None, flat: bool) -> None:
        self.groups, self.schema = _groups(data), data.schema
        self.names: list[str] | None = names
        self.targets, self.weight = targets, weight
        self.features, self.flat = len(names), flat

    @classmethod
    def of(cls, path: str | os.PathLike[str], y: Any, weight: Any) -> ParquetPieces:
        data = _opened(path)
        columns = _columns(data.schema)
        targets = [y] if isinstance(y, str) else list(y) if isinstance(y, list | tuple) else []
        if not targets or not all(isinstance(name, str) for name in targets):
            raise ArgumentError(f"y: expected the name of a column of {str(path)!r}, or several, got {y!r}")
        if weight is not None and not isinstance(weight, str):
            raise ArgumentError(
                f"sample_weight: expected the name of a column of {str(path)!r}, got {type(weight).__name__}"
            )
        for name, role in [*((name, "y") for name in targets), *([(weight, "sample_weight")] if weight else [])]:
            if name not in columns:
                raise ArgumentError(f"{role}: expected one of the columns {', '.join(columns)}, got {name!r}")
        names = [name for name in columns if name not in (*targets, weight)]
        if not names:
            raise ArgumentError(
                f"X: expected features beside {', '.join(targets)} in {str(path)!r}, got no other column"
            )
        return cls(data, names, targets, weight, isinstance(y, str))

    def reduce(self, ask: Callable[[Rows, int], T], join: Callable[..., T]) -> T:
        found = ask(self._rows(0), 0)
        for number in range(1, len(self.groups)):
            found = join(found, ask(self._rows(number), number))
        return found

    def _rows(self, number: int) -> Rows:
        assert self.names is not None
        wanted = [*self.names, *self.targets, *([self.weight] if self.weight else [])]
        table = _read(self.groups[number], wanted, self.schema)
        targets = [table[name].to_numpy() for name in self.targets]
        weight = None if self.weight is None else table[self.weight].to_numpy()
        return checked(
            _matrix(table, self.names), targets[0] if self.flat else np.stack(targets, axis=1), weight, number
        )


def blocks(path: str | os.PathLike[str], names: Sequence[str]) -> Iterator[Any]:
    """Queries, piece by piece: a frame where the model knows names, else an array."""
    data = _opened(path)
    columns = _columns(data.schema)
    missing = [name for name in names if name not in columns]
    if missing:
        raise ArgumentError(f"X: expected the columns {', '.join(names)} in {str(path)!r}, got none named {missing}")
    wanted = list(names) or columns
    for group in _groups(data):
        table = _read(group, wanted, data.schema)
        yield table.to_pandas() if names else _matrix(table, wanted)


def _opened(path: str | os.PathLike[str]) -> Any:
    dataset = needs("pyarrow.dataset")
    text = os.fspath(path)
    if Path(text).exists():
        files: str | list[str] = text
    else:
        files = sorted(glob.glob(text, recursive=True))
        if not files:
            raise ArgumentError(
                f"X: expected a Parquet file, a folder of them or a pattern, got {text!r}, where nothing is"
            )
    try:
        data = dataset.dataset(files, format="parquet", partitioning="hive")
    except (ValueError, OSError) as error:
        raise ArgumentError(f"X: expected Parquet files at {text!r}: {error}") from error
    if not data.files:
        raise ArgumentError(f"X: expected Parquet files at {text!r}, found none")
    return data


def _columns(schema: Any) -> list[str]:
    """All columns but the index that a frame was written with."""
    about = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    index = {name for name in about.get("index_columns", ()) if isinstance(name, str)}
    return [name for name in schema.names if name not in index]


def _groups(data: Any) -> list[list[Any]]:
    """Row groups by piece; files in order of their names."""
    pieces: list[list[Any]] = []
    for fragment in sorted(data.get_fragments(), key=lambda fragment: fragment.path):
        rows = PIECE
        for group in fragment.split_by_row_group():
            if rows >= PIECE:
                pieces.append([])
                rows = 0
            pieces[-1].append(group)
            rows += group.row_groups[0].num_rows
    return pieces


def _read(groups: list[Any], columns: list[str], schema: Any) -> Any:
    return needs("pyarrow").concat_tables([group.to_table(schema=schema, columns=columns) for group in groups])


def _matrix(table: Any, names: list[str]) -> Any:
    """Columns side by side: float32 where all are, else float64."""
    types = {str(table[name].type) for name in names}
    found = np.empty((len(table), len(names)), np.float32 if types == {"float"} else np.float64)
    for place, name in enumerate(names):
        column = table[name].to_numpy()
        if column.dtype.kind not in "biuf":
            raise ArgumentError(f"X: expected numbers in column {name!r}, got {table[name].type}")
        found[:, place] = column
    return found

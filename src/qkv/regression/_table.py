"""A table from a file, as kernel regression takes it: which columns are numbers, which categories, what is left out.

Nothing is dropped in silence: `Table.notes` says what was done to which column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._optional import imports_for
from ..errors import ArgumentError, DependencyError

if TYPE_CHECKING:
    import pandas

Kind = Literal["number", "date", "category"]

FEWEST = 10
"""Rows with a target: fewer cannot be split into what is learnt from and what is held out."""
CATEGORIES = 20
"""A text column of more different values than this, and than half its rows, is a name or a text, no category."""


@dataclass
class Table:
    """Rows that have a target, in the file's order.

    Attributes:
        features: numbers (dates as days) and categories, missing values as NaN.
        kinds: of each feature.
        target: ``(rows,)`` float64, or labels as text where `classes`.
        name: the target's.
        rows: ``(rows,)``, the number of each in the file, from 0.
        notes: what was left out or changed, a sentence each.
    """

    features: pandas.DataFrame
    kinds: dict[str, Kind]
    target: NDArray[Any]
    name: str
    classes: bool
    rows: NDArray[np.int64]
    notes: list[str] = field(default_factory=list)


def read_table(file: Path) -> pandas.DataFrame:
    """The table in a .csv, .tsv, .jsonl or .parquet file; text is UTF-8, and may be compressed (``.csv.gz``).

    Raises:
        ArgumentError: there is no such file, it is of another format, or it cannot be read.
        DependencyError: where pandas, or pyarrow for Parquet, is not installed.
    """
    with imports_for("reading tables", extra="regression"):
        import pandas

    suffixes = [suffix.lower() for suffix in file.suffixes]
    kind = suffixes[-2] if suffixes[-1:] in ([".gz"], [".bz2"], [".xz"]) and len(suffixes) > 1 else file.suffix.lower()
    readers: dict[str, Any] = {
        ".csv": lambda: pandas.read_csv(file, encoding="utf-8-sig", low_memory=False),
        ".tsv": lambda: pandas.read_csv(file, sep="\t", encoding="utf-8-sig", low_memory=False),
        ".jsonl": lambda: pandas.read_json(file, lines=True, dtype=False),
        ".parquet": lambda: pandas.read_parquet(file),
    }
    if kind not in readers:
        raise ArgumentError(f"data: expected a .csv, .tsv, .jsonl or .parquet file, got {file}")
    if not file.is_file():
        raise ArgumentError(f"data: there is no file {file}")
    try:
        frame: pandas.DataFrame = readers[kind]()
    except ImportError as error:
        raise DependencyError("reading Parquet needs pyarrow: pip install 'qkv[look]'") from error
    except pandas.errors.EmptyDataError:
        raise ArgumentError(f"data: {file} is empty") from None
    except (ValueError, OSError) as error:  # a ParserError, a UnicodeDecodeError and pyarrow's own are ValueErrors
        raise ArgumentError(f"data: {file} cannot be read as {kind}: {str(error).splitlines()[0]}") from error
    frame.columns = [str(name) for name in frame.columns]
    return frame.reset_index(drop=True)


def prepare(frame: pandas.DataFrame, target: str, *, classes: bool = False, drop: Sequence[str] = ()) -> Table:
    """Tell features and target apart.

    Args:
        frame: as `read_table` gives it.
        target: the name of the column to predict.
        classes: take the target's values as classes although they are numbers; others always are.
        drop: names of columns to leave out.

    Raises:
        ArgumentError: a column is not there, or what is left cannot be learnt from; the message says which.
    """
    for name, asked in ((target, "target"), *((name, "drop") for name in drop)):
        if name not in frame.columns:
            raise ArgumentError(f"{asked}: there is no column {name!r}; the columns are {', '.join(frame.columns)}")
    notes: list[str] = []
    frame = frame.drop(columns=[name for name in drop if name != target])
    there = frame[target].notna()
    if missing := int((~there).sum()):
        notes.append(f"{_counted(missing)} without {target} left out")
    frame = frame[there]
    if len(frame) < FEWEST:
        raise ArgumentError(f"data: expected at least {FEWEST} rows with a {target}, got {len(frame)}")
    classes = classes or _kind(frame[target], target) == "category"
    labels = frame[target].astype(str).to_numpy(object) if classes else _numbers(frame[target], target)
    _check_target(labels, target, classes)
    columns: dict[str, Any] = {}
    kinds: dict[str, Kind] = {}
    for name in frame.columns.drop(target):
        column, kind = frame[name], _kind(frame[name], name)
        different = column.nunique()
        if different < 2 and not (different and column.isna().any() and kind == "category"):
            notes.append(f"{name} left out: " + ("the same everywhere" if different else "no values"))
        elif kind == "category" and different > max(CATEGORIES, len(column) / 2):
            notes.append(f"{name} left out: text of {different:,} different values")
        else:
            kinds[name] = kind
            columns[name] = _numbers(column, name) if kind != "category" else _labels(column)
            if (gaps := int(column.isna().sum())) and kind != "category":
                notes.append(f"{_counted(gaps)} without {name}: the median is taken there")
    if not columns:
        said = f": {'; '.join(notes)}" if notes else ""
        raise ArgumentError(f"data: expected at least one column beside {target} to predict it from, got none{said}")
    features = type(frame)(columns, index=range(len(frame)))
    return Table(features, kinds, labels, target, classes, frame.index.to_numpy(np.int64), notes)


def _kind(column: pandas.Series, name: str) -> Kind:
    """What a column holds; an error for one that holds numbers and a few other things, or no single values."""
    import pandas
    from pandas.api import types

    if types.is_numeric_dtype(column.dtype):
        if types.is_complex_dtype(column.dtype):
            raise ArgumentError(f"column {name!r}: expected real numbers, got complex ones; leave it out (--drop)")
        return "category" if types.is_bool_dtype(column.dtype) else "number"
    if types.is_datetime64_any_dtype(column.dtype):
        return "date"
    values = column.dropna()
    if any(isinstance(value, list | dict | tuple | set | np.ndarray) for value in values):
        raise ArgumentError(f"column {name!r}: expected one value a row, got lists or objects; leave it out (--drop)")
    parsed = pandas.to_numeric(values.astype(str), errors="coerce")
    if len(values) and (share := float(parsed.notna().mean())) > 0.5:
        if share == 1:
            return "number"
        odd = parsed.index[parsed.isna()][0]
        raise ArgumentError(
            f"column {name!r}: expected numbers, got {int(parsed.isna().sum())} values that are none, the first "
            f"{values[odd]!r} in row {odd}: correct them, empty them, or leave the column out with --drop"
        )
    return "date" if len(values) and _dates(values).notna().all() else "category"


def _dates(values: pandas.Series) -> pandas.Series:
    import pandas

    dates: pandas.Series = pandas.to_datetime(values.astype(str), errors="coerce", format="ISO8601", utc=True)
    return dates


def _numbers(column: pandas.Series, name: str) -> NDArray[np.float64]:
    """Float64, dates as days since 1970, NaN where nothing is."""
    import pandas
    from pandas.api import types

    if not types.is_numeric_dtype(column.dtype):
        numbers = pandas.to_numeric(column.astype(str).where(column.notna()), errors="coerce")
        if numbers.notna().sum() != column.notna().sum():
            days = (_dates(column) - pandas.Timestamp(0, tz="UTC")) / pandas.Timedelta(days=1)
            if days.notna().sum() != column.notna().sum():
                raise ArgumentError(f"column {name!r}: expected numbers or dates, got {column.dropna().iloc[0]!r}")
            numbers = days
        column = numbers
    found: NDArray[np.float64] = np.asarray(column.to_numpy(np.float64, na_value=math.nan))
    if np.isinf(found).any():
        row = int(column.index[int(np.flatnonzero(np.isinf(found))[0])])
        raise ArgumentError(f"column {name!r}: expected finite numbers, got infinity in row {row}")
    return found


def _labels(column: pandas.Series) -> NDArray[Any]:
    """Text, NaN where nothing is: to scikit-learn's encoders that is a category of its own."""
    labels: NDArray[Any] = np.array(column.astype(str), object)
    labels[column.isna().to_numpy()] = math.nan
    return labels


def _check_target(labels: NDArray[Any], name: str, classes: bool) -> None:
    different = len(np.unique(labels))
    if different < 2:
        raise ArgumentError(f"target: {name} is {labels[0]} in every row: there is nothing to predict")
    if classes and different > max(CATEGORIES, len(labels) / 2):
        raise ArgumentError(
            f"target: expected numbers or classes, got {different:,} different values of {name} in {len(labels):,} rows"
        )


def _counted(rows: int) -> str:
    return f"{rows:,} row" + ("" if rows == 1 else "s")

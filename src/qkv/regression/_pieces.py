"""Training data that is not in this process's memory: in pieces, which are read where they lie, one at a time."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

import numpy as np
from sklearn.utils import check_array

from .._optional import imports_for
from ..errors import ArgumentError
from ._answer import Floats
from ._limits import check_range, check_weights
from ._summary import Summary

T = TypeVar("T")


class Rows(NamedTuple):
    """Features ``(n, d)``, targets as they came, and weights ``(n,)`` float64."""

    x: Floats
    y: Any
    weight: Floats

    def within_limits(self) -> Rows:
        """Themselves, if they can be computed with; an ArgumentError otherwise."""
        check_range(self.x, "X")
        if self.y.dtype.kind == "f":
            check_range(self.y, "y")
        check_weights(self.weight)
        return self


class Pieces(ABC):
    """Runs of rows, in order.

    Attributes:
        features: how many columns X has.
        names: theirs, where they have some.
        flat: whether there is one target.
    """

    features: int
    names: list[str] | None
    flat: bool

    @abstractmethod
    def reduce(self, ask: Callable[[Rows, int], T], join: Callable[..., T]) -> T:
        """What `ask` finds in each piece, given its number, put together by `join`, which takes any number of them."""

    def summary(self, columns: Callable[[Any], Floats]) -> Summary:
        return self.reduce(partial(_summarised, columns), Summary.join)

    def labels(self) -> Any:
        """The different targets, sorted."""
        return self.reduce(_different, _united)


def is_scattered(x: Any) -> bool:
    """Whether these are data that lie elsewhere: a path, or something of Dask's. Imports nothing."""
    return isinstance(x, str | os.PathLike) or hasattr(x, "__dask_graph__")


def pieces_of(x: Any, y: Any, weight: Any) -> Pieces:
    """Pieces of training data; arguments as in `NadarayaWatson.fit`."""
    if isinstance(x, str | os.PathLike):
        from ._parquet import ParquetPieces

        return ParquetPieces.of(x, y, weight)
    from ._dask import DaskPieces

    return DaskPieces.of(x, y, weight)


def query_blocks(x: Any, names: Sequence[str], features: int) -> Iterator[Any]:
    """Queries, a piece at a time, as frames or arrays."""
    from . import _dask, _parquet

    found = False
    for block in _parquet.blocks(x, names) if isinstance(x, str | os.PathLike) else _dask.blocks(x):
        if len(block):
            found = True
            yield block
    if not found:
        yield np.zeros((0, features))  # refused in scikit-learn's words


def needs(module: str) -> Any:
    """A module that is there or is asked for."""
    with imports_for("data in pieces", extra="dask"):
        return import_module(module)


def name_of(x: Any) -> str:
    return repr(x) if isinstance(x, str | os.PathLike) else f"a {type(x).__module__.split('.')[0]} {type(x).__name__}"


def checked(x: Any, y: Any, weight: Any, number: int) -> Rows:
    """A piece as arrays, none of whose numbers is missing or infinite; it may be empty."""
    try:
        x = check_array(x, dtype=[np.float64, np.float32], ensure_min_samples=0, input_name="X")
        y = np.asarray(y)
        if len(y) != len(x):
            raise ArgumentError(f"y: expected {len(x)} rows as X has, got {len(y)}")
        if y.dtype.kind in "fO" and any(value is None or value != value for value in y.ravel()[_doubtful(y)]):
            raise ArgumentError("y: expected a value in every row, got missing ones")
        if weight is None:
            return Rows(x, y, np.ones(len(x))).within_limits()
        mass = check_array(weight, dtype=np.float64, ensure_2d=False, ensure_min_samples=0, input_name="sample_weight")
        if mass.shape != (len(x),):
            raise ArgumentError(f"sample_weight: expected shape {(len(x),)}, got {mass.shape}")
        if (mass < 0).any():
            raise ArgumentError("sample_weight: expected no negative numbers, got some")
        return Rows(x, y, mass).within_limits()
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"piece {number} of the data: {error}") from error


def _doubtful(y: Any) -> Any:
    return np.isnan(y).ravel() if y.dtype.kind == "f" else np.s_[:]


def _summarised(columns: Callable[[Any], Floats], rows: Rows, number: int) -> Summary:
    return Summary.of(rows.x, columns(rows.y), rows.weight)


def _different(rows: Rows, number: int) -> Any:
    return np.unique(rows.y)


def _united(*labels: Any) -> Any:
    return np.unique(np.concatenate([part for part in labels if len(part)] or list(labels[:1])))

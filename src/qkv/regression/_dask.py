"""Dask's arrays and frames as pieces: every question is a task beside each of them; answers merge as a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..errors import ArgumentError
from ._pieces import Pieces, Rows, T, checked, needs

BRANCHES = 8
"""How many answers are put together at a time."""


class DaskPieces(Pieces):
    """Blocks or partitions; whatever scheduler is the current one works: threads, or a cluster."""

    def __init__(self, parts: list[tuple[Any, Any, Any]], features: int, names: list[str] | None, flat: bool) -> None:
        self.parts, self.features, self.names, self.flat = parts, features, names, flat

    @classmethod
    def of(cls, x: Any, y: Any, weight: Any) -> DaskPieces:
        if hasattr(x, "columns"):
            own = [name for given in (y, weight) for name in _names(given)]
            missing = [name for name in own if name not in x.columns]
            if missing:
                raise ArgumentError(f"y, sample_weight: expected names of X's columns, got {missing}")
            y, weight = (x[given] if _names(given) else given for given in (y, weight))
            x = x.drop(columns=own)
            names = [str(name) for name in x.columns]
        else:
            names = None
            if x.ndim != 2:
                raise ArgumentError(f"X: expected (rows, features), got a Dask array of {x.ndim} axes")
        if y is None:
            raise ArgumentError("y: expected targets, got None")
        rows = _blocks(x)
        flat = _flat(y)
        targets, masses = (_beside(given, x, len(rows), name) for given, name in ((y, "y"), (weight, "sample_weight")))
        return cls(list(zip(rows, targets, masses, strict=True)), int(x.shape[1]), names, flat)

    def reduce(self, ask: Callable[[Rows, int], T], join: Callable[..., T]) -> T:
        dask = needs("dask")

        asked = dask.delayed(ask, pure=False, traverse=False)  # in the graph once, with the queries that it holds
        read, joined = dask.delayed(checked, pure=False), dask.delayed(join, pure=False)
        found = [asked(read(*part, number), number) for number, part in enumerate(self.parts)]
        while len(found) > 1:
            found = [joined(*found[i : i + BRANCHES]) for i in range(0, len(found), BRANCHES)]
        result: T = dask.compute(found[0])[0]
        return result


def blocks(x: Any) -> Iterator[Any]:
    """Queries, piece by piece."""
    for block in _blocks(x):
        yield block.compute()


def _names(given: Any) -> list[str]:
    """Names of columns, where that is what was given."""
    if isinstance(given, str):
        return [given]
    return list(given) if isinstance(given, list | tuple) and all(isinstance(name, str) for name in given) else []


def _blocks(x: Any) -> list[Any]:
    """Delayed runs of rows."""
    if hasattr(x, "chunks"):
        x = x.rechunk(dict.fromkeys(range(1, x.ndim), -1)) if x.ndim > 1 else x
        return list(x.to_delayed().ravel())
    return list(x.to_delayed())


def _flat(y: Any) -> bool:
    return getattr(y, "ndim", None) == 1 if hasattr(y, "ndim") else not (len(y) and hasattr(y[0], "__len__"))


def _beside(given: Any, x: Any, count: int, name: str) -> list[Any]:
    """What belongs to X's blocks, cut as they are."""
    if given is None:
        return [None] * count
    if not hasattr(given, "__dask_graph__") or hasattr(given, "chunks"):
        chunks = x.chunks[0] if hasattr(x, "chunks") else None
        if chunks is None or any(size != size for size in chunks):
            if hasattr(given, "chunks") and len(given.chunks[0]) == count:
                return _blocks(given)
            raise ArgumentError(f"{name}: expected it cut like X, whose pieces' lengths are not known, into {count}")
        given = needs("dask.array").asarray(given)
        if given.shape[0] != x.shape[0]:
            raise ArgumentError(f"{name}: expected {x.shape[0]} rows as X has, got {given.shape[0]}")
        return _blocks(given.rechunk({0: chunks}))
    if given.npartitions != count:
        raise ArgumentError(f"{name}: expected {count} pieces as X has, got {given.npartitions}")
    return _blocks(given)

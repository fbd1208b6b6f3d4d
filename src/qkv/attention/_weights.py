"""`weights`: any window of the n x n array that is never stored, exact, when somebody asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, SupportsFloat, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._typing import Array
from ..errors import ArgumentError
from ._arrays import describe, give, host, is_array, view, widen
from ._backends._choose import run
from ._biases import Bias
from ._compiling import left_to_python
from ._mask import Mask
from ._observation import Request
from ._prepare import Problem, prepare
from ._window import window_scores, window_weights

Selection: TypeAlias = Array | slice | int | None


@left_to_python
def weights(
    query: Array,
    key: Array,
    *,
    lse: Array | None = None,
    rows: Selection = None,
    columns: Selection = None,
    mask: Mask | Array | None = None,
    bias: Bias | Array | None = None,
    scale: SupportsFloat | None = None,
    softcap: SupportsFloat | None = None,
    sink: Array | None = None,
) -> Array:
    r"""A window of the attention weights: :math:`w_{ij} = \exp(s_{ij} - \mathrm{lse}_i)` for some rows and columns.

    Query, key and logsumexp are enough to recompute any weight exactly, so only the window is ever made. The whole
    array is what comes without `rows` and `columns`.

    Args:
        query, key, mask, bias, scale, softcap, sink: as in `qkv.attend`, for the whole sequence: masks and biases keep
            their full coordinates.
        lse: ``(*batch, heads, N)`` as `observe` returned it, with the same arguments; recomputed for the rows asked
            for where it is not given.
        rows: the queries: a slice, an index (whose axis is dropped, as NumPy does), or a 1-D array or list of them;
            None is all.
        columns: the keys, in the same ways.

    Returns:
        ``(*batch, heads, rows, columns)``, float32 (float64 for float64), in the query's framework.

    Raises:
        ArgumentError: for what does not fit together; the message names the argument.

    >>> import numpy as np
    >>> import qkv
    >>> x = np.eye(4)
    >>> qkv.weights(x, x, rows=-1, columns=slice(2, 4), mask=qkv.Causal()).round(3)
    array([0.215, 0.355])
    """
    problem = prepare(
        query, key, None, mask=mask, bias=bias, scale=scale, softcap=softcap, sink=sink, values=False, devices=True
    )
    row_indices, keep_rows = _select(rows, problem.shape.queries, "rows")
    column_indices, keep_columns = _select(columns, problem.shape.keys, "columns")
    if lse is None:
        highest, weight = row_peaks(problem, row_indices)
        window = window_of(problem, highest, row_indices, column_indices) * weight[..., None]
    else:
        window = window_of(problem, check_lse(lse, problem)[:, :, row_indices], row_indices, column_indices)
    shape = problem.leading + (len(row_indices),) * keep_rows + (len(column_indices),) * keep_columns
    return give(window.reshape(shape), problem.real, problem.like)


def window_of(problem: Problem, lse: NDArray[Any], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[Any]:
    """Weights ``(batch, heads, rows, columns)``; `lse`, of the rows asked for, is what scores are relative to."""
    query = host(widen(problem.query[:, :, rows], problem.dtype))
    key = host(widen(problem.key[:, :, columns], problem.dtype))
    return window_weights(window_scores(query, key, problem.plan, rows, columns), lse)


def row_peaks(problem: Problem, rows: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The highest score of some queries over all keys, and its weight, both ``(batch, heads, rows)``.

    They say what the logsumexp says, and keep digits that it loses where scores are large: where a query's scores are
    all -1e30, adding log(keys) to -1e30 changes nothing. By the backend, run by run.
    """
    highest, weight = np.empty((2, *problem.shape.flat[:2], len(rows)), problem.real)
    for first, last, where in _runs(rows):
        piece = replace(problem, query=problem.query[:, :, first:last], plan=problem.plan.rows(first, last))
        _, outputs = Request(max_score=True, top_k=1).allocate(piece, output=problem.dtype)
        run(piece, outputs)
        assert outputs.max_score is not None
        assert outputs.top_weights is not None
        highest[:, :, where] = host(outputs.max_score)[:, :, rows[where] - first]
        weight[:, :, where] = host(outputs.top_weights)[:, :, rows[where] - first, 0]
    return highest, weight


def check_lse(lse: Array, problem: Problem) -> NDArray[Any]:
    """A given logsumexp, ``(batch, heads, N)``."""
    seen = view(lse, "lse", devices=True)
    expected = (*problem.leading, problem.shape.queries)
    if seen.dtype not in ("float32", "float64") or seen.data.shape != expected:
        raise ArgumentError(f"lse: expected float32 or float64 of shape {expected}, got {describe(lse)}")
    if seen.owner != problem.like.owner:
        raise ArgumentError(f"lse: expected an array of {problem.like.owner} like the query, got {seen.owner}")
    return host(seen.data).astype(problem.real, copy=False).reshape(*problem.shape.flat[:2], problem.shape.queries)


def _runs(rows: NDArray[np.intp]) -> Iterator[tuple[int, int, NDArray[np.intp]]]:
    """Cut indices, in any order, into runs of neighbours: first, last + 1, and where in `rows` they belong."""
    order = np.argsort(rows, kind="stable")
    for run_of in np.split(order, np.flatnonzero(np.diff(rows[order]) > 1) + 1):
        if len(run_of):
            yield int(rows[run_of[0]]), int(rows[run_of[-1]]) + 1, run_of


def _listed(selection: object, name: str) -> NDArray[Any]:
    """Indices, or booleans that choose, as NumPy takes them: never truncated, never True for 1."""
    if is_array(selection):
        return host(view(selection, name, devices=True).data)
    try:
        if not isinstance(selection, list | range):
            raise TypeError
        index = np.asarray(selection)
        if index.dtype.kind not in "iufb":
            raise TypeError
        return index if index.size else index.astype(np.intp)
    except (ValueError, TypeError):
        raise ArgumentError(
            f"{name}: expected a slice, an index or an array of indices, got {describe(selection)}"
        ) from None


def _select(selection: Selection, length: int, name: str) -> tuple[NDArray[np.intp], bool]:
    """The indices that NumPy's indexing would take of so many, and whether their axis stays."""
    everything = np.arange(length)
    index: NDArray[Any]
    if selection is None:
        return everything, True
    if isinstance(selection, int | np.integer) and not isinstance(selection, bool):
        keep, index = False, np.array([selection])
    elif isinstance(selection, slice):
        return everything[selection], True
    else:
        keep, index = True, _listed(selection, name)
    try:
        chosen = everything[index]
    except IndexError as error:
        raise ArgumentError(f"{name}: expected indices into {length}; {error}") from None
    if chosen.ndim != 1:
        raise ArgumentError(f"{name}: expected a slice, an index or 1-D indices, got shape {chosen.shape}")
    return chosen, keep

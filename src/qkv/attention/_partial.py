r"""`Partial` and `merge`: attention over a piece of the keys, and how pieces become the whole.

For one query and any subset A of the keys keep :math:`(\mathrm{lse}_A, o_A)`: the logsumexp of its scores, and the
output as if there were no other keys. The share of A in the whole is :math:`a_A = \exp(\mathrm{lse}_A - \mathrm{lse})`,

.. math:: \mathrm{lse} = \log \sum_A e^{\mathrm{lse}_A}, \quad o = \sum_A a_A o_A, \quad
          H = \sum_A a_A (H_A - \log a_A), \quad \max s = \max_A \max s_A

(the third is the chain rule of entropy; distance merges like the output, the heaviest keys by their weight times the
share). So attention is a reduction that can be cut anywhere and merged in any order: blocks of a cache, threads,
machines, chunks of a data set that does not fit in memory.

Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018); Dao et al., "FlashAttention" (2022).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from .._typing import Array
from ..errors import ArgumentError
from ._arrays import View, check_count, describe, empty, give, refuse_gradients, view
from ._backends._choose import run
from ._biases import Bias
from ._compiling import left_to_python
from ._mask import Mask
from ._observation import Request, TopK, check_block, field_line
from ._prepare import Problem, check_sink, prepare
from ._scores import Align
from ._weights import check_lse, window_of

ROWS = 1 << 22
"""How many weights are held at a time when the final logsumexp is used to finish a statistic."""


@dataclass(frozen=True, eq=False, repr=False)
class Partial:
    """Attention over a piece of the keys: make it with `Partial.of`, put pieces together with `merge`.

    Everything is float32 (float64 for float64 inputs), the output of 16-bit inputs too, so that merging loses nothing;
    statistics that were not asked for are None. No keys at all is a piece like any other: it changes nothing.

    Attributes:
        output: ``(.., heads, N, value_dim)``.
        lse: ``(.., heads, N)``.
        entropy, max_score, distance: ``(.., heads, N)``, as in `qkv.observe`.
        top_k: `TopK`, indices counted in the whole.
        has_sink: whether a sink was merged in, which is the last thing to do.

    >>> import numpy as np
    >>> import qkv
    >>> rng = np.random.default_rng(0)
    >>> query, key, value = (rng.normal(size=(6, 4)) for _ in range(3))
    >>> pieces = [
    ...     qkv.Partial.of(query, key[a:b], value[a:b], first=a, total=6, mask=qkv.Causal())
    ...     for a, b in ((0, 1), (1, 4), (4, 6))
    ... ]
    >>> whole = qkv.merge(*reversed(pieces))
    >>> np.allclose(whole.output, qkv.attend(query, key, value, mask=qkv.Causal()))
    True
    """

    output: Any
    lse: Any
    entropy: Any = None
    max_score: Any = None
    distance: Any = None
    top_k: TopK | None = None
    has_sink: bool = False

    def __repr__(self) -> str:
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        lines = [field_line(name, value) for name, value in named if value is not None and name != "has_sink"]
        return "\n".join(["Partial" + ", with a sink" * self.has_sink, *lines])

    @classmethod
    @left_to_python
    def of(
        cls,
        query: Array,
        key: Array,
        value: Array,
        *,
        first: int = 0,
        total: int | None = None,
        mask: Mask | Array | None = None,
        bias: Bias | Array | None = None,
        scale: SupportsFloat | None = None,
        softcap: SupportsFloat | None = None,
        entropy: bool = False,
        max_score: bool = False,
        top_k: int = 0,
        distance: bool | Align = False,
    ) -> Partial:
        """Attend to the keys ``first, first + 1, ...`` alone, of `total` keys in all.

        Args:
            query: all queries, as in `qkv.attend`.
            key, value: a piece of the keys and values, neighbours in the whole.
            first: where the piece starts.
            total: number of keys in all, M. Needed with a mask, a bias or `distance`, which are given for the whole
                (its positions, its shape) and cut here; otherwise pieces know nothing of each other.
            mask, bias, scale, softcap: as in `qkv.attend`. A sink belongs to `merge`, once.
            entropy, max_score, top_k, distance: as in `qkv.observe`. What needs the final logsumexp is finished from
                the merged whole, see `received` and `block_map`.

        Raises:
            ArgumentError: for what does not fit together; the message names the argument.
        """
        request = Request(entropy=entropy, max_score=max_score, top_k=top_k, distance=distance)
        placed = mask is not None or bias is not None or distance is not False
        problem = _piece(query, key, value, first, total, placed, mask, bias, scale, softcap, request.align)
        found, outputs = request.allocate(problem, output=problem.real)
        run(problem, outputs)
        if outputs.top_indices is not None:
            outputs.top_indices[outputs.top_indices >= 0] += first
        return cls(**found)

    def received(
        self,
        query: Array,
        key: Array,
        *,
        first: int = 0,
        total: int | None = None,
        mask: Mask | Array | None = None,
        bias: Bias | Array | None = None,
        scale: SupportsFloat | None = None,
        softcap: SupportsFloat | None = None,
    ) -> Array:
        """The weight that each key of a piece receives, ``(.., heads, keys of the piece)``; to be asked of the whole.

        It takes the final logsumexp, which no piece has alone: hence from the merged `Partial`, with the arguments
        with which the piece was made.
        """
        placed = mask is not None or bias is not None
        problem = _piece(query, key, None, first, total, placed, mask, bias, scale, softcap, values=False)
        result, data = problem.new(problem.key.shape[2])
        data[...] = 0
        for _, weights in self._windows(problem):
            data += weights.sum(-2)
        return result

    def block_map(
        self,
        query: Array,
        key: Array,
        block: int | tuple[int, int] | str = "auto",
        *,
        first: int = 0,
        total: int | None = None,
        mask: Mask | Array | None = None,
        bias: Bias | Array | None = None,
        scale: SupportsFloat | None = None,
        softcap: SupportsFloat | None = None,
    ) -> Array:
        """Sums of weights over blocks of the piece, counted from its first key; otherwise as `received`."""
        placed = mask is not None or bias is not None
        problem = _piece(query, key, None, first, total, placed, mask, bias, scale, softcap, values=False)
        queries, keys = problem.query.shape[2], problem.key.shape[2]
        size = check_block(block, queries, keys)
        if size is None:
            raise ArgumentError(
                f'block_map: expected a block size, a pair (queries, keys), or "auto", got {describe(block)}'
            )
        rows, columns = size
        result, data = problem.new(-(-queries // rows), -(-keys // columns))
        data[...] = 0
        for at, weights in self._windows(problem):
            for row in range(at[0] // rows, at[-1] // rows + 1):
                received = weights[:, :, at // rows == row].sum(-2)
                for column in range(data.shape[3]):
                    data[:, :, row, column] += received[..., column * columns : (column + 1) * columns].sum(-1)
        return result

    def _windows(self, problem: Problem) -> Iterator[tuple[NDArray[np.intp], NDArray[Any]]]:
        """The piece's final weights, some rows at a time."""
        lse, columns = check_lse(self.lse, problem), np.arange(problem.key.shape[2])
        step = max(1, ROWS // max(1, int(np.prod(problem.shape.flat[:2])) * len(columns)))
        for start in range(0, problem.shape.queries, step):
            rows = np.arange(start, min(start + step, problem.shape.queries))
            yield rows, window_of(problem, lse[:, :, rows], rows, columns)


@left_to_python
def merge(*partials: Partial, sink: Array | None = None) -> Partial:
    """Attention over all the keys of several pieces, which share none; the order makes no difference.

    Args:
        partials: pieces, with the same queries and the same statistics.
        sink: ``(heads,)`` logits that join the denominator; to be given once, in the last merge.

    Returns:
        The `Partial` of all keys together: `output`, `lse` and statistics as if they had been attended to at once,
        within rounding; of keys in different pieces that weigh the same within rounding, either may come first.

    Raises:
        ArgumentError: where pieces do not fit together.
    """
    _check_alike(partials)
    refuse_gradients(sink, "sink")
    like = view(partials[0].lse, "lse")
    lse = _stack([part.lse for part in partials])
    logits = check_sink(sink, lse.shape[-2] if lse.ndim > 2 else 1, "float64", like.owner)
    whole = _logsumexp(lse if logits is None else np.concatenate([lse, _as_piece(logits, lse)]))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(lse == -np.inf, 0, np.exp(lse - whole))
        surprise = np.where(share == 0, 0, -np.log(share))

    merged: dict[str, Any] = {"lse": whole, "output": (share[..., None] * _stack([p.output for p in partials])).sum(0)}
    if partials[0].entropy is not None:
        merged["entropy"] = (share * (_stack([p.entropy for p in partials]) + surprise)).sum(0)
    if partials[0].max_score is not None:
        merged["max_score"] = _stack([p.max_score for p in partials]).max(0)
    if partials[0].distance is not None:
        merged["distance"] = (share * _stack([p.distance for p in partials])).sum(0)
    told = {name: give(values, like.dtype, like) for name, values in merged.items()}
    return Partial(**told, top_k=_merge_top_k(partials, share, like), has_sink=sink is not None)


def _merge_top_k(partials: tuple[Partial, ...], share: NDArray[np.float64], like: View) -> TopK | None:
    found = [part.top_k for part in partials if part.top_k is not None]
    if not found:
        return None
    k = found[0].indices.shape[-1]
    indices = np.concatenate([view(top.indices, "top_k").data for top in found], axis=-1)
    weights = np.concatenate(list(share[..., None] * _stack([top.weights for top in found])), axis=-1)
    missing = indices < 0
    order = np.lexsort((indices, -weights, missing), axis=-1)[..., :k]
    result, data = empty(order.shape, "int64", like)
    data[...] = np.take_along_axis(indices, order, -1)
    return TopK(result, give(np.take_along_axis(weights, order, -1), like.dtype, like))


def _piece(
    query: Array,
    key: Array,
    value: Array | None,
    first: int,
    total: int | None,
    placed: bool,
    mask: Mask | Array | None,
    bias: Bias | Array | None,
    scale: SupportsFloat | None,
    softcap: SupportsFloat | None,
    align: Align = "bottom-right",
    values: bool = True,
) -> Problem:
    """The problem of a piece: the plan of the whole, cut to its keys."""
    start = check_count(first, "first")
    if total is None and placed:
        raise ArgumentError(
            "total: expected the number of keys in all, got None; masks, biases and distance are those of the whole"
        )
    count = view(key, "key").data.shape[-2] if view(key, "key").data.ndim > 1 else 0
    whole = start + count if total is None else check_count(total, "total")
    if start + count > whole:
        raise ArgumentError(f"first: expected a piece within {whole} keys, got keys {start} to {start + count - 1}")
    options: dict[str, Any] = {"mask": mask, "bias": bias, "scale": scale, "softcap": softcap, "sink": None}
    problem = prepare(query, key, value, **options, align=align, total=whole, values=values)
    return replace(problem, plan=problem.plan.columns(start, start + count))


def _check_alike(partials: tuple[Partial, ...]) -> None:
    """The same shapes, frameworks and statistics, and no sink yet."""
    if not partials:
        raise ArgumentError("partials: expected at least one Partial to merge, got none")
    for index, part in enumerate(partials):
        if not isinstance(part, Partial):
            raise ArgumentError(f"partials[{index}]: expected a Partial, got {type(part).__name__}")
        if part.has_sink:
            raise ArgumentError(f"partials[{index}]: a sink is merged in already; give it once, in the last merge")
        if _kind(part) != _kind(partials[0]):
            raise ArgumentError(
                f"partials[{index}]: expected the queries and statistics of the first,\n{partials[0]}\ngot\n{part}"
            )


def _kind(part: Partial) -> tuple[object, ...]:
    arrays = [part.output, part.lse, part.entropy, part.max_score, part.distance, *(part.top_k or ())]
    return tuple(None if array is None else (type(array), array.dtype, tuple(array.shape)) for array in arrays)


def _as_piece(logits: NDArray[Any], lse: NDArray[np.float64]) -> NDArray[np.float64]:
    """A sink in the shape of one more piece's logsumexp: the same logit for every query of a head."""
    return np.broadcast_to(logits[:, None] if lse.ndim > 2 else logits, (1, *lse.shape[1:]))


def _stack(arrays: list[Array]) -> NDArray[np.float64]:
    return np.stack([view(array, "partials").data for array in arrays]).astype(np.float64)


def _logsumexp(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    highest = parts.max(0)
    highest = np.where(np.isfinite(highest), highest, 0)
    with np.errstate(divide="ignore"):
        total: NDArray[np.float64] = highest + np.log(np.exp(parts - highest).sum(0))
    return total

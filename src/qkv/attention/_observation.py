"""What `observe` returns: the output, and the statistics that were asked for."""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import numpy as np

from .._typing import Array
from ..errors import ArgumentError
from ._arrays import check_count, describe
from ._backends import Outputs
from ._backends._choose import run
from ._jax import handed
from ._prepare import Problem
from ._scores import Align, check_align

STATISTICS = ("entropy", "max_score", "top_k", "received", "block_map", "distance")
AUTO_BLOCKS = 512
"""``block_map="auto"`` has at most so many blocks a side."""


class TopK(NamedTuple):
    """The k keys that weigh most for each query.

    Attributes:
        indices: int64 ``(.., heads, N, k)``, heaviest first, ties to the lowest index; -1 where there are fewer than k.
        weights: their weights, the same shape; 0 where there are fewer than k.
    """

    indices: Array
    weights: Array


class Observation:
    """Attention's output and what was seen on the way, all in the framework of the query.

    Statistics are float32 (float64 for float64 inputs), for each query head. A statistic that was not asked for is not
    there: reading it raises AttributeError with the argument that brings it.

    Attributes:
        output: ``(.., heads, N, value_dim)`` in the query's dtype.
        lse: ``(.., heads, N)``, the natural log of the sum of exp(score), with the sink: a weight is exp(score - lse).
        entropy: ``(.., heads, N)``, -sum w log w over keys, in nats.
        max_score: ``(.., heads, N)``, the highest score, after bias.
        top_k: `TopK`, the heaviest keys and their weights, ``(.., heads, N, k)``.
        received: ``(.., heads, M)``, the sum over queries of the weights on each key.
        block_map: ``(.., heads, ceil(N / b), ceil(M / b))``, sums of weights over b x b blocks.
        distance: ``(.., heads, N)``, sum of w * |p - j|: how far a query looks, in tokens.
    """

    output: Array
    lse: Array
    entropy: Array
    max_score: Array
    top_k: TopK
    received: Array
    block_map: Array
    distance: Array

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __getattr__(self, name: str) -> NoReturn:
        if name in STATISTICS:
            how = {"top_k": "top_k=8", "block_map": 'block_map="auto"'}.get(name, f"{name}=True")
            raise AttributeError(f"{name} was not observed; ask for it: qkv.observe(..., {how})")
        raise AttributeError(f"an Observation has no {name!r}; it has {', '.join(self.__dict__)}")

    def __repr__(self) -> str:
        return "\n".join(["Observation", *(field_line(name, value) for name, value in self.__dict__.items())])


class Request:
    """What a call asks for beside the output, checked, and the arrays that it fills."""

    def __init__(
        self,
        *,
        entropy: bool = False,
        max_score: bool = False,
        top_k: int = 0,
        received: bool = False,
        block_map: int | tuple[int, int] | str = 0,
        distance: bool | Align = False,
        lse: bool = True,
    ) -> None:
        self.lse = lse
        self.rows = [name for name, wanted in (("entropy", entropy), ("max_score", max_score)) if wanted]
        self.top_k = check_count(top_k, "top_k")
        self.received = bool(received)
        self.block_map = block_map
        self.align: Align = check_align(distance, "distance") if isinstance(distance, str) else "bottom-right"
        if distance:
            self.rows.append("distance")

    @property
    def is_plain(self) -> bool:
        """Whether the output is all that is asked for."""
        return not (self.lse or self.rows or self.top_k or self.received or self.block_map)

    def found_in(self, problem: Problem, *, lse: bool = False) -> dict[str, Any]:
        """What was asked for, computed by the backend that fits; `lse` is for a backward pass too."""
        found, outputs = self.allocate(problem, output=problem.dtype, lse=self.lse or lse)
        run(problem, outputs)
        if problem.like.framework == "jax":
            return {name: handed(value) for name, value in found.items()}
        return found

    def allocate(self, problem: Problem, *, output: str, lse: bool = True) -> tuple[dict[str, Any], Outputs]:
        """What the caller gets, by name, and the same memory as a backend fills it; `output` is the output's dtype."""
        queries, keys = problem.query.shape[2], problem.key.shape[2]
        found: dict[str, Any] = {}
        found["output"], out = problem.new(queries, problem.value.shape[3], dtype=output)
        outputs = Outputs(out)
        if lse:
            found["lse"], outputs.lse = problem.new(queries)
        for name in self.rows:
            found[name], data = problem.new(queries)
            setattr(outputs, name, data)
        if self.top_k:
            indices, outputs.top_indices = problem.new(queries, self.top_k, dtype="int64")
            weights, outputs.top_weights = problem.new(queries, self.top_k)
            found["top_k"] = TopK(indices, weights)
        if self.received:
            found["received"], outputs.received = problem.new(keys)
        block = check_block(self.block_map, queries, keys)
        if block is not None:
            outputs.block = block
            found["block_map"], outputs.block_map = problem.new(-(-queries // block[0]), -(-keys // block[1]))
        return found, outputs


def check_block(block: object, queries: int, keys: int) -> tuple[int, int] | None:
    """The rows and columns of a block of the map, no more than there are; None for no map."""
    if block == "auto":
        return max(1, -(-queries // AUTO_BLOCKS)), max(1, -(-keys // AUTO_BLOCKS))
    if isinstance(block, int | np.integer) and not isinstance(block, bool) and block >= 0:
        if block == 0:
            return None
        block = (block, block)
    if isinstance(block, tuple | list) and len(block) == 2:
        rows, columns = (check_count(size, "block_map", 1) for size in block)
        return min(rows, max(queries, 1)), min(columns, max(keys, 1))
    raise ArgumentError(
        f'block_map: expected a block size, a pair (queries, keys), "auto", or 0 for none, got {describe(block)}'
    )


def field_line(name: str, value: Any) -> str:
    """One line of a repr: a name, and what is there."""
    if isinstance(value, TopK):
        return f"  {name:<10} indices {describe(value.indices)}, weights {describe(value.weights)}"
    return f"  {name:<10} {describe(value)}"

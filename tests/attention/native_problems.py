"""Random problems at the level of a backend: arrays of four axes, a plan, and everything that can be asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from qkv.attention._arrays import widen
from qkv.attention._backends import DType, Outputs
from qkv.attention._backends import _native as native
from qkv.attention._backends import _numpy as reference
from qkv.attention._plan import Plan

STATISTICS = ("lse", "entropy", "max_score", "distance", "top_weights", "received", "block_map")
BY_QUERY = ("output", "lse", "entropy", "max_score", "distance", "top_indices", "top_weights")


@dataclass
class Problem:
    """What a backend is given; `sums` asks for the statistics over queries too."""

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    plan: Plan
    dtype: DType
    top_k: int = 3
    block: tuple[int, int] = (5, 7)
    sums: bool = True
    plain: bool = False  # output, lse and max_score alone, which the kernel computes in a shorter way

    def outputs(self, dtype: DType | None = None) -> Outputs:
        """Allocated, and full of what must be overwritten."""
        dtype = dtype or self.dtype
        real = "float64" if dtype == "float64" else "float32"
        batch, heads, queries, _ = self.query.shape
        keys, value_dim = self.value.shape[2:]

        def fresh(*shape: int) -> np.ndarray:
            return np.full((batch, heads, *shape), 7, real)

        stored = np.dtype({"bfloat16": "uint16"}.get(dtype, dtype))
        output = np.full((batch, heads, queries, value_dim), 7, stored)
        if self.plain:
            return Outputs(output, lse=fresh(queries), max_score=fresh(queries))
        return Outputs(
            output,
            *(fresh(queries) for _ in range(4)),
            top_indices=np.full((batch, heads, queries, self.top_k), 7, np.int64),
            top_weights=fresh(queries, self.top_k),
            received=fresh(keys) if self.sums else None,
            block_map=fresh(-(-queries // self.block[0]), -(-keys // self.block[1])) if self.sums else None,
            block=self.block,
        )

    def computed(self) -> Outputs:
        """By the compiled kernel."""
        outputs = self.outputs()
        native.attend(self.query, self.key, self.value, self.plan, outputs, dtype=self.dtype)
        return outputs

    def expected(self) -> Outputs:
        """By the NumPy backend, in float64."""
        outputs = self.outputs("float64")
        arrays = (np.asarray(widen(array, self.dtype), "float64") for array in (self.query, self.key, self.value))
        with np.errstate(all="ignore"):
            reference.attend(*arrays, double(self.plan), outputs, dtype="float64")
        return outputs


def double(plan: Plan) -> Plan:
    """The same plan with its floating-point values in float64."""
    bias: Any = tuple((term[0], np.asarray(term[1], "float64"), *term[2:]) for term in plan.bias)
    return replace(plan, bias=bias, sink=None if plan.sink is None else plan.sink.astype("float64"))


def stored(array: np.ndarray, dtype: DType) -> np.ndarray:
    """In that dtype: bfloat16 is cut off and kept as uint16, as everywhere below torch."""
    if dtype == "bfloat16":
        return (array.astype("float32").view(np.uint32) >> 16).astype(np.uint16)
    return array.astype(dtype)


def simple(
    batch: int = 1,
    heads: int = 1,
    queries: int = 40,
    keys: int = 40,
    dim: int = 16,
    *,
    causal: bool = False,
    dtype: DType = "float32",
    seed: int = 0,
    **plan: Any,
) -> Problem:
    """Random arrays, every key or the past."""
    rng = np.random.default_rng(seed)
    query, key, value = (stored(rng.normal(size=(batch, heads, n, dim)), dtype) for n in (queries, keys, keys))
    row = np.arange(queries, dtype=np.int32)[None]
    stop = np.clip(row + 1 + keys - queries, 0, keys) if causal else np.full_like(row, keys)
    plan = {"scale": dim**-0.5, "offset": keys - queries, **plan}
    return Problem(query, key, value, Plan(np.zeros_like(row), stop.astype(np.int32), **plan), dtype)


@st.composite
def problems(draw: st.DrawFn, dtypes: tuple[DType, ...]) -> Problem:
    """Any problem: lengths across the kernel's blocks, any strides, bounds, programs, biases, sinks."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from(dtypes))
    batch, key_heads, group = (draw(st.integers(1, 2)) for _ in range(3))
    heads = key_heads * group
    queries = draw(st.sampled_from([1, 2, 15, 31, 33, 70, 200]))
    keys = draw(st.sampled_from([1, 3, 20, 127, 129, 300]))
    dim, value_dim = draw(st.sampled_from([1, 7, 16, 65, 512])), draw(st.sampled_from([0, 1, 13, 64]))
    real = np.float64 if dtype == "float64" else np.float32

    def random(count: int, length: int, width: int) -> np.ndarray:
        halves = stored(rng.normal(size=(batch, count, length, width)), dtype)
        match draw(st.sampled_from(["plain", "transposed", "reversed", "shared"])):
            case "transposed":
                return np.ascontiguousarray(halves.swapaxes(1, 2)).swapaxes(1, 2)
            case "reversed":
                return halves[:, ::-1, ::-1]
            case "shared":
                return np.broadcast_to(halves[:1], halves.shape)
        return halves

    scores = (batch, heads, queries, keys)
    row = np.arange(queries, dtype=np.int32)[None]
    match draw(st.sampled_from(["all", "causal", "window", "random"])):
        case "all":
            start, stop = row * 0, row * 0 + keys
        case "causal":
            start, stop = row * 0, np.clip(row + 1 + keys - queries, 0, keys)
        case "window":
            start, stop = np.clip(row - 9, 0, keys), np.clip(row + 4, 0, keys)
        case _:
            start, stop = np.sort(rng.integers(0, keys + 1, (2, batch, queries)), 0)
    program: list[Any] = []
    if draw(st.booleans()):
        shape = tuple(1 if draw(st.booleans()) else size for size in scores)
        ids = [rng.integers(0, 3, (batch, n)).astype(np.int32) for n in (queries, keys)]
        inside = np.sort(rng.integers(0, keys + 1, (2, 1, queries)), 0).astype(np.int32)
        program = [
            ("array", np.broadcast_to(rng.random(shape) < 0.7, scores)),
            ("equal", *ids),
            ("interval", *inside),
            draw(st.sampled_from([("and",), ("or",)])),
            ("not",),
            draw(st.sampled_from([("and",), ("or",)])),
        ]
    bias: list[Any] = []
    offset = draw(st.sampled_from([0, keys - queries]))
    if draw(st.booleans()):
        bias.append(("alibi", rng.random(heads).astype(real), offset))
    if draw(st.booleans()):
        bias.append(("relative", rng.normal(size=(heads, 2 * draw(st.integers(0, 40)) + 1)).astype(real), offset))
    if draw(st.booleans()):
        shape = tuple(1 if draw(st.booleans()) else size for size in scores)
        values = np.where(rng.random(shape) < 0.1, -np.inf, rng.normal(size=shape)).astype(real)
        bias.append(("array", np.broadcast_to(values, scores)))
    plan = Plan(
        start.astype(np.int32),
        stop.astype(np.int32),
        tuple(program),
        tuple(bias),
        scale=draw(st.sampled_from([dim**-0.5, -0.1, 1.0])),
        softcap=draw(st.sampled_from([0.0, 0.0, 2.0, 30.0])),
        sink=rng.normal(size=heads).astype(real) if draw(st.booleans()) else None,
        offset=offset,
    )
    arrays = random(heads, queries, dim), random(key_heads, keys, dim), random(key_heads, keys, value_dim)
    block = draw(st.sampled_from([(1, 1), (5, 7), (64, 64), (1000, 1000)]))
    top_k, sums, plain = draw(st.sampled_from([0, 1, 5, 400])), draw(st.booleans()), draw(st.booleans())
    return Problem(*arrays, plan, dtype, top_k, block, sums, plain)

"""What the tests of the array API share: random problems, and the reference in the caller's axes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from qkv import ALiBi, ArrayMask, Causal, Documents, ExceptSelf, KeyBias, Padding, RelativeBias, Window
from qkv.attention import ArrayBias, reference
from qkv.attention._biases import Sum


@dataclass
class Case:
    """Arrays and options of one call."""

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    options: dict[str, Any] = field(default_factory=dict)


def strided(draw: st.DrawFn, array: np.ndarray) -> np.ndarray:
    """The same numbers in another memory layout."""
    match draw(st.sampled_from(["plain", "transposed", "reversed", "sliced", "readonly", "unaligned", "foreign"])):
        case "transposed" if array.ndim > 2:
            return np.ascontiguousarray(array.swapaxes(-2, -3)).swapaxes(-2, -3)
        case "reversed":
            return np.ascontiguousarray(array[..., ::-1, :])[..., ::-1, :]
        case "sliced":
            wide = np.full((*array.shape[:-1], 2 * array.shape[-1] + 1), np.nan, array.dtype)
            wide[..., 1::2] = array
            return wide[..., 1::2]
        case "readonly":
            array = array.copy()
            array.flags.writeable = False
        case "unaligned" if array.size:
            memory = np.empty(array.nbytes + 1, np.uint8)
            shifted = memory[1:].view(array.dtype).reshape(array.shape)
            shifted[...] = array
            return shifted
        case "foreign" if array.dtype.kind == "f":
            return array.astype(array.dtype.newbyteorder())
    return array


@st.composite
def masks(draw: st.DrawFn, batch: tuple[int, ...], heads: int, queries: int, keys: int, depth: int = 2) -> Any:
    """Any mask for scores of this shape, combinations too."""
    align = st.sampled_from(["bottom-right", "top-left"])
    reach = st.none() | st.integers(0, max(queries, keys) + 1)
    kinds = ["causal", "window", "padding", "documents", "except", "array"]
    match draw(st.sampled_from(kinds + ["and", "or", "not"] * (depth > 0))):
        case "causal":
            return Causal(align=draw(align))
        case "window":
            return Window(draw(reach), draw(reach), align=draw(align))
        case "padding":
            shape = batch if draw(st.booleans()) else ()
            lengths = draw(_integers(shape, 0, keys))
            return Padding(lengths, side=draw(st.sampled_from(["left", "right"])))
        case "documents":
            rows = batch if draw(st.booleans()) else ()
            query_ids, key_ids = draw(_integers((*rows, queries), 0, 3)), draw(_integers((*rows, keys), 0, 3))
            if draw(st.booleans()):
                query_ids, key_ids = np.sort(query_ids), np.sort(key_ids)
            return Documents(query_ids, key_ids)
        case "except":
            return ExceptSelf(align=draw(align))
        case "array":
            return draw(_broadcastable((*batch, heads, queries, keys))) > 0
        case "and" | "or" as word:
            left, right = (_mask(draw(masks(batch, heads, queries, keys, depth - 1))) for _ in range(2))
            return left & right if word == "and" else left | right
        case _:
            return ~_mask(draw(masks(batch, heads, queries, keys, depth - 1)))


def _mask(mask: Any) -> Any:
    """A mask that combines, and that goes with either framework."""
    if isinstance(mask, np.ndarray):
        mask = ArrayMask(mask)
        mask.owner = None
    return mask


@st.composite
def biases(draw: st.DrawFn, batch: tuple[int, ...], heads: int, queries: int, keys: int) -> Any:
    """Any bias for scores of this shape."""
    align = draw(st.sampled_from(["bottom-right", "top-left"]))
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    match draw(st.sampled_from(["alibi", "relative", "key", "array", "sum"])):
        case "alibi":
            return ALiBi(rng.random(heads), align)
        case "relative":
            return RelativeBias(rng.normal(size=(heads, 2 * draw(st.integers(0, 4)) + 1)), align)
        case "key":
            return KeyBias(rng.normal(size=draw(st.sampled_from([(keys,), (heads, keys), (*batch, heads, keys)]))))
        case "array":
            values = draw(_broadcastable((*batch, heads, queries, keys)))
            return np.where(values > 1.5, -np.inf, values)
        case _:
            return ALiBi(rng.random(heads), align) + rng.normal(size=(queries, keys))


@st.composite
def _integers(draw: st.DrawFn, shape: tuple[int, ...], low: int, high: int) -> Any:
    return np.random.default_rng(draw(st.integers(0, 9999))).integers(low, high + 1, size=shape)


@st.composite
def _broadcastable(draw: st.DrawFn, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers that broadcast to `shape`: some axes 1, some leading ones missing."""
    kept = tuple(1 if draw(st.booleans()) else size for size in shape)
    kept = kept[draw(st.integers(0, len(kept) - 1)) :]
    return np.random.default_rng(draw(st.integers(0, 9999))).normal(size=kept)


@st.composite
def cases(draw: st.DrawFn, dtypes: tuple[str, ...] = ("float32", "float64"), largest: int = 9) -> Case:
    """Any call: axes, grouped heads, lengths from zero, strides, masks, biases, softcap, sinks."""
    rank = draw(st.integers(2, 5))
    batch = tuple(draw(st.lists(st.integers(1, 3), min_size=max(0, rank - 3), max_size=max(0, rank - 3))))
    key_heads = draw(st.integers(1, 3)) if rank > 2 else 1
    heads = key_heads * draw(st.integers(1, 3)) if rank > 2 else 1
    length = st.integers(0, largest) | st.integers(1, largest)
    queries, keys = draw(length), draw(length)
    dim, value_dim = draw(st.integers(1, 9)), draw(st.integers(0, 9))
    rng = np.random.default_rng(draw(st.integers(0, 9999)))

    def random(count: int, *axes: int) -> np.ndarray:
        shape = axes if rank == 2 else (*batch, count, *axes)
        array = (rng.normal(size=shape) * draw(st.sampled_from([0.5, 1.0, 4.0]))).astype(dtype)
        return strided(draw, array)

    dtype = _dtype(draw(st.sampled_from(dtypes)))
    query, key, value = random(heads, queries, dim), random(key_heads, keys, dim), random(key_heads, keys, value_dim)
    real = np.float64 if dtype == np.float64 else np.float32
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        options["mask"] = draw(masks(batch, heads, queries, keys))
    if draw(st.booleans()):
        options["bias"] = draw(biases(batch, heads, queries, keys))
    if draw(st.booleans()):
        options["scale"] = draw(st.floats(-2, 2))
    if draw(st.booleans()):
        options["softcap"] = draw(st.floats(0.5, 30))
    if draw(st.booleans()):
        options["sink"] = rng.normal(size=heads).astype(real)
    return Case(query, key, value, options)


def _dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def dtype_name(array: Any) -> str:
    """ "float32", whichever framework and byte order."""
    return getattr(array.dtype, "name", None) or str(array.dtype).removeprefix("torch.")


def float64(array: Any) -> np.ndarray:
    """Any array, of either framework, as NumPy's float64."""
    return np.asarray(array.double() if hasattr(array, "double") else array).astype(np.float64)


def reference_steps(case: Case, **more: Any) -> Any:
    """The reference of a case; 2-D input gets its head."""
    arrays = [float64(array) for array in (case.query, case.key, case.value)]
    lifted = [array[None] if array.ndim == 2 else array for array in arrays]
    return reference.attend(*lifted, **case.options, **more)


def to_torch(case: Case, dtype: str | None = None) -> Case:
    """The same problem in torch: every bare array in it becomes a tensor, in its own memory layout where torch can."""
    import torch

    def tensor(array: Any) -> Any:
        if isinstance(array, ArrayBias):
            return tensor(array.values)
        if isinstance(array, np.ndarray):
            usable = array.flags.aligned and array.dtype.isnative and min(array.strides, default=0) >= 0
            return torch.from_numpy(
                array if usable and array.flags.writeable else np.array(array, array.dtype, order="C")
            )
        return array

    arrays = [tensor(array.astype(array.dtype.newbyteorder("="))) for array in (case.query, case.key, case.value)]
    if dtype is not None:
        arrays = [array.to(getattr(torch, dtype)) for array in arrays]
    options = {name: tensor(value) for name, value in case.options.items()}
    if isinstance(options.get("bias"), Sum):
        options["bias"] = options["bias"].left + tensor(options["bias"].right)
    return Case(*arrays, options)


def magnitude(case: Case, steps: Any) -> float:
    """How large scores are: float32 knows a score to eps times this, and a weight relatively so."""
    largest = [np.abs(values[np.isfinite(values)]).max(initial=0) for values in (steps.scaled, steps.biased)]
    return 1 + max(largest) + np.abs(float64(case.options.get("sink", np.zeros(1)))).max(initial=0)


def slack(case: Case, steps: Any) -> float:
    """The error that a weight may have, in units of 1: a few roundings of its score."""
    double = dtype_name(case.query) == "float64"
    return 8 * float(np.finfo(np.float64 if double else np.float32).eps) * magnitude(case, steps)


def assert_close(found: Any, expected: np.ndarray, tolerance: float, name: str) -> None:
    """Shapes and values agree; infinities where they are expected."""
    values = float64(found)
    assert values.shape == expected.shape, f"{name}: shape {values.shape}, expected {expected.shape}"
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(values[~finite], expected[~finite], err_msg=name)
    worst = np.abs(values - np.where(finite, expected, 0))[finite].max(initial=0)
    assert worst <= tolerance, f"{name}: off by {worst:.3g}, allowed {tolerance:.3g}"

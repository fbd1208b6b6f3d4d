"""The compiled backward pass, against the one in NumPy in float64."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_problems import Problem, double, problems, simple

from qkv.attention._arrays import narrow, widen
from qkv.attention._backends import DType, Gradients, Outputs, _native, _numpy
from qkv.attention._backends._native_gradients import backward as native
from qkv.attention._backends._numpy_gradients import backward as reference


def allocated(problem: Problem, dtype: DType) -> Gradients:
    """Full of what must be overwritten."""
    real = np.float64 if dtype == "float64" else np.float32
    stored = np.dtype({"bfloat16": "uint16"}.get(dtype, dtype))
    plan = problem.plan

    def term(kind: str, array: np.ndarray) -> np.ndarray:
        axes = zip(array.shape, array.strides, strict=True)
        shape = [1 if kind == "array" and stride == 0 else size for size, stride in axes]
        return np.full(shape, 7, real)

    bias = tuple(term(entry[0], entry[1]) for entry in plan.bias)
    sink = None if plan.sink is None else np.full(plan.sink.shape, 7, real)
    arrays = (np.full(array.shape, 7, stored) for array in (problem.query, problem.key, problem.value))
    return Gradients(*arrays, bias, sink)


def given_gradients(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    stored = np.dtype({"bfloat16": "uint16"}.get(problem.dtype, problem.dtype))
    output = np.empty((*problem.query.shape[:3], problem.value.shape[3]), stored)
    narrow(rng.normal(size=output.shape).astype(np.float32), output, problem.dtype)
    real = np.float64 if problem.dtype == "float64" else np.float32
    return output, rng.normal(size=problem.query.shape[:3]).astype(real)


def both(problem: Problem, *, grads: tuple[np.ndarray, np.ndarray | None] | None = None) -> tuple[Gradients, Gradients]:
    """By the compiled backward pass, and by NumPy in float64, from the same results of a forward pass, rounded."""
    grad_output, grad_lse = grads or given_gradients(problem)
    arrays = problem.query, problem.key, problem.value
    wide = [np.asarray(widen(array, problem.dtype), np.float64) for array in arrays]
    exact = Outputs(np.empty(grad_output.shape), np.empty(grad_output.shape[:3]))
    plan = double(problem.plan)
    with np.errstate(all="ignore"):
        _numpy.attend(*wide, plan, exact, dtype="float64")
    assert exact.output is not None
    assert exact.lse is not None
    output = np.empty(grad_output.shape, grad_output.dtype)
    narrow(exact.output if problem.dtype == "float64" else exact.output.astype(np.float32), output, problem.dtype)
    lse = exact.lse.astype(np.float64 if problem.dtype == "float64" else np.float32)
    found = allocated(problem, problem.dtype)
    native(*arrays, output, lse, grad_output, grad_lse, problem.plan, found, dtype=problem.dtype)
    expected = allocated(problem, "float64")
    wide_grad = np.asarray(widen(grad_output, problem.dtype), np.float64)
    wide_output = np.asarray(widen(output, problem.dtype), np.float64)
    wide_lse = None if grad_lse is None else grad_lse.astype(np.float64)
    with np.errstate(all="ignore"):
        reference(*wide, wide_output, lse.astype(np.float64), wide_grad, wide_lse, plan, expected, dtype="float64")
    return found, expected


def listed(gradients: Gradients, dtype: DType) -> list[np.ndarray]:
    arrays = [np.asarray(widen(a, dtype), np.float64) for a in (gradients.query, gradients.key, gradients.value)]
    return arrays + [np.asarray(a, np.float64) for a in (*gradients.bias, gradients.sink) if a is not None]


TOLERANCE = {"float64": 1e-11, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}


def assert_close(problem: Problem, found: Gradients, expected: Gradients) -> None:
    """Relative to the largest number, and to the largest score: exp makes its rounding a weight's relative error."""
    query, key = (np.asarray(widen(array, problem.dtype), np.float64) for array in (problem.query, problem.key))
    key = np.repeat(key, query.shape[1] // key.shape[1], axis=1)
    largest = abs(problem.plan.scale) * np.abs(query @ key.swapaxes(-1, -2)).max()
    for got, true in zip(listed(found, problem.dtype), listed(expected, "float64"), strict=True):
        size = np.abs(true).max(initial=1.0) * max(1.0, largest / 8)
        np.testing.assert_allclose(got, true, rtol=0, atol=TOLERANCE[problem.dtype] * size)


DTYPES: tuple[DType, ...] = ("float32", "float64", "float16", "bfloat16")


@given(problems(DTYPES), st.sampled_from([0.0, 0.0, 0.3]), st.sampled_from([1, 2, 7]))
def test_against_numpy(problem: Problem, dropout: float, threads: int) -> None:
    problem.plan = replace(problem.plan, dropout=dropout, seed=2**40 + 3)
    with mock.patch.dict(os.environ, QKV_THREADS=str(threads)):
        found, expected = both(problem)
    assert_close(problem, found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
def test_long(dtype: DType, causal: bool) -> None:
    """Several spans of keys, and parts of queries."""
    problem = simple(1, 2, 1500, 2300, 64, causal=causal, dtype=dtype)
    assert_close(problem, *both(problem))


@pytest.mark.parametrize("isa", [name for name in _native.isas() if name != _native.isa()])
def test_other_instruction_sets(isa: str) -> None:
    """The tests of this file and those against the reference, in a process that is told to use another kernel."""
    reference = os.path.join(os.path.dirname(__file__), "test_reference_gradients.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "against_numpy or long or nan"]
    environment = {**os.environ, "QKV_ISA": isa, "OMP_NUM_THREADS": "1"}
    told = subprocess.run([*command, __file__, reference], env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout[-3000:]


MEMORY = """
import os, resource, sys; sys.path.insert(0, {tests!r})
import numpy as np
from dataclasses import replace
from native_problems import simple
from test_native_gradients import allocated, native
problem = simple(1, {heads}, 32768, 32768, {dim}, dtype={dtype!r})
row = np.arange(32768, dtype=np.int32)[None]
problem.plan = replace(problem.plan, start=np.maximum(row - 9, 0), stop=row + 1)
problem.key, problem.value = problem.key[:, :{key_heads}], problem.value[:, :{key_heads}]
if {bias}:
    added = np.zeros((1, 1, 1, 32768), {real!r})
    problem.plan = replace(problem.plan, bias=(("array", np.broadcast_to(added, (1, {heads}, 32768, 32768))),))
output, lse = np.ones_like(problem.query), np.ones(problem.query.shape[:3], {real!r})
found = allocated(problem, {dtype!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
native(problem.query, problem.key, problem.value, output, lse, output, None, problem.plan, found, dtype={dtype!r})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("heads", "key_heads", "dim", "dtype", "bias"),
    [
        (2, 2, 64, "float32", False),
        (2, 2, 128, "float32", False),
        (2, 2, 128, "bfloat16", False),
        (1, 1, 256, "float64", False),
        (8, 1, 64, "float32", False),
        (8, 1, 64, "float32", True),  # all heads and queries add to one gradient: one task
    ],
)
def test_memory_of_a_thread_is_bounded(
    heads: int, key_heads: int, dim: int, dtype: DType, bias: bool, threads: int
) -> None:
    """32,768 x 32,768 weights would be 4 GiB a head; 32 MiB a thread beyond inputs and outputs."""
    names = {"heads": heads, "key_heads": key_heads, "dim": dim, "dtype": dtype, "bias": bias}
    real = "float64" if dtype == "float64" else "float32"
    code = MEMORY.format(tests=os.path.dirname(__file__), real=real, **names)
    environment = {**os.environ, "QKV_THREADS": str(threads)}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(told.stdout) < threads * 32 * 1024  # kilobytes


def bits(gradients: Gradients) -> list[bytes]:
    return [
        a.tobytes()
        for a in (gradients.query, gradients.key, gradients.value, *gradients.bias, gradients.sink)
        if a is not None
    ]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_threads_change_no_bit(dtype: DType) -> None:
    """The tasks of one thread and of many are different ones: fused, and apart."""
    problem = simple(1, 2, 700, 900, 64, causal=True, dtype=dtype, sink=np.ones(2, np.float32))
    table = np.random.default_rng(0).normal(size=(2, 101)).astype(np.float32)
    added = np.random.default_rng(1).normal(size=(1, 1, 700, 900)).astype(np.float32)
    slopes = np.ones(2, np.float32)
    for bias in (
        (("alibi", slopes, 200), ("relative", table, 200)),
        (("array", np.broadcast_to(added, (1, 2, 700, 900))),),
        (("array", np.broadcast_to(added[:, :, :1], (1, 2, 700, 900))),),
    ):
        problem.plan = replace(problem.plan, bias=bias)
        found = []
        for threads in (1, 2, 3, 16):
            with mock.patch.dict(os.environ, QKV_THREADS=str(threads)):
                found.append(bits(both(problem)[0]))
        assert all(each == found[0] for each in found)


def test_a_row_does_not_depend_on_its_batch() -> None:
    whole = simple(3, 2, 70, 150, 16, causal=True)
    alone = replace(whole, query=whole.query[1:2], key=whole.key[1:2], value=whole.value[1:2])
    grad, lse = given_gradients(whole)
    many, one = both(whole)[0], both(alone, grads=(grad[1:2].copy(), lse[1:2].copy()))[0]
    for name in ("query", "key", "value"):
        np.testing.assert_array_equal(getattr(many, name)[1:2], getattr(one, name))


@pytest.mark.parametrize("softcap", [0.0, 5.0])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_masked_has_no_part(dtype: DType, softcap: float) -> None:
    problem = simple(1, 1, 40, 60, 16, dtype=dtype, softcap=softcap)
    stop = np.full((1, 40), 30, np.int32)
    stop[0, 7] = 0
    problem.plan = replace(problem.plan, stop=stop)
    plain = both(problem)[0]
    poison = 0x7FC0 if dtype == "bfloat16" else np.nan
    problem.key[:, :, 30:] = poison
    problem.value[:, :, 30:] = poison
    problem.query[:, :, 7] = poison
    poisoned = both(problem)[0]
    for name in ("query", "key", "value"):
        np.testing.assert_array_equal(getattr(poisoned, name), getattr(plain, name))
    assert not plain.key[:, :, 30:].any()
    assert not plain.query[:, :, 7].any()


def test_a_nan_reaches_only_what_meets_it() -> None:
    problem = simple(1, 1, 200, 200, 16, causal=True)
    grad, _ = given_gradients(problem)
    grad[:, :, 100] = np.nan
    found = both(problem, grads=(grad, None))[0]
    assert np.isnan(found.query[0, 0, 100]).all()
    assert np.isfinite(np.delete(found.query[0, 0], 100, 0)).all()
    assert np.isnan(found.value[0, 0, :101]).all()
    assert np.isfinite(found.value[0, 0, 101:]).all()
    assert np.isfinite(found.key[0, 0, 101:]).all()


def test_messages() -> None:
    problem = simple()
    grad, lse = given_gradients(problem)
    found: Any = allocated(problem, "float32")
    found.key = found.key[..., :3]
    with pytest.raises(ValueError, match="grad_key: expected a contiguous gradient"):
        native(problem.query, problem.key, problem.value, grad, lse, grad, None, problem.plan, found, dtype="float32")

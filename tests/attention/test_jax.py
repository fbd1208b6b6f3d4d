"""JAX arrays go in and come out, without a copy, and what cannot be done with them says so."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

import qkv

numbers = jax.numpy


@pytest.fixture
def arrays() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal(shape).astype(np.float32) for shape in ((2, 4, 7, 8), (2, 2, 9, 8), (2, 2, 9, 5))]


EVERYTHING: dict[str, Any] = {"entropy": True, "max_score": True, "top_k": 3, "received": True, "block_map": 4}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_numpy_gives_as_jax_arrays(arrays: list[np.ndarray], dtype: str) -> None:
    given = [numbers.asarray(array, dtype=dtype) for array in arrays]
    same = [np.asarray(array) for array in given]
    options: dict[str, Any] = {"mask": qkv.Causal(), "scale": 0.3, "softcap": 2.0}
    found, want = qkv.observe(*given, **options, **EVERYTHING), qkv.observe(*same, **options, **EVERYTHING)
    for name in ("output", "lse", "entropy", "max_score", "received", "block_map"):
        one, other = getattr(found, name), getattr(want, name)
        assert isinstance(one, jax.Array)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(np.asarray(one), other)
    np.testing.assert_array_equal(np.asarray(found.top_k.indices), want.top_k.indices)
    np.testing.assert_array_equal(np.asarray(qkv.attend(*given, **options)), want.output)
    window = qkv.weights(*given[:2], lse=found.lse, rows=slice(2, 5), **options)
    assert isinstance(window, jax.Array)
    np.testing.assert_array_equal(np.asarray(window), qkv.weights(*same[:2], lse=want.lse, rows=slice(2, 5), **options))


def test_masks_biases_and_sinks_of_jax(arrays: list[np.ndarray]) -> None:
    generator = np.random.default_rng(1)
    allowed, dense = generator.random((7, 9)) > 0.3, generator.standard_normal((4, 7, 9)).astype(np.float32)
    table, per_key, sink = (generator.standard_normal(shape).astype(np.float32) for shape in ((4, 5), (9,), (4,)))

    def result(of: Any) -> Any:
        bias = qkv.RelativeBias(of(table)) + qkv.KeyBias(of(per_key)) + of(dense)
        mask = qkv.Padding(of(np.array([9, 6]))) & of(allowed)
        return qkv.attend(*map(of, arrays), mask=mask, bias=bias, sink=of(sink))

    np.testing.assert_array_equal(np.asarray(result(numbers.asarray)), result(np.asarray))


def test_memory_is_shared() -> None:
    from qkv.attention._arrays import view

    for dtype in ("float32", "bfloat16"):
        array = numbers.ones((64, 64), dtype=dtype)
        assert view(array, "query", devices=True).data.ctypes.data == array.unsafe_buffer_pointer()


def test_float64_where_jax_allows_it(arrays: list[np.ndarray]) -> None:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        given = [numbers.asarray(array, dtype="float64") for array in arrays]
        seen = qkv.observe(*given, top_k=1)
    finally:
        jax.config.update("jax_enable_x64", before)
    assert (seen.output.dtype, seen.lse.dtype, seen.top_k.indices.dtype) == ("float64", "float64", "int64")


@pytest.mark.parametrize("transform", [jax.jit, lambda f: jax.grad(lambda x: f(x).sum()), jax.vmap])
def test_inside_of_a_transformation(transform: Any) -> None:
    with pytest.raises(qkv.ArgumentError) as caught:
        transform(lambda x: qkv.attend(x, x, x))(numbers.ones((2, 3, 4)))
    assert str(caught.value) == (
        "query: expected a JAX array with values, got one that is being traced (jit, grad, vmap); qkv has no gradients "
        "and no compilation for JAX: call it outside, leading axes are batch axes"
    )


def test_what_does_not_fit() -> None:
    x, same = numbers.ones((3, 4)), np.ones((3, 4), np.float32)
    for arguments, options, message in [
        ((x, same, same), {}, "key: expected a JAX array like the query, got a NumPy array"),
        ((same, x, x), {}, "key: expected a NumPy array like the query, got a JAX array"),
        ((x, x, x), {"mask": qkv.Causal() & np.ones((3, 3), bool)}, "mask: expected a JAX array like the query"),
        ((x, x, x), {"sink": np.zeros(1, np.float32)}, "sink: expected a JAX array like the query, got a NumPy array"),
        ((numbers.ones((3, 4), int),) * 3, {}, "query: expected float16, bfloat16, float32 or float64, got int32"),
    ]:
        with pytest.raises(qkv.ArgumentError) as caught:
            qkv.attend(*arguments, **options)
        assert str(caught.value).startswith(message)
    with pytest.raises(qkv.ArgumentError, match="got a JAX array, which attend, observe and weights alone take"):
        qkv.steps(x, x, x)


def test_on_two_devices() -> None:
    code = (
        "import jax, qkv; from jax.sharding import Mesh, NamedSharding, PartitionSpec as P;"
        "mesh = Mesh(jax.devices(), ('heads',)); x = jax.numpy.ones((2, 3, 4));"
        "x = jax.device_put(x, NamedSharding(mesh, P('heads'))); qkv.attend(x, x, x)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
    )
    assert "query: expected a JAX array on the CPU, got one on " in told.stderr
    assert "move it with jax.device_put" in told.stderr
